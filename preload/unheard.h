/* What a process leaves behind that starts, and cannot reach the collector. */
#ifndef KQ_UNHEARD_H
#define KQ_UNHEARD_H

#include <stdbool.h>

/* Whether words of others wait: the collector has not read for a while. */
bool kq_unheard_others(void);

/* This process is not measured. Never blocks. */
void kq_unheard_tell(void);

#endif
