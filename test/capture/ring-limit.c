/* Preloaded into a capture: the kernel has no memory for rings above KQTEST_RING_BYTES; if KQTEST_RING_ONCE
 * is set, from when there is a file of that name. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
  static int (*real)(int, int, int, const void *, socklen_t);
  if (!real) *(void **)&real = dlsym(RTLD_NEXT, "setsockopt");
  if (level == SOL_PACKET && name == PACKET_RX_RING && value) {
    const struct tpacket_req *ring = value;
    const char *most = getenv("KQTEST_RING_BYTES");
    unsigned long bytes = (unsigned long)ring->tp_block_size * ring->tp_block_nr;
    const char *once = getenv("KQTEST_RING_ONCE");
    if (once && access(once, F_OK)) most = NULL;
    if (most && bytes > strtoul(most, NULL, 10)) {
      errno = ENOMEM;
      return -1;
    }
  }
  return real(fd, level, name, value, length);
}
