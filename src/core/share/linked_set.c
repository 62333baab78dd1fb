#include "core/share/linked_set.h"

#include <stdbool.h>
#include <string.h>

/* One number orders sets: the score, then that of the remaining GPUs, then the load. With 64 GPUs and scores below 2^12
 * the sums stay below 2^23, 2^24 and 2^13, so none spills into the one before and twice the whole fits 64 bits. */
enum { SCORE_MAX = 4095, SCORE_SHIFT = 37, REST_SHIFT = 13 };

struct problem {
	size_t count, wanted;
	int64_t weight[GS_GPUS_MAX][GS_GPUS_MAX]; /* of a pair of candidates */
	int64_t gain[GS_GPUS_MAX];                /* of a candidate by itself and with the required ones */
};

static int64_t score(const struct gs_inventory *inventory, size_t a, size_t b)
{
	if (!inventory->link_score || a == b)
		return 0;
	uint32_t there = inventory->link_score[a * inventory->gpu_count + b];
	uint32_t back = inventory->link_score[b * inventory->gpu_count + a];
	uint32_t least = there < back ? there : back;
	return least < SCORE_MAX ? least : SCORE_MAX;
}

static void set_up(const struct gs_linked_query *query, struct problem *problem)
{
	problem->count = query->candidate_count;
	problem->wanted = query->wanted;
	for (size_t i = 0; i < problem->count; i++) {
		int64_t to_required = 0, to_others = 0;
		for (size_t j = 0; j < query->required_count; j++)
			to_required += score(query->inventory, query->candidates[i], query->required[j]);
		for (size_t j = 0; j < problem->count; j++) {
			int64_t pair = score(query->inventory, query->candidates[i], query->candidates[j]);
			problem->weight[i][j] = pair << SCORE_SHIFT;
			to_others += pair;
		}
		/* The score of the remaining GPUs is the sum of all, less the links of each chosen one to the others,
		 * plus those inside the set, since they were taken off twice; and among sets of one score, the links
		 * inside are that score less the links to the required ones. */
		problem->gain[i] = (to_required << SCORE_SHIFT) - ((to_others + to_required) << REST_SHIFT) -
				   query->load_percent[query->candidates[i]];
	}
}

/* The best set that contains `seed` when the best neighbour is added each time; its value. */
static int64_t greedy(const struct problem *problem, size_t seed, bool *in)
{
	int64_t gain[GS_GPUS_MAX], value = 0;
	size_t next = seed;

	memcpy(gain, problem->gain, problem->count * sizeof *gain);
	memset(in, 0, problem->count * sizeof *in);
	for (size_t taken = 0; taken < problem->wanted; taken++) {
		if (taken) {
			next = problem->count;
			for (size_t i = 0; i < problem->count; i++)
				if (!in[i] && (next == problem->count || gain[i] > gain[next]))
					next = i;
		}
		in[next] = true;
		value += gain[next];
		for (size_t i = 0; i < problem->count; i++)
			gain[i] += problem->weight[next][i];
	}
	return value;
}

static int64_t best_greedy(const struct problem *problem, bool *best)
{
	bool in[GS_GPUS_MAX];
	int64_t best_value = INT64_MIN;

	for (size_t seed = 0; seed < problem->count; seed++) {
		int64_t value = greedy(problem, seed, in);
		if (value <= best_value)
			continue;
		best_value = value;
		memcpy(best, in, problem->count * sizeof *in);
	}
	return best_value;
}

/* Exchanges one for another while that makes the set better; every step does, so it ends, and it ends early enough. */
static void exchange(const struct problem *problem, bool *in)
{
	for (unsigned rounds = 0; rounds < 4 * GS_GPUS_MAX; rounds++) {
		int64_t to_set[GS_GPUS_MAX], best = 0;
		size_t out = 0, add = 0;
		for (size_t i = 0; i < problem->count; i++) {
			to_set[i] = problem->gain[i];
			for (size_t j = 0; j < problem->count; j++)
				to_set[i] += in[j] ? problem->weight[i][j] : 0;
		}
		for (size_t i = 0; i < problem->count; i++)
			for (size_t j = 0; in[i] && j < problem->count; j++) {
				int64_t better = to_set[j] - problem->weight[i][j] - to_set[i];
				if (in[j] || better <= best)
					continue;
				best = better;
				out = i;
				add = j;
			}
		if (!best)
			return;
		in[out] = false;
		in[add] = true;
	}
}

