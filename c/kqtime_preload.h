/*
 * What the preload library offers to libkqtime and to the Bun API: joining a session after the
 * start of the program, and asking the session's collector for something. Its functions are found
 * with dlsym, since a program that is not measured runs without the library.
 *
 * All are safe to call from any thread. None but kq_preload_ask keeps a descriptor open.
 */
#ifndef KQTIME_PRELOAD_H
#define KQTIME_PRELOAD_H

#include <stdint.h>

#include "kqtime_shm.h"

/* Changes with every change of the functions below or of kqtime_shm.h. */
#define KQ_PRELOAD_VERSION KQ_VERSION
#ifdef __cplusplus
extern "C" {
#endif

uint32_t kq_preload_version(void);

/* 1 if this process has a ring that a collector reads (or read, if it died since), else 0. */
int kq_preload_attached(void);

/* Joins the session whose socket is at `path` (KQ_ENV_SOCKET, KQ_ENV_TOKEN, KQ_ENV_SLOTS).
   Sockets that are open already are adopted at once. 0, or an errno: EEXIST if the process has a
   session, EPERM in a sandbox. */
int kq_preload_join(const char *path, const char *token, uint32_t slots);

/* Stops recording: every hook costs a branch again. */
void kq_preload_leave(void);

/* Sends a kq_message of `type` with `fd` (-1: none, stays the caller's) and waits for the reply,
   for `timeout_ms` at the most. 0, or an errno (ETIMEDOUT, ECONNREFUSED, …); on 0 `reply` is
   filled, its text NUL-terminated. */
int kq_preload_request(uint32_t type, uint32_t handle, uint32_t flags, int fd, const char *text,
                       struct kq_reply *reply, int timeout_ms);

/* The same without a wait, for a program that has an event loop: ask gives a connection (or an
   errno, EAGAIN while the collector's backlog is full), and answer looks whether the reply is
   there: EAGAIN if it is not; at 0, and at every other errno, the connection is closed. Who gives
   up waiting closes it. */
int kq_preload_ask(uint32_t type, uint32_t handle, uint32_t flags, int fd, const char *text,
                   int *connection);
int kq_preload_answer(int connection, struct kq_reply *reply);

/* Measures the socket `fd` for `handle` from now on; a connection that is not made yet from its
   first byte. `name` is copied, NULL for none. 0, or an errno: EBADF, ENOTSOCK, EPROTONOSUPPORT,
   ENOBUFS if the ring stayed full. */
int kq_preload_register(uint32_t handle, int fd, const char *name);
int kq_preload_deregister(uint32_t handle, int fd);

#ifdef __cplusplus
}
#endif
#endif
