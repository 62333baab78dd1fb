#include "core/share/linked_set.h"
#include "core/share/preferred.h"
#include "fixture.h"

enum { SHARES_MAX = 64 };

struct node {
	struct gs_sharing_resource entry;
	struct gs_config config;
	struct gs_inventory inventory;
	struct gs_plan plan;
	const struct gs_resource *resource;
	struct gs_preferred_scratch scratch;
};

/* `replicas` 0: whole GPUs. */
static void node_open(struct node *node, unsigned gpus, unsigned mig_each, unsigned replicas)
{
	*node = (struct node){0};
	if (replicas)
		node->config = fixture_time_slicing(&node->entry,
						    mig_each ? "nvidia.com/mig-1g.10gb" : "nvidia.com/gpu", replicas);
	if (mig_each)
		node->config.flags.mig_strategy = GS_MIG_MIXED;
	node->inventory = fixture_inventory(gpus, mig_each);
	node->plan = fixture_plan(&node->config, &node->inventory);
	node->resource = &node->plan.resources[0];
}

static void node_close(struct node *node)
{
	gs_preferred_scratch_free(&node->scratch);
	gs_plan_free(&node->plan);
	gs_inventory_free(&node->inventory);
}

static uint32_t gpu_of(const struct node *node, uint32_t share)
{
	return node->inventory.devices[node->resource->shares[share].device].gpu;
}

/* Chooses from everything but the `held` shares, whose list ends with -1. */
static void choose(struct node *node, enum gs_allocation_policy policy, const int *held, size_t size, uint32_t *chosen)
{
	uint32_t available[SHARES_MAX];
	size_t count = 0;
	struct gs_error err = {0};

	for (uint32_t i = 0; i < node->resource->share_count; i++) {
		bool taken = false;
		for (const int *h = held; *h >= 0; h++)
			taken = taken || *h == (int)i;
		if (!taken)
			available[count++] = i;
	}
	if (gs_preferred(&node->scratch, node->resource, &node->inventory, policy, available, count, NULL, 0, size,
			 chosen, &err))
		fail_msg("%s", err.text);
}

static void assert_gpus(const struct node *node, const uint32_t *chosen, size_t size, const unsigned *gpus)
{
	for (size_t i = 0; i < size; i++)
		assert_int_equal(gpu_of(node, chosen[i]), gpus[i]);
}

static void test_distributed_takes_the_least_loaded(void **state)
{
	struct node node;
	uint32_t chosen[8];

	node_open(&node, 4, 0, 4);
	choose(&node, GS_POLICY_DISTRIBUTED, (const int[]){0, 1, 4, 12, -1}, 6, chosen);
	/* 2, 1, 0, 1 in use: to GPU 2 first, then in turns */
	assert_gpus(&node, chosen, 6, (const unsigned[]){2, 1, 3, 2, 0, 1});
	assert_int_equal(chosen[0], 8);
	assert_int_equal(chosen[3], 9);
	node_close(&node);
}

static void test_packed_takes_the_most_loaded(void **state)
{
	struct node node;
	uint32_t chosen[8];

	node_open(&node, 4, 0, 4);
	choose(&node, GS_POLICY_PACKED, (const int[]){4, 12, 13, -1}, 6, chosen);
	assert_gpus(&node, chosen, 6, (const unsigned[]){3, 3, 1, 1, 1, 0});
	assert_int_equal(chosen[0], 14);
	node_close(&node);
}

static void test_spread_takes_distinct_gpus(void **state)
{
	struct node node;
	uint32_t chosen[8];

	node_open(&node, 4, 0, 4);
	choose(&node, GS_POLICY_SPREAD, (const int[]){0, 1, 2, 4, -1}, 5, chosen);
	assert_gpus(&node, chosen, 5, (const unsigned[]){2, 3, 1, 0, 2});
	node_close(&node);
}

static void test_mig_devices_count_for_their_gpu(void **state)
{
	struct node node;
	uint32_t chosen[4];
	const int held[] = {0, 1, 2, -1}; /* three of seven of GPU 0 */

	node_open(&node, 2, 7, 0);
	choose(&node, GS_POLICY_PACKED, held, 2, chosen);
	assert_gpus(&node, chosen, 2, (const unsigned[]){0, 0});
	choose(&node, GS_POLICY_DISTRIBUTED, held, 4, chosen);
	assert_gpus(&node, chosen, 4, (const unsigned[]){1, 1, 1, 0});
	choose(&node, GS_POLICY_SPREAD, held, 2, chosen);
	assert_gpus(&node, chosen, 2, (const unsigned[]){1, 0});
	node_close(&node);
}

