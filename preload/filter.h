/*
 * The program's own seccomp filters, evaluated here as the kernel would: would this call be let
 * through? A filter is held from before it is installed; one that was not is let go.
 */
#ifndef KQ_FILTER_H
#define KQ_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>

struct kq_filter;

/* A copy of what `program` points to, the program's memory. NULL: the kernel will not take it. Where
   there is no room for one it is a filter that refuses everything. */
struct kq_filter *kq_filter_copy(const struct sock_fprog *program);
/* From here on it counts, and no longer. */
void kq_filter_hold(struct kq_filter *filter);
void kq_filter_let_go(struct kq_filter *filter);

/* Whether all that are held say SECCOMP_RET_ALLOW: a log that a profile is made from, a tracer and a
   supervisor are not to see calls of ours either. */
bool kq_filters_allow(const struct seccomp_data *call);

#endif
