/* Starting the collector's process; see spawn.c. */
#ifndef KQ_SPAWN_H
#define KQ_SPAWN_H

/*
 * Executes `path` with `status` as its descriptor 3, and nothing else of this process. 0 or an
 * errno: EXDEV if children of this process would be in another pid namespace. Where orphans come
 * back to this process, a program that cannot be executed is told through `status`.
 */
int kq_spawn(const char *path, char *const *arguments, char *const *environment, int status);

#endif