/* MIG devices are as near to each other as their GPUs. */
static void test_aligned_mig_devices_are_on_linked_gpus(void **state)
{
	struct node node;
	uint32_t chosen[5];

	node_open(&node, 4, 3, 0);
	node.inventory.link_score[1 * 4 + 3] = node.inventory.link_score[3 * 4 + 1] = 2400;
	choose(&node, GS_POLICY_ALIGNED, (const int[]){-1}, 2, chosen);
	assert_gpus(&node, chosen, 2, (const unsigned[]){1, 3});
	/* One of each GPU, then again from the least used. */
	choose(&node, GS_POLICY_ALIGNED, (const int[]){0, 1, 3, -1}, 5, chosen);
	unsigned each[4] = {0};
	for (size_t i = 0; i < 5; i++)
		each[gs_resource_device_of(&node.plan.resources[0], chosen[i])->gpu]++;
	assert_true(each[0] == 1 && each[1] == 1 && each[2] + each[3] == 3);
	node_close(&node);
}

static void test_shared_mig_devices_fill_in_turns_within_a_gpu(void **state)
{
	struct node node;
	uint32_t chosen[4];

	node_open(&node, 1, 2, 3);
	choose(&node, GS_POLICY_DISTRIBUTED, (const int[]){0, -1}, 4, chosen);
	assert_memory_equal(chosen, ((const uint32_t[]){3, 1, 4, 2}), sizeof chosen);
	node_close(&node);
}

static void test_shared_and_whole_devices_compare_by_part(void **state)
{
	struct node node;
	uint32_t chosen[1];

	memset(&node, 0, sizeof node);
	node.config = fixture_time_slicing(&node.entry, "nvidia.com/gpu", 10);
	node.entry.devices = (struct gs_device_selector){.kind = GS_SELECT_COUNT, .count = 1};
	node.inventory = fixture_inventory(2, 0);
	node.plan = fixture_plan(&node.config, &node.inventory);
	node.resource = &node.plan.resources[0];
	/* 6 of 10 is less than 1 of 1 */
	choose(&node, GS_POLICY_DISTRIBUTED, (const int[]){0, 1, 2, 3, 4, -1}, 1, chosen);
	assert_gpus(&node, chosen, 1, (const unsigned[]){0});
	gs_plan_free(&node.plan);
	char *list[] = {node.inventory.devices[1].index};
	node.entry.devices = (struct gs_device_selector){.kind = GS_SELECT_LIST, .list = list, .list_length = 1};
	node.plan = fixture_plan(&node.config, &node.inventory);
	node.resource = &node.plan.resources[0];
	/* and so is 1 of 10, though neither is in use */
	choose(&node, GS_POLICY_DISTRIBUTED, (const int[]){-1}, 1, chosen);
	assert_gpus(&node, chosen, 1, (const unsigned[]){1});
	node_close(&node);
}

static void set_link(struct gs_inventory *inventory, size_t a, size_t b, uint32_t score)
{
	inventory->link_score[a * inventory->gpu_count + b] = score;
	inventory->link_score[b * inventory->gpu_count + a] = score;
}

/* Two islands of four, linked in pairs inside: 0-3 1-2, and 4-7 5-6. */
static void link_islands(struct gs_inventory *inventory)
{
	for (size_t a = 0; a < 8; a++)
		for (size_t b = 0; b < a; b++)
			set_link(inventory, a, b, a / 4 != b / 4 ? 10 : a % 4 + b % 4 == 3 ? 250 : 130);
}

static void test_whole_gpus_are_always_aligned(void **state)
{
	static const enum gs_allocation_policy policies[] = {GS_POLICY_DISTRIBUTED, GS_POLICY_PACKED, GS_POLICY_SPREAD,
							     GS_POLICY_ALIGNED};
	struct node node;
	uint32_t chosen[8];

	node_open(&node, 8, 0, 0);
	link_islands(&node.inventory);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(policies); i++) {
		choose(&node, policies[i], (const int[]){0, -1}, 2, chosen);
		assert_gpus(&node, chosen, 2, (const unsigned[]){1, 2});
		choose(&node, policies[i], (const int[]){0, 1, -1}, 4, chosen);
		assert_gpus(&node, chosen, 4, (const unsigned[]){4, 5, 6, 7});
		/* one alone: the one whose neighbour is gone already, so that pairs stay whole */
		choose(&node, policies[i], (const int[]){3, 5, 6, -1}, 1, chosen);
		assert_gpus(&node, chosen, 1, (const unsigned[]){0});
		choose(&node, policies[i], (const int[]){5, -1}, 1, chosen);
		assert_gpus(&node, chosen, 1, (const unsigned[]){6});
	}
	node_close(&node);
}

