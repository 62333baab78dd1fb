/* "Did you mean": the candidate closest to what was typed. */
#ifndef GPUSHARE_BASE_SUGGEST_H
#define GPUSHARE_BASE_SUGGEST_H

#include <stddef.h>

/* The candidate within a small edit distance (a third of its length, letter case free), or NULL.
 * Ties go to the earlier candidate. The result points into `candidates`. */
const char *gs_suggest(const char *typed, const char *const *candidates, size_t count);

#endif
