/* A simulated node for tests of the CUDA library. A process can initialise the library once, so each case that uses it
 * runs in a process of its own. */
#ifndef GPUSHARE_TESTS_SIM_CUDA_NODE_H
#define GPUSHARE_TESTS_SIM_CUDA_NODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "gpushare/cuda.h"
#include "sim/models.h"
#include "sim/state.h"

extern struct sim_node *test_node;

/* cmocka setup and teardown: a node of two A100-80GB and one T4 in a directory of its own, in $GPUSHARE_SIM. */
int test_make_node(void **state);
int test_remove_node(void **state);
/* Runs `body` in a child; fails the test unless every CHECK in it held. */
void test_in_process(void (*body)(void));
/* Starts `body` in a child; test_join waits for it and checks that all went well there. */
pid_t test_start(void (*body)(void));
void test_join(pid_t child);

/* In a child: says what is wrong and ends it. */
#define CHECK(condition)                                                                              \
	do {                                                                                          \
		if (!(condition)) {                                                                   \
			fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                                     \
		}                                                                                     \
	} while (0)
/* In a child: a call that must answer `code`. */
#define EXPECT(code, call)                                                                             \
	do {                                                                                           \
		int expect_got = (int)(call);                                                          \
		if (expect_got != (int)(code)) {                                                       \
			fprintf(stderr, "%s:%d: %s gave %d\n", __FILE__, __LINE__, #call, expect_got); \
			_exit(1);                                                                      \
		}                                                                                      \
	} while (0)
#define OK(call) EXPECT(CUDA_SUCCESS, call)

/* Initialises the library and makes a context on device 0. */
CUcontext test_context(void);
/* PTX of gpushare_spin(u64), of work(u64, u32), and of a variable `table` of 64 bytes. */
extern const char test_ptx[];

#endif
