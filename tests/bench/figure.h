/* How measurements are printed: each beside its target, which is not asserted. */
#ifndef GPUSHARE_TESTS_BENCH_FIGURE_H
#define GPUSHARE_TESTS_BENCH_FIGURE_H

#include <stdio.h>
#include <time.h>

/* Seconds, CLOCK_MONOTONIC. */
static inline double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static inline void row(const char *name, double value, const char *unit, double target, const char *note)
{
	printf("%-46s %9.2f %-3s  target %8.2f %-3s  %s%s%s\n", name, value, unit, target, unit,
	       value <= target ? "met" : "MISSED", *note ? "; " : "", note);
	fflush(stdout);
}

#endif
