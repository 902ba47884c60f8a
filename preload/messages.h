/* The ends of message calls, shared by their hooks and the syscall() dispatcher. */
#ifndef KQ_MESSAGES_H
#define KQ_MESSAGES_H

#include <sys/socket.h>

#include "recorder.h"

void kq_end_sent_messages(struct kq_call *call, long count, const struct mmsghdr *messages);
/* Of `asked` messages `count` have come. */
void kq_end_received_messages(struct kq_call *call, unsigned asked, long count,
                              const struct mmsghdr *messages, int flags);

#endif
