/* A node in a directory of its own for each test. */
#ifndef TESTS_SIM_HELPERS_H
#define TESTS_SIM_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim/state.h"

struct world {
	char dir[128];
	struct sim_node *owner; /* created the node */
	struct sim_node *node;  /* joined it */
};

/* cmocka fixtures: *state is a struct world with two A100-40GB. */
int world_begin(void **state);
int world_end(void **state);

/* A model's position; fails the test when there is none. */
uint32_t model_index(const char *spec_name);

/* The next of a repeatable series of numbers. */
uint64_t next_random(uint64_t *seed);

/* Runs `work` in a child process that is then killed with SIGKILL; returns when it is gone. `work` must return. */
void in_killed_child(void (*work)(struct world *world), struct world *world);

#endif
