/* The log as the program opens it, with its own rights; see log_file.c. */
#ifndef KQ_LOG_FILE_H
#define KQ_LOG_FILE_H

#include <stdbool.h>
#include <stddef.h>

bool kq_log_compressed(const char *path);

/* A descriptor, or -1 with one line of text in `error`. */
int kq_log_open(const char *path, char *error, size_t error_bytes);

#endif
