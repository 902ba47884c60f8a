/* A fixture's scenarios, of which each run plays the one that its first argument names. */
#ifndef KQ_TEST_SCENARIOS_H
#define KQ_TEST_SCENARIOS_H

#include <stddef.h>
#include <string.h>

struct scenario {
  const char *name;
  void (*run)(void);
};

/* The exit code: 2 if there is none of that name. */
static inline int run_scenario(const struct scenario *scenarios, size_t scenario_count, int count,
                               char **arguments) {
  for (size_t index = 0; index < scenario_count; index++) {
    if (count > 1 && strcmp(scenarios[index].name, arguments[1]) == 0) {
      scenarios[index].run();
      return 0;
    }
  }
  return 2;
}

#define RUN_SCENARIO(scenarios, count, arguments)                                              \
  run_scenario(scenarios, sizeof(scenarios) / sizeof *(scenarios), count, arguments)

#endif
