/*
 * libkqtime: how long the bytes of chosen sockets wait in this host's kernel.
 *
 *     KQTime *kqtime = kqtime_new("kqtime.log.gz", 1, 1, 1);
 *     kqtime_register(kqtime, fd, "relay 7");
 *     …
 *     kqtime_deregister(kqtime, fd);
 *     close(fd);
 *     …
 *     kqtime_free(kqtime);
 *
 * Link with -lkqtime (or what `pkg-config --cflags --libs kqtime` says) and start the program with
 * LD_PRELOAD=…/libkqtime-preload.so, as root or with CAP_NET_RAW. Without them kqtime_new gives
 * NULL, which all other functions accept, and the program runs unmeasured.
 *
 * All functions may be called from any thread at any time, but not from signal handlers, nor in a
 * child of vfork. In a sandbox of seccomp, call kqtime_new before it closes.
 */
#ifndef KQTIME_H
#define KQTIME_H

#ifdef __cplusplus
extern "C" {
#endif

/* A measurement with a log of its own. */
typedef struct KQTime_ KQTime;

/*
 * Begins a measurement. Nothing is measured before a socket is registered.
 *
 * logFilePath     The log: appended to, made with mode 0600; compressed if it ends in ".gz". It is
 *                 opened here, with the rights of the program; a symbolic link is not followed.
 *                 Its lines are those of `kqtime run --log`, times in Unix seconds with nine
 *                 decimals.
 * logBufferStats  Not 0: each second a line of the lengths of the registered sockets' queues
 *                 (KQTIME-STATS).
 * logInTimes      Not 0: a line for each call by which bytes arrived (KQTIME-IN).
 * logOutTimes     Not 0: a line for each call by which bytes left (KQTIME-OUT).
 *
 * Under `kqtime run` the collector that runs already takes the measurement, and in a forked child
 * that of its parent. Otherwise one is started as a process of its own, which this process's wait()
 * does not see (where it is an init or a subreaper: nor the process between them, without __WALL),
 * which holds none of its descriptors, and which ends with the last measurement or with the
 * program: the one that the environment's KQTIME_COLLECTOR names, else ../bin/kqtime beside the
 * library's folder, else kqtime in PATH.
 *
 * Returns when packets are really being captured, within a second; or NULL, with one line on
 * stderr, if they cannot be: the path is NULL or cannot be written, the preload library is
 * missing, no collector is found, it may not capture, or was not ready in time because many are
 * being started. Call it before chroot. Free the result with kqtime_free.
 */
KQTime *kqtime_new(const char *logFilePath, int logBufferStats, int logInTimes, int logOutTimes);

/*
 * The same with the device to capture on (NULL: any) and a filter as in pcap-filter(7) (NULL:
 * "tcp and not port 22"). They count when this call starts the capture; one that is on already
 * keeps its own.
 */
KQTime *kqtime_new_full(const char *logFilePath, int logBufferStats, int logInTimes,
                        int logOutTimes, const char *pcapSource, const char *pcapFilter);

/*
 * Ends a measurement: what was called and is still in the kernel is waited for, up to a second,
 * and the log is complete and closed when this returns. On an idle link it takes less than a
 * second, and in no case more than ten. The handle is not to be used any more.
 *
 * A collector that stands still, or cannot be reached after a chroot, completes the log when it
 * goes on, or when the program ends; a line on stderr says so. A program that exits without
 * kqtime_free, or is killed, leaves a valid log too. In a forked child the handle of a parent that
 * lives is only forgotten: the measurement is the parent's.
 */
void kqtime_free(KQTime *kqtime);

/*
 * Measures a TCP socket from its next call on; one that is not connected yet from its first byte.
 * Its calls are exact in mid-stream too. `name` is copied: up to 255 bytes, any of them (what
 * would break a line of the log is replaced there); NULL is printed as NULL. Registering again
 * replaces the name. Closing the descriptor ends it: its number must be registered anew for
 * another socket.
 *
 * fd < 1 and what is no TCP socket is ignored. While the collector is behind this may wait, for
 * a tenth of a second at the most for each 16 bytes of the name; for one that does not move, once.
 */
void kqtime_register(KQTime *kqtime, int fd, const char *name);

/* Measures the socket no more from its next call on. Does nothing for one that is not registered. */
void kqtime_deregister(KQTime *kqtime, int fd);

#ifdef __cplusplus
}
#endif
#endif
