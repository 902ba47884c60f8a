/*
 * Fixture: threads that take entries of a table in which few are free, and give them back. No two may
 * have the same. `take`; the table is the library's own, its surroundings are stubs.
 */
#define _GNU_SOURCE
#include "../../preload/table.c"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define ENTRIES 64
#define FREE 3
#define THREADS 8
#define ROUNDS 200000

static struct kq_header header = {.entry_count = ENTRIES};
static struct kq_entry entries[ENTRIES];
struct kq_header *kq_table_header = &header;
struct kq_entry *kq_table_entries = entries;

static uint32_t taken, full, twice;
static uint32_t owners[ENTRIES];

void kq_count_loss(enum kq_loss reason) {
  if (reason == KQ_LOSS_TABLE_FULL) {
    __atomic_fetch_add(&full, 1, __ATOMIC_RELAXED);
  }
}
bool kq_session_reserve(void *start, uint64_t bytes) { return start != NULL && bytes > 0; }

static void *take(void *argument) {
  for (int round = 0; round < ROUNDS; round++) {
    uint64_t word = kq_entry_take(KQ_TYPE_TCP);
    if (word != 0) {
      uint32_t *owner = &owners[kq_fd_entry(word)];
      if (__atomic_fetch_add(owner, 1, __ATOMIC_ACQ_REL) != 0) {
        __atomic_fetch_add(&twice, 1, __ATOMIC_RELAXED);
      }
      __atomic_fetch_add(&taken, 1, __ATOMIC_RELAXED);
      __atomic_fetch_sub(owner, 1, __ATOMIC_ACQ_REL);
      kq_entry_drop(word);
    }
  }
  return argument;
}

int main(void) {
  for (int index = 0; index < ENTRIES - FREE; index++) {
    if (kq_entry_take(KQ_TYPE_TCP) == 0) {
      return 1;
    }
  }
  pthread_t threads[THREADS];
  for (int index = 0; index < THREADS; index++) {
    if (pthread_create(&threads[index], NULL, take, NULL) != 0) {
      return 1;
    }
  }
  for (int index = 0; index < THREADS; index++) {
    pthread_join(threads[index], NULL);
  }
  printf("taken %u full %u twice %u\n", taken, full, twice);
  return 0;
}
