/* Messages of a debug build (KQTIME_DEBUG=1 tools/build-native.sh), on stderr. */
#ifndef KQ_DEBUG_H
#define KQ_DEBUG_H

#ifdef KQTIME_DEBUG
void kq_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
#else
#define kq_debug(...) ((void)0)
#endif

#endif