static void test_aligned_replicas_choose_linked_gpus(void **state)
{
	struct node node;
	uint32_t chosen[8];

	node_open(&node, 8, 0, 2);
	link_islands(&node.inventory);
	/* GPUs 0 and 1 are full */
	choose(&node, GS_POLICY_ALIGNED, (const int[]){0, 1, 2, 3, -1}, 2, chosen);
	assert_gpus(&node, chosen, 2, (const unsigned[]){4, 7});
	choose(&node, GS_POLICY_ALIGNED, (const int[]){0, 1, 2, 3, -1}, 8, chosen);
	assert_gpus(&node, chosen, 8, (const unsigned[]){2, 3, 4, 5, 6, 7, 2, 3});
	node_close(&node);
}

static void test_aligned_goes_with_what_must_be_included(void **state)
{
	struct node node;
	uint32_t all[8] = {0, 1, 2, 3, 4, 5, 6, 7}, chosen[2], must = 5;
	struct gs_error err;

	node_open(&node, 8, 0, 0);
	link_islands(&node.inventory);
	assert_int_equal(gs_preferred(&node.scratch, node.resource, &node.inventory, GS_POLICY_DISTRIBUTED, all, 8,
				      &must, 1, 2, chosen, &err),
			 0);
	assert_int_equal(chosen[0], 5);
	assert_int_equal(chosen[1], 6);
	node_close(&node);
}

static void test_unknown_topology_is_no_obstacle(void **state)
{
	struct node node;
	uint32_t chosen[3];

	node_open(&node, 4, 0, 0);
	free(node.inventory.link_score);
	node.inventory.link_score = NULL;
	choose(&node, GS_POLICY_ALIGNED, (const int[]){1, -1}, 3, chosen);
	assert_gpus(&node, chosen, 3, (const unsigned[]){0, 2, 3});
	node_close(&node);
}

static void assert_refused(struct node *node, const uint32_t *available, size_t available_count, const uint32_t *must,
			   size_t must_count, size_t size, const char *part)
{
	uint32_t chosen[SHARES_MAX];
	struct gs_error err = {0};

	assert_int_equal(gs_preferred(&node->scratch, node->resource, &node->inventory, GS_POLICY_PACKED, available,
				      available_count, must, must_count, size, chosen, &err),
			 -1);
	assert_int_equal(err.source, GS_ERROR_INPUT);
	if (!strstr(err.text, part))
		fail_msg("\"%s\" lacks \"%s\"", err.text, part);
}

static void test_bad_questions(void **state)
{
	struct node node;

	node_open(&node, 2, 0, 2);
	assert_refused(&node, (const uint32_t[]){0, 1}, 2, NULL, 0, 3, "3 shares of nvidia.com/gpu are wanted");
	assert_refused(&node, (const uint32_t[]){0, 4}, 2, NULL, 0, 1, "no share at position 4");
	assert_refused(&node, (const uint32_t[]){1, 0, 1}, 3, NULL, 0, 1, "listed twice as available");
	assert_refused(&node, (const uint32_t[]){0, 1}, 2, (const uint32_t[]){0, 1}, 2, 1,
		       "must be included in an answer");
	assert_refused(&node, (const uint32_t[]){0, 1}, 2, (const uint32_t[]){2}, 1, 1, "is not available");
	assert_refused(&node, (const uint32_t[]){0, 1}, 2, (const uint32_t[]){0, 0}, 2, 2, "is listed twice");
	assert_refused(&node, (const uint32_t[]){0, 1}, 2, (const uint32_t[]){UINT32_MAX}, 1, 2,
		       "no share at position");
	node_close(&node);
}

static void test_nothing_wanted(void **state)
{
	struct node node;
	uint32_t available[] = {0};

	node_open(&node, 1, 0, 2);
	assert_int_equal(gs_preferred(&node.scratch, node.resource, &node.inventory, GS_POLICY_SPREAD, available, 1,
				      NULL, 0, 0, NULL, NULL),
			 0);
	node_close(&node);
}

/* ---- Laws, on random questions ---- */

