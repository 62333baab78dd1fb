#include "base/suggest.h"

#include <ctype.h>
#include <string.h>

enum { WORD_LIMIT = 64 };

/* Damerau-Levenshtein (adjacent swaps count one), over words of at most WORD_LIMIT letters. */
static size_t distance(const char *left, const char *right)
{
	size_t n = strlen(left), m = strlen(right);
	size_t before[WORD_LIMIT + 1], previous[WORD_LIMIT + 1], current[WORD_LIMIT + 1];
	for (size_t j = 0; j <= m; j++)
		previous[j] = j;
	for (size_t i = 1; i <= n; i++) {
		current[0] = i;
		for (size_t j = 1; j <= m; j++) {
			int a = tolower((unsigned char)left[i - 1]), b = tolower((unsigned char)right[j - 1]);
			size_t best = previous[j - 1] + (a != b);
			if (previous[j] + 1 < best)
				best = previous[j] + 1;
			if (current[j - 1] + 1 < best)
				best = current[j - 1] + 1;
			if (i > 1 && j > 1 && a == tolower((unsigned char)right[j - 2]) &&
			    tolower((unsigned char)left[i - 2]) == b && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			current[j] = best;
		}
		memcpy(before, previous, sizeof before);
		memcpy(previous, current, sizeof previous);
	}
	return previous[m];
}

const char *gs_suggest(const char *typed, const char *const *candidates, size_t count)
{
	if (strlen(typed) > WORD_LIMIT)
		return NULL;
	const char *best = NULL;
	size_t best_distance = 0;
	for (size_t i = 0; i < count; i++) {
		size_t length = strlen(candidates[i]);
		if (length > WORD_LIMIT)
			continue;
		size_t d = distance(typed, candidates[i]);
		size_t allowed = length / 3 ? length / 3 : 1;
		if (d <= allowed && (!best || d < best_distance)) {
			best = candidates[i];
			best_distance = d;
		}
	}
	return best;
}
