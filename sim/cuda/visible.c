/* CUDA_VISIBLE_DEVICES, as the CUDA programming guide describes it. */
#include "sim/cuda/internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SHORTEST_UUID_PREFIX = 4 }; /* "GPU-": alone it may still name the only GPU */

/* The position that all digits of a token spell, or -1. */
static long parse_index(const char *token, size_t length)
{
	long value = 0;
	for (size_t i = 0; i < length; i++) {
		if (!isdigit((unsigned char)token[i]) || value > 100000)
			return -1;
		value = value * 10 + (token[i] - '0');
	}
	return length ? value : -1;
}

/* The one candidate whose UUID starts with the token, or -1. */
static long find_uuid(const char *token, size_t length, const struct simcu_candidate *candidates, size_t count,
		      const unsigned *ranked)
{
	long found = -1;
	if (length < SHORTEST_UUID_PREFIX || strncmp(token, "GPU-", SHORTEST_UUID_PREFIX) != 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (strncasecmp(candidates[ranked[i]].uuid, token, length) != 0)
			continue;
		if (found >= 0)
			return -1;
		found = (long)i;
	}
	return found;
}

/* The order that indices count in: the fastest first and the rest as they sit on the bus, or all by bus. */
static void rank(const struct simcu_candidate *candidates, size_t count, bool by_bus, unsigned *ranked)
{
	size_t fastest = 0, filled = 0;
	for (size_t i = 1; i < count && !by_bus; i++)
		if (candidates[i].speed > candidates[fastest].speed)
			fastest = i;
	if (count)
		ranked[filled++] = (unsigned)fastest;
	for (size_t i = 0; i < count; i++)
		if (i != fastest)
			ranked[filled++] = (unsigned)i;
}

/* The instance that the token names. */
static bool find_instance(const char *token, size_t length, const struct simcu_candidate *candidates, size_t count,
			  unsigned *gpu, int *instance)
{
	if (length < SHORTEST_UUID_PREFIX || strncmp(token, "MIG-", SHORTEST_UUID_PREFIX) != 0)
		return false;
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; candidates[i].partitioned && k < candidates[i].instance_count; k++) {
			const struct simcu_instance *candidate = &candidates[i].instances[k];
			bool same =
				(strlen(candidate->uuid) == length &&
				 strncasecmp(candidate->uuid, token, length) == 0) ||
				(strlen(candidate->path) == length && strncasecmp(candidate->path, token, length) == 0);
			if (!same)
				continue;
			*gpu = (unsigned)i;
			*instance = (int)k;
			return true;
		}
	return false;
}

/* Nothing is asked for: an instance if there is any, else all GPUs. */
static size_t choose_all(const struct simcu_candidate *candidates, size_t count, const unsigned *ranked,
			 unsigned *order, int *instance)
{
	size_t chosen = 0;
	for (size_t i = 0; i < count; i++) {
		const struct simcu_candidate *candidate = &candidates[ranked[i]];
		if (candidate->partitioned && candidate->instance_count) {
			order[0] = ranked[i];
			*instance = 0;
			return 1;
		}
		if (!candidate->partitioned)
			order[chosen++] = ranked[i];
	}
	return chosen;
}

size_t simcu_visible_devices(const char *visible, bool by_bus, const struct simcu_candidate *candidates, size_t count,
			     unsigned *order, int *instance)
{
	unsigned ranked[SIM_GPUS_MAX];
	bool taken[SIM_GPUS_MAX] = {false};
	*instance = -1;
	if (count > SIM_GPUS_MAX)
		count = SIM_GPUS_MAX;
	rank(candidates, count, by_bus, ranked);
	if (!visible)
		return choose_all(candidates, count, ranked, order, instance);
	size_t chosen = 0;
	while (*visible) {
		visible += strspn(visible, " \t");
		size_t length = strcspn(visible, ",");
		size_t word = length;
		while (word && isspace((unsigned char)visible[word - 1]))
			word--;
		if (find_instance(visible, word, candidates, count, &order[0], instance))
			return 1;
		long at = parse_index(visible, word);
		if (at < 0)
			at = find_uuid(visible, word, candidates, count, ranked);
		if (at < 0 || (size_t)at >= count || taken[at])
			break;
		if (candidates[ranked[at]].partitioned) { /* its first instance is meant */
			if (!candidates[ranked[at]].instance_count)
				break;
			order[0] = ranked[at];
			*instance = 0;
			return 1;
		}
		taken[at] = true;
		order[chosen++] = ranked[at];
		visible += length;
		if (*visible)
			visible++;
	}
	return chosen;
}
