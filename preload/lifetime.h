/* When measuring begins and ends in this process: at its start, or by kq_preload_join and _leave. */
#ifndef KQ_LIFETIME_H
#define KQ_LIFETIME_H

#include <stdbool.h>

/* In a forked child: a join or leave of another thread was left halfway behind. */
void kq_lifetime_forked(void);

/* Of session.c, for the start: learns of forks; makes this process the owner of its memory. */
bool kq_session_watch_forks(void);
bool kq_session_identify(void);

#endif
