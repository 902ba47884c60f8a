/* How much memory this process may still be given before the kernel kills for it. */
#ifndef KQ_HEADROOM_H
#define KQ_HEADROOM_H

#include <stdbool.h>
#include <stdint.h>

/* Of the slots that are asked for, as many as leave the program nearly all of it. */
uint32_t kq_headroom_slots(uint32_t slots);

/* Whether so many bytes may be taken. After a no it is a no for a while, which costs little. */
bool kq_headroom_allows(uint64_t bytes);

#endif