struct question {
	uint32_t available[SHARES_MAX], must[SHARES_MAX], chosen[SHARES_MAX];
	size_t available_count, must_count, size;
};

static void random_question(const struct node *node, uint64_t *seed, struct question *question)
{
	uint32_t part = fixture_random(seed) % 100;

	question->available_count = question->must_count = 0;
	for (uint32_t i = 0; i < node->resource->share_count; i++)
		if (fixture_random(seed) % 100 >= part)
			question->available[question->available_count++] = i;
	for (size_t i = question->available_count; i > 1; i--) { /* the kubelet sends a set in no order */
		size_t other = fixture_random(seed) % i;
		uint32_t swap = question->available[i - 1];
		question->available[i - 1] = question->available[other];
		question->available[other] = swap;
	}
	question->size = question->available_count ? fixture_random(seed) % (question->available_count + 1) : 0;
	if (question->size && fixture_random(seed) % 2)
		question->must_count = fixture_random(seed) % question->size;
	memcpy(question->must, question->available, question->must_count * sizeof(uint32_t));
}

static void ask(struct node *node, enum gs_allocation_policy policy, struct question *question)
{
	struct gs_error err = {0};

	if (gs_preferred(&node->scratch, node->resource, &node->inventory, policy, question->available,
			 question->available_count, question->must, question->must_count, question->size,
			 question->chosen, &err))
		fail_msg("%s", err.text);
}

static bool contains(const uint32_t *items, size_t count, uint32_t item)
{
	for (size_t i = 0; i < count; i++)
		if (items[i] == item)
			return true;
	return false;
}

static void assert_valid_answer(const struct question *question)
{
	for (size_t i = 0; i < question->size; i++) {
		assert_true(contains(question->available, question->available_count, question->chosen[i]));
		assert_false(contains(question->chosen, i, question->chosen[i]));
	}
	for (size_t i = 0; i < question->must_count; i++)
		assert_true(contains(question->chosen, question->size, question->must[i]));
}

static void test_answers_are_subsets_and_repeatable(void **state)
{
	static const struct {
		unsigned gpus, mig, replicas;
	} shapes[] = {{4, 0, 4}, {8, 0, 8}, {3, 4, 2}, {2, 7, 0}, {16, 0, 0}, {20, 0, 3}, {64, 0, 0}, {1, 0, 5}};
	uint64_t seed = 1;

	for (size_t s = 0; s < GS_ARRAY_LENGTH(shapes); s++) {
		struct node node;
		node_open(&node, shapes[s].gpus, shapes[s].mig, shapes[s].replicas);
		for (unsigned round = 0; round < 200; round++) {
			struct question question, again;
			random_question(&node, &seed, &question);
			enum gs_allocation_policy policy = round % 4;
			ask(&node, policy, &question);
			assert_valid_answer(&question);
			again = question;
			ask(&node, policy, &again);
			assert_memory_equal(again.chosen, question.chosen, question.size * sizeof(uint32_t));
		}
		node_close(&node);
	}
}

/* How many shares of each GPU are in use after the answer, greatest first. */
static void loads_after(const struct node *node, const struct question *question, uint32_t *loads)
{
	size_t gpus = node->inventory.gpu_count;

	memset(loads, 0, gpus * sizeof *loads);
	for (uint32_t i = 0; i < node->resource->share_count; i++)
		loads[gpu_of(node, i)] += !contains(question->available, question->available_count, i);
	for (size_t i = 0; i < question->size; i++)
		loads[gpu_of(node, question->chosen[i])]++;
	for (size_t i = 1; i < gpus; i++)
		for (size_t j = i; j && loads[j - 1] < loads[j]; j--) {
			uint32_t swap = loads[j];
			loads[j] = loads[j - 1];
			loads[j - 1] = swap;
		}
}

/* Calls check with every valid answer to the question. */
static void every_answer(struct node *node, const struct question *question, const uint32_t *ours, unsigned distinct,
			 void (*check)(const struct node *, const struct question *, const uint32_t *, unsigned))
{
	for (uint32_t bits = 0; bits < 1u << question->available_count; bits++) {
		struct question other = *question;
		if ((size_t)__builtin_popcount(bits) != question->size)
			continue;
		other.size = 0;
		for (size_t i = 0; i < question->available_count; i++)
			if (bits >> i & 1)
				other.chosen[other.size++] = question->available[i];
		bool valid = true;
		for (size_t i = 0; i < question->must_count; i++)
			valid = valid && contains(other.chosen, other.size, question->must[i]);
		if (valid)
			check(node, &other, ours, distinct);
	}
}

