/* The set of GPUs that are linked best among themselves. */
#ifndef GPUSHARE_CORE_LINKED_SET_H
#define GPUSHARE_CORE_LINKED_SET_H

#include <stddef.h>
#include <stdint.h>

#include "core/share/inventory.h"

enum { GS_LINKED_EXACT_MAX = 16 };

/* A question: which `wanted` of the `candidates` go best with each other and with the `required` ones? All are positions
 * in the inventory's GPUs, ascending, each in one list at most. `load_percent[gpu]` (0..100) breaks ties. */
struct gs_linked_query {
	const struct gs_inventory *inventory;
	const uint8_t *required;
	size_t required_count;
	const uint8_t *candidates;
	size_t candidate_count;
	size_t wanted; /* <= candidate_count */
	const uint8_t *load_percent;
};

/* Writes the answer in ascending order. It has the greatest sum of link scores over all pairs of the set; of equal ones
 * the one whose choice leaves the greatest sum among the candidates that are left, then the least load, then the one that
 * comes first. Exact for up to GS_LINKED_EXACT_MAX candidates (branch and bound: at most 12,870 sets), beyond that greedy
 * from every start, improved by exchanges. Scores above 4,095 count as 4,095. */
void gs_linked_set(const struct gs_linked_query *query, uint8_t *chosen);

#endif
