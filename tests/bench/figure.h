/* How measurements are taken and printed: each beside its target, which is not asserted. */
#ifndef GPUSHARE_TESTS_BENCH_FIGURE_H
#define GPUSHARE_TESTS_BENCH_FIGURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

/* Seconds, CLOCK_MONOTONIC. */
static inline double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static inline int compare_figures(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* Sorts the values. */
static inline double median(double *values, size_t count)
{
	qsort(values, count, sizeof *values, compare_figures);
	return values[count / 2];
}

/* -1 when there is no such process. */
static inline double rss_mib(pid_t pid)
{
	GS_AUTO_FREE char *path = gs_printf("/proc/%d/status", (int)pid);
	size_t length;
	GS_AUTO_FREE char *text = gs_read_file(path, 65536, &length, NULL);
	const char *line = text ? strstr(text, "VmRSS:") : NULL;
	return line ? strtod(line + 6, NULL) / 1024 : -1;
}

static inline void row(const char *name, double value, const char *unit, double target, const char *note)
{
	printf("%-46s %9.2f %-3s  target %8.2f %-3s  %s%s%s\n", name, value, unit, target, unit,
	       value <= target ? "met" : "MISSED", *note ? "; " : "", note);
	fflush(stdout);
}

#endif
