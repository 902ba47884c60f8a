/* Listing a folder of /proc without the C library's, which allocates. */
#ifndef KQ_PROC_H
#define KQ_PROC_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sys.h"

/* As getdents64(2) fills the buffer. */
struct kq_directory_entry {
  uint64_t inode;
  int64_t next;
  uint16_t bytes;
  uint8_t type;
  char name[];
};

/* Calls `each` with the open folder and every name that is a number; false if there is no such
   folder. */
static inline bool kq_proc_list(const char *path, void (*each)(long folder, const char *name)) {
  long folder = KQ_SYS(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (folder < 0) {
    return false;
  }
  _Alignas(8) uint8_t buffer[4096];
  long filled;
  while ((filled = KQ_SYS(SYS_getdents64, folder, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < filled;) {
      const struct kq_directory_entry *entry = (const struct kq_directory_entry *)&buffer[at];
      if (entry->name[0] >= '0' && entry->name[0] <= '9') {
        each(folder, entry->name);
      }
      at += entry->bytes;
    }
  }
  KQ_SYS(SYS_close, folder);
  return true;
}

#endif