struct search {
	const struct problem *problem;
	/* Twice what candidate i can add by links to r others that are chosen with it, at most. */
	int64_t reach[GS_LINKED_EXACT_MAX][GS_LINKED_EXACT_MAX];
	int64_t best, best_possible_twice;
	uint8_t path[GS_LINKED_EXACT_MAX], found[GS_LINKED_EXACT_MAX];
};

/* Keeps `top` the `wanted` greatest, descending. */
static void keep_greatest(int64_t *top, size_t *count, size_t wanted, int64_t value)
{
	size_t at = *count;

	if (at == wanted) {
		if (!wanted || value <= top[wanted - 1])
			return;
		at--;
	} else {
		++*count;
	}
	for (; at && top[at - 1] < value; at--)
		top[at] = top[at - 1];
	top[at] = value;
}

static void set_up_reach(struct search *search)
{
	const struct problem *problem = search->problem;

	for (size_t i = 0; i < problem->count; i++) {
		int64_t top[GS_LINKED_EXACT_MAX], sum = 0;
		size_t count = 0;
		for (size_t j = 0; j < problem->count; j++)
			if (j != i)
				keep_greatest(top, &count, problem->count - 1, problem->weight[i][j]);
		search->reach[i][0] = 0;
		for (size_t r = 0; r < count; r++)
			search->reach[i][r + 1] = sum += top[r];
	}
}

/* Twice the value that `need` more candidates from `start` on can add, at most: a link inside counts for both ends. */
static int64_t bound_twice(const struct search *search, size_t start, size_t need, const int64_t *gain)
{
	int64_t top[GS_LINKED_EXACT_MAX], sum = 0;
	size_t count = 0;

	for (size_t i = start; i < search->problem->count; i++)
		keep_greatest(top, &count, need, 2 * gain[i] + search->reach[i][need - 1]);
	for (size_t i = 0; i < count; i++)
		sum += top[i];
	return sum;
}

static void explore(struct search *search, size_t start, size_t depth, int64_t value, const int64_t *gain)
{
	const struct problem *problem = search->problem;
	size_t need = problem->wanted - depth;

	if (!need) {
		if (value > search->best) {
			search->best = value;
			memcpy(search->found, search->path, depth);
		}
		return;
	}
	if (2 * value + bound_twice(search, start, need, gain) <= 2 * search->best)
		return;
	for (size_t i = start; i + need <= problem->count && 2 * search->best < search->best_possible_twice; i++) {
		int64_t next[GS_LINKED_EXACT_MAX];
		for (size_t j = i + 1; j < problem->count; j++)
			next[j] = gain[j] + problem->weight[i][j];
		search->path[depth] = (uint8_t)i;
		explore(search, i + 1, depth + 1, value + gain[i], next);
	}
}

/* Sets are tried in order and only a better one replaces what was found, so the first of the best is the answer. The
 * greedy set's value less one as the mark to beat saves most of the work and cannot hide it. */
static void exact(const struct problem *problem, bool *in)
{
	struct search search = {.problem = problem};

	set_up_reach(&search);
	search.best = best_greedy(problem, in) - 1;
	search.best_possible_twice = bound_twice(&search, 0, problem->wanted, problem->gain);
	explore(&search, 0, 0, 0, problem->gain);
	memset(in, 0, problem->count * sizeof *in);
	for (size_t i = 0; i < problem->wanted; i++)
		in[search.found[i]] = true;
}

void gs_linked_set(const struct gs_linked_query *query, uint8_t *chosen)
{
	struct problem problem = {0};
	bool in[GS_GPUS_MAX];
	size_t count = 0;

	if (!query->wanted)
		return;
	if (query->wanted == query->candidate_count) {
		memcpy(chosen, query->candidates, query->wanted);
		return;
	}
	set_up(query, &problem);
	if (problem.count <= GS_LINKED_EXACT_MAX) {
		exact(&problem, in);
	} else {
		best_greedy(&problem, in);
		exchange(&problem, in);
	}
	for (size_t i = 0; i < problem.count; i++)
		if (in[i])
			chosen[count++] = query->candidates[i];
}