static int compare_loads(const struct node *node, const struct question *other, const uint32_t *ours)
{
	uint32_t theirs[GS_GPUS_MAX];

	loads_after(node, other, theirs);
	for (size_t i = 0; i < node->inventory.gpu_count; i++)
		if (ours[i] != theirs[i])
			return ours[i] < theirs[i] ? -1 : 1;
	return 0;
}

static void check_none_is_flatter(const struct node *node, const struct question *other, const uint32_t *ours,
				  unsigned d)
{
	assert_true(compare_loads(node, other, ours) <= 0);
}

static void check_none_is_steeper(const struct node *node, const struct question *other, const uint32_t *ours,
				  unsigned d)
{
	assert_true(compare_loads(node, other, ours) >= 0);
}

static unsigned distinct_gpus(const struct node *node, const struct question *question)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < question->size; i++)
		seen |= 1ull << gpu_of(node, question->chosen[i]);
	return (unsigned)__builtin_popcountll(seen);
}

static void check_none_uses_more_gpus(const struct node *node, const struct question *other, const uint32_t *ours,
				      unsigned distinct)
{
	assert_true(distinct_gpus(node, other) <= distinct);
}

static void compare_with_every_answer(enum gs_allocation_policy policy, uint64_t seed,
				      void (*check)(const struct node *, const struct question *, const uint32_t *,
						    unsigned))
{
	struct node node;

	node_open(&node, 4, 0, 3);
	for (unsigned round = 0; round < 100; round++) {
		struct question question;
		uint32_t loads[GS_GPUS_MAX];
		random_question(&node, &seed, &question);
		ask(&node, policy, &question);
		loads_after(&node, &question, loads);
		every_answer(&node, &question, loads, distinct_gpus(&node, &question), check);
	}
	node_close(&node);
}

static void test_no_answer_is_flatter_than_distributed(void **state)
{
	compare_with_every_answer(GS_POLICY_DISTRIBUTED, 2, check_none_is_flatter);
}

static void test_no_answer_is_steeper_than_packed(void **state)
{
	compare_with_every_answer(GS_POLICY_PACKED, 3, check_none_is_steeper);
}

static void test_no_answer_uses_more_gpus_than_spread(void **state)
{
	compare_with_every_answer(GS_POLICY_SPREAD, 4, check_none_uses_more_gpus);
}

/* ---- The best linked set ---- */

static int64_t set_score(const struct gs_inventory *inventory, uint64_t bits)
{
	int64_t sum = 0;

	for (size_t a = 0; a < inventory->gpu_count; a++)
		for (size_t b = 0; b < a; b++)
			if (bits >> a & bits >> b & 1)
				sum += inventory->link_score[a * inventory->gpu_count + b];
	return sum;
}

static uint64_t linked_set_bits(const struct gs_linked_query *query)
{
	uint8_t chosen[GS_GPUS_MAX];
	uint64_t bits = 0;

	gs_linked_set(query, chosen);
	for (size_t i = 0; i < query->wanted; i++) {
		assert_true(!i || chosen[i] > chosen[i - 1]);
		bits |= 1ull << chosen[i];
	}
	for (size_t i = 0; i < query->required_count; i++)
		bits |= 1ull << query->required[i];
	return bits;
}

/* The documented order, by trying everything. */
static uint64_t best_set_by_trying(const struct gs_linked_query *query)
{
	int64_t best[3] = {-1, 0, 0};
	uint64_t best_bits = 0, required = 0, candidates = 0;

	for (size_t i = 0; i < query->required_count; i++)
		required |= 1ull << query->required[i];
	for (size_t i = 0; i < query->candidate_count; i++)
		candidates |= 1ull << query->candidates[i];
	/* The first set in order of its members: compare reversed bits, so that low members weigh most. */
	for (uint64_t bits = 0; bits < 1ull << query->inventory->gpu_count; bits++) {
		if (bits & ~candidates || (size_t)__builtin_popcountll(bits) != query->wanted)
			continue;
		int64_t load = 0;
		for (size_t i = 0; i < query->inventory->gpu_count; i++)
			load += bits >> i & 1 ? query->load_percent[i] : 0;
		int64_t value[3] = {set_score(query->inventory, bits | required),
				    set_score(query->inventory, candidates & ~bits), -load};
		int order = 0;
		for (size_t i = 0; i < 3 && !order; i++)
			order = (value[i] > best[i]) - (value[i] < best[i]);
		uint64_t differ = bits ^ best_bits;
		bool first = bits & (differ & -differ);
		if (best[0] >= 0 && (order < 0 || (!order && !first)))
			continue;
		memcpy(best, value, sizeof best);
		best_bits = bits;
	}
	return best_bits | required;
}

static void random_links(struct gs_inventory *inventory, uint64_t *seed, uint32_t kinds)
{
	for (size_t a = 0; a < inventory->gpu_count; a++)
		for (size_t b = 0; b < a; b++)
			set_link(inventory, a, b, fixture_random(seed) % kinds * (1800 / kinds));
}

static void test_aligned_is_the_best_set_there_is(void **state)
{
	uint64_t seed = 5;

	for (unsigned round = 0; round < 400; round++) {
		unsigned gpus = 2 + fixture_random(&seed) % 9;
		struct gs_inventory inventory = fixture_inventory(gpus, 0);
		uint8_t required[16], candidates[16], load_percent[16];
		struct gs_linked_query query = {&inventory, required, 0, candidates, 0, 0, load_percent};
		random_links(&inventory, &seed, round % 2 ? 3 : 1800); /* few kinds: many ties */
		for (unsigned i = 0; i < gpus; i++) {
			load_percent[i] = (uint8_t)(fixture_random(&seed) % 3 * 50);
			uint32_t kind = fixture_random(&seed) % 8;
			if (kind == 0)
				required[query.required_count++] = (uint8_t)i;
			else if (kind < 7)
				candidates[query.candidate_count++] = (uint8_t)i;
		}
		query.wanted = fixture_random(&seed) % (query.candidate_count + 1);
		assert_int_equal(linked_set_bits(&query), best_set_by_trying(&query));
		gs_inventory_free(&inventory);
	}
}

static void test_sixteen_gpus_are_exact(void **state)
{
	static const uint8_t load_percent[16] = {0};
	uint64_t seed = 6;
	uint8_t candidates[16];

	for (uint8_t i = 0; i < 16; i++)
		candidates[i] = i;
	for (unsigned round = 0; round < 12; round++) {
		struct gs_inventory inventory = fixture_inventory(16, 0);
		struct gs_linked_query query = {&inventory, NULL, 0, candidates, 16, 2 + round % 12, load_percent};
		random_links(&inventory, &seed, round % 2 ? 4 : 1800);
		assert_int_equal(linked_set_bits(&query), best_set_by_trying(&query));
		gs_inventory_free(&inventory);
	}
}

static void test_many_gpus_find_the_island(void **state)
{
	struct node node;
	uint32_t chosen[8];

	node_open(&node, 64, 0, 0);
	for (size_t a = 0; a < 64; a++)
		for (size_t b = 0; b < a; b++)
			set_link(&node.inventory, a, b, a % 8 == b % 8 ? UINT32_MAX : 20);
	choose(&node, GS_POLICY_DISTRIBUTED, (const int[]){0, 1, 2, -1}, 8, chosen);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(gpu_of(&node, chosen[i]), 3 + 8 * i);
	node_close(&node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_distributed_takes_the_least_loaded),
		cmocka_unit_test(test_packed_takes_the_most_loaded),
		cmocka_unit_test(test_spread_takes_distinct_gpus),
		cmocka_unit_test(test_mig_devices_count_for_their_gpu),
		cmocka_unit_test(test_aligned_mig_devices_are_on_linked_gpus),
		cmocka_unit_test(test_shared_mig_devices_fill_in_turns_within_a_gpu),
		cmocka_unit_test(test_shared_and_whole_devices_compare_by_part),
		cmocka_unit_test(test_whole_gpus_are_always_aligned),
		cmocka_unit_test(test_aligned_replicas_choose_linked_gpus),
		cmocka_unit_test(test_aligned_goes_with_what_must_be_included),
		cmocka_unit_test(test_unknown_topology_is_no_obstacle),
		cmocka_unit_test(test_bad_questions),
		cmocka_unit_test(test_nothing_wanted),
		cmocka_unit_test(test_answers_are_subsets_and_repeatable),
		cmocka_unit_test(test_no_answer_is_flatter_than_distributed),
		cmocka_unit_test(test_no_answer_is_steeper_than_packed),
		cmocka_unit_test(test_no_answer_uses_more_gpus_than_spread),
		cmocka_unit_test(test_aligned_is_the_best_set_there_is),
		cmocka_unit_test(test_sixteen_gpus_are_exact),
		cmocka_unit_test(test_many_gpus_find_the_island),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
