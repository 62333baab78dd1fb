/* Random GPUs' states and wishes: what the planner says against every arrangement there is, and its steps against what
 * a driver would allow. */
#include "core/mig/mig_plan.h"
#include "fixture.h"
#include "mig_fixture.h"

enum { CASES = 10000, SEED = 20261123 };

static uint64_t random_state = SEED;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((random_state >> 33) % limit);
}

struct item {
	uint8_t profile;
	struct gs_mig_placement place;
};

/* What a driver allows to exist together. */
static bool may_exist(const struct gs_mig_gpu *gpu, const struct item *items, size_t count)
{
	uint32_t slices = 0, counts[GS_MIG_PROFILES_MAX] = {0}, engines[GS_MIG_ENGINES] = {0};

	for (size_t i = 0; i < count; i++) {
		const struct gs_mig_profile *profile = &gpu->profiles[items[i].profile];
		uint32_t mask = gs_mig_place_mask(items[i].place);
		if ((slices & mask) || ++counts[items[i].profile] > profile->max_count)
			return false;
		slices |= mask;
		for (size_t k = 0; k < GS_MIG_ENGINES; k++) {
			engines[k] += profile->engines[k];
			if (gpu->engines[k] && engines[k] > gpu->engines[k])
				return false;
		}
	}
	return true;
}

/* No GPU, but any could come. */
static struct gs_mig_gpu random_gpu(void)
{
	struct gs_mig_gpu gpu = {.profile_count = (uint8_t)(1 + random_below(6))};
	uint32_t slices = 3 + random_below(6);

	for (uint32_t i = 0; i < gpu.profile_count; i++) {
		struct gs_mig_profile *profile = &gpu.profiles[i];
		uint8_t size = (uint8_t)(1 + random_below(slices < 4 ? slices : 4));
		profile->id = i;
		snprintf(profile->name, sizeof profile->name, "%ug.%ugb", size, i);
		profile->compute_slices = size;
		profile->max_count = 1 + random_below(4);
		profile->engines[GS_MIG_DECODER] = random_below(2);
		for (uint8_t start = 0; start + size <= slices; start++)
			if (random_below(3) || !profile->placement_count)
				profile->placements[profile->placement_count++] =
					(struct gs_mig_placement){start, size};
	}
	assert_int_equal(gs_mig_gpu_complete(&gpu, NULL), 0);
	return gpu;
}

static struct gs_mig_layout random_layout(const struct gs_mig_gpu *gpu)
{
	struct gs_mig_layout layout = {0};
	struct item items[GS_MIG_INSTANCES_MAX];
	uint32_t busy_percent = random_below(4) * 30;

	for (uint32_t tries = random_below(12); tries && layout.count < GS_MIG_INSTANCES_MAX; tries--) {
		uint8_t profile = (uint8_t)random_below(gpu->profile_count);
		const struct gs_mig_profile *p = &gpu->profiles[profile];
		struct gs_mig_placement place = p->placements[random_below(p->placement_count)];
		items[layout.count] = (struct item){profile, place};
		if (!may_exist(gpu, items, layout.count + 1u))
			continue;
		layout.instances[layout.count] = (struct gs_mig_instance){
			.id = 50 + random_below(1000) * 16 + layout.count,
			.profile = profile,
			.place = place,
			.busy = random_below(100) < busy_percent,
			.compute = {{.slices = (uint8_t)p->compute_slices}},
			.compute_count = 1,
		};
		layout.count++;
	}
	return layout;
}

/* Often near to what there is, so that both answers come often. */
static struct gs_mig_wish random_wish(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout)
{
	struct gs_mig_wish wish = {0};

	for (size_t i = 0; i < layout->count; i++)
		if (random_below(4))
			gs_mig_wish_add(gpu, gpu->profiles[layout->instances[i].profile].name, 1, &wish, NULL);
	for (uint32_t more = random_below(4); more && wish.count < 8; more--)
		gs_mig_wish_add(gpu, gpu->profiles[random_below(gpu->profile_count)].name, 1, &wish, NULL);
	for (size_t i = 0; i < wish.count; i++) {
		const struct gs_mig_profile *p = &gpu->profiles[wish.items[i].profile];
		if (!random_below(16))
			wish.items[i].start = (int8_t)p->placements[random_below(p->placement_count)].start;
	}
	return wish;
}

/* The best of all arrangements; all ones: there is none. */
struct verdict {
	uint32_t broken;    /* busy (or, when adding, any) instances that would have to go */
	uint32_t destroyed; /* idle ones that go */
	uint32_t waiting;
	uint32_t closed; /* open places, from the most there can be */
};

struct brute {
	const struct gs_mig_gpu *gpu;
	const struct gs_mig_layout *layout;
	const struct gs_mig_wish *wish;
	enum gs_mig_goal goal;
	struct item items[2 * GS_MIG_INSTANCES_MAX];
	struct verdict best;
};

static int find_item(const struct item *items, size_t count, uint8_t profile, struct gs_mig_placement place)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].profile == profile && items[i].place.start == place.start)
			return (int)i;
	return -1;
}

static void judge(struct brute *b)
{
	struct verdict verdict = {0};
	uint32_t there = gs_mig_layout_mask(b->layout), end = 0;

	for (size_t i = 0; i < b->wish->count; i++) {
		uint32_t mask = gs_mig_place_mask(b->items[i].place);
		bool kept = false;
		end |= mask;
		for (size_t k = 0; b->goal == GS_MIG_BECOME && k < b->layout->count; k++)
			kept = kept || (b->layout->instances[k].profile == b->items[i].profile &&
					b->layout->instances[k].place.start == b->items[i].place.start);
		verdict.waiting += b->goal == GS_MIG_BECOME && !kept && (mask & there);
	}
	for (size_t k = 0; k < b->layout->count; k++) {
		const struct gs_mig_instance *instance = &b->layout->instances[k];
		bool stays = b->goal == GS_MIG_BECOME
				     ? find_item(b->items, b->wish->count, instance->profile, instance->place) >= 0
				     : !(gs_mig_place_mask(instance->place) & end);
		verdict.broken += !stays && instance->busy;
		verdict.destroyed += !stays && !instance->busy;
	}
	verdict.closed =
		gs_mig_open_places(b->gpu, 0) - gs_mig_open_places(b->gpu, b->goal == GS_MIG_ADD ? end | there : end);
	const uint32_t ours[] = {verdict.broken, verdict.destroyed, verdict.waiting, verdict.closed};
	const uint32_t best[] = {b->best.broken, b->best.destroyed, b->best.waiting, b->best.closed};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(ours); i++) {
		if (ours[i] < best[i])
			b->best = verdict;
		if (ours[i] != best[i])
			return;
	}
}

static void try_all(struct brute *b, size_t at, uint32_t taken)
{
	if (at == b->wish->count) {
		judge(b);
		return;
	}
	const struct gs_mig_want *want = &b->wish->items[at];
	const struct gs_mig_profile *profile = &b->gpu->profiles[want->profile];
	for (size_t i = 0; i < profile->placement_count; i++) {
		struct gs_mig_placement place = profile->placements[i];
		uint32_t mask = gs_mig_place_mask(place);
		if ((taken & mask) || (want->start != GS_MIG_ANYWHERE && want->start != place.start))
			continue;
		b->items[at] = (struct item){want->profile, place};
		try_all(b, at + 1, taken | mask);
	}
}

/* Whether counts and engines allow it, wherever it is. */
static bool totals_allow(const struct brute *b)
{
	struct item items[2 * GS_MIG_INSTANCES_MAX];
	size_t count = 0;

	/* Places of their own, so that only counts and engines can be in the way. */
	for (size_t i = 0; i < b->wish->count; i++)
		items[count++] = (struct item){b->wish->items[i].profile, {0, 0}};
	for (size_t i = 0; b->goal == GS_MIG_ADD && i < b->layout->count; i++)
		items[count++] = (struct item){b->layout->instances[i].profile, {0, 0}};
	return may_exist(b->gpu, items, count);
}

/* Does what the plan says, as a driver would. */
static void play(const struct brute *b, const struct gs_mig_plan *plan)
{
	struct item items[2 * GS_MIG_INSTANCES_MAX];
	uint32_t ids[2 * GS_MIG_INSTANCES_MAX], destroyed = 0, created = 0;
	size_t count = 0;

	for (size_t i = 0; i < b->layout->count; i++) {
		items[count] = (struct item){b->layout->instances[i].profile, b->layout->instances[i].place};
		ids[count++] = b->layout->instances[i].id;
	}
	for (size_t i = 0; i < plan->step_count; i++) {
		const struct gs_mig_step *step = &plan->steps[i];
		if (step->kind == GS_MIG_CREATE_INSTANCE) {
			items[count] = (struct item){step->profile, step->place};
			ids[count++] = UINT32_MAX;
			assert_true(may_exist(b->gpu, items, count));
			created++;
			continue;
		}
		assert_int_equal(step->kind, GS_MIG_DESTROY_INSTANCE);
		size_t at = 0;
		while (at < count && ids[at] != step->instance_id)
			at++;
		assert_true(at < count);
		for (size_t k = 0; k < b->layout->count; k++)
			assert_false(b->layout->instances[k].id == step->instance_id && b->layout->instances[k].busy);
		items[at] = items[--count];
		ids[at] = ids[count];
		destroyed++;
	}
	assert_int_equal(plan->created, created);
	assert_int_equal(plan->destroyed, destroyed);
	/* What is there now is what was wished, item by item; those with a place of their own first. */
	for (int fixed = 1; fixed >= 0; fixed--) {
		for (size_t i = 0; i < b->wish->count; i++) {
			const struct gs_mig_want *want = &b->wish->items[i];
			size_t at = 0;
			if ((want->start != GS_MIG_ANYWHERE) != fixed)
				continue;
			while (at < count &&
			       (items[at].profile != want->profile || (fixed && items[at].place.start != want->start)))
				at++;
			assert_true(at < count);
			items[at] = items[--count];
		}
	}
	assert_int_equal(count, b->goal == GS_MIG_ADD ? b->layout->count : 0);
}

struct tally {
	uint32_t possible, blocked, never, busy;
};

/* Cases whose counts or engines are too many have nothing to search, and are not counted. */
static void check_case(const struct gs_mig_gpu *gpu, enum gs_mig_goal goal, struct tally *tally)
{
	struct gs_mig_layout layout = random_layout(gpu);
	struct gs_mig_wish wish = random_wish(gpu, &layout);
	struct brute brute = {.gpu = gpu, .layout = &layout, .wish = &wish, .goal = goal};
	struct gs_mig_plan plan;

	memset(&brute.best, 0xff, sizeof brute.best);
	int result = gs_mig_plan_make(gpu, &layout, &wish, goal, &plan);
	if (!totals_allow(&brute)) {
		assert_int_equal(result, -1);
		assert_true(plan.reason[0]);
		return;
	}
	try_all(&brute, 0, 0);
	bool any = brute.best.broken != UINT32_MAX;
	uint32_t in_the_way = brute.best.broken + (goal == GS_MIG_ADD ? brute.best.destroyed : 0);
	assert_int_equal(result, any && !in_the_way ? 0 : -1);
	if (result) {
		assert_int_equal(plan.blocker_count, any ? in_the_way : 0);
		assert_int_equal(plan.step_count, 0);
		assert_true(plan.reason[0]);
		*(any ? &tally->blocked : &tally->never) += 1;
		return;
	}
	assert_int_equal(plan.destroyed, brute.best.destroyed);
	play(&brute, &plan);
	uint32_t end = 0;
	for (size_t i = 0; i < layout.count; i++)
		end |= gs_mig_place_mask(layout.instances[i].place);
	for (size_t i = 0; i < plan.step_count; i++)
		end = plan.steps[i].kind == GS_MIG_CREATE_INSTANCE ? end | gs_mig_place_mask(plan.steps[i].place)
								   : end & ~gs_mig_place_mask(plan.steps[i].place);
	assert_int_equal(gs_mig_open_places(gpu, 0) - gs_mig_open_places(gpu, end), brute.best.closed);
	tally->possible++;
	for (size_t i = 0; i < layout.count; i++)
		tally->busy += layout.instances[i].busy;
}

static void test_against_all_arrangements(void **state)
{
	(void)state;
	static const char *const models[] = {"A100-40GB", "A100-80GB", "H100-80GB", "A30", "RTX-PRO-6000"};
	enum { MODELS = GS_ARRAY_LENGTH(models) };
	struct gs_mig_gpu gpus[MODELS + 2];
	struct tally tally = {0};

	for (size_t i = 0; i < MODELS; i++)
		gpus[i] = mig_fixture(models[i]);
	gpus[MODELS + 1] = mig_dense_12();
	for (uint32_t i = 0; tally.possible + tally.blocked + tally.never < CASES; i++) {
		gpus[MODELS] = random_gpu();
		/* The one that does not exist comes seldom: all its arrangements are very many. */
		check_case(&gpus[i % 50 ? i % (MODELS + 1) : MODELS + 1], random_below(3) ? GS_MIG_BECOME : GS_MIG_ADD,
			   &tally);
	}
	print_message("# possible %u (with %u busy instances), blocked %u, never possible %u\n", tally.possible,
		      tally.busy, tally.blocked, tally.never);
	/* No answer is rare, or the test would say little. */
	assert_true(tally.possible > CASES / 5 && tally.blocked > CASES / 10 && tally.never > CASES / 20);
	assert_true(tally.busy > CASES / 5);
}

/* Compute instances at random places, and a wish for others: what busy ones need, and what the steps do. */
struct parts {
	uint8_t sizes[GS_MIG_COMPUTE_MAX];
	uint8_t count;
};

static struct parts random_parts(uint32_t slices)
{
	struct parts parts = {0};
	uint8_t starts[GS_MIG_COMPUTE_MAX];

	for (uint32_t tries = 1 + random_below(6); tries; tries--) {
		parts.sizes[parts.count] = (uint8_t)(1 + random_below(slices));
		parts.count += gs_mig_compute_arrange(slices, 0, parts.sizes, parts.count + 1u, starts);
	}
	return parts;
}

static uint32_t part_mask(uint8_t start, uint8_t size)
{
	return ((1U << size) - 1) << start;
}

/* Whether busy parts, at their places, leave room for all else that is wanted. */
static bool parts_possible(const struct gs_mig_instance *instance, const struct parts *wanted, uint32_t slices)
{
	struct parts rest = *wanted;
	uint8_t starts[GS_MIG_COMPUTE_MAX];
	uint32_t taken = 0;

	for (size_t i = 0; i < instance->compute_count; i++) {
		const struct gs_mig_compute *compute = &instance->compute[i];
		size_t at = 0;
		if (!compute->busy)
			continue;
		while (at < rest.count && rest.sizes[at] != compute->slices)
			at++;
		if (at == rest.count)
			return false;
		rest.sizes[at] = rest.sizes[--rest.count];
		taken |= part_mask(compute->start, compute->slices);
	}
	return gs_mig_compute_arrange(slices, taken, rest.sizes, rest.count, starts);
}

static void play_parts(const struct gs_mig_instance *instance, const struct gs_mig_plan *plan,
		       const struct parts *wanted)
{
	struct gs_mig_instance now = *instance;
	uint32_t taken = 0;

	for (size_t i = 0; i < now.compute_count; i++)
		taken |= part_mask(now.compute[i].start, now.compute[i].slices);
	for (size_t i = 0; i < plan->step_count; i++) {
		const struct gs_mig_step *step = &plan->steps[i];
		uint32_t mask = part_mask(step->compute_start[0], step->compute[0]);
		assert_int_equal(step->compute_count, 1);
		assert_int_equal(step->instance_id, instance->id);
		if (step->kind == GS_MIG_CREATE_COMPUTE) {
			assert_false(taken & mask);
			now.compute[now.compute_count++] =
				(struct gs_mig_compute){.id = 99, .slices = step->compute[0]};
			taken |= mask;
			continue;
		}
		assert_int_equal(step->kind, GS_MIG_DESTROY_COMPUTE);
		size_t at = 0;
		while (at < now.compute_count && now.compute[at].id != step->compute_id)
			at++;
		assert_true(at < now.compute_count && !now.compute[at].busy);
		now.compute[at] = now.compute[--now.compute_count];
		taken &= ~mask;
	}
	assert_int_equal(now.compute_count, wanted->count);
	for (size_t i = 0; i < wanted->count; i++) {
		size_t at = 0;
		while (at < now.compute_count && now.compute[at].slices != wanted->sizes[i])
			at++;
		assert_true(at < now.compute_count);
		now.compute[at] = now.compute[--now.compute_count];
	}
}

static void test_compute_instances(void **state)
{
	(void)state;
	const struct gs_mig_gpu gpu = mig_fixture("A100-80GB");
	uint32_t possible = 0, kept = 0;

	for (uint32_t i = 0; i < CASES; i++) {
		struct gs_mig_layout layout = {.count = 1};
		struct gs_mig_instance *instance = &layout.instances[0];
		struct gs_mig_wish wish = {.count = 1};
		struct gs_mig_plan plan;
		uint8_t profile = (uint8_t)(3 + random_below(4)), starts[GS_MIG_COMPUTE_MAX];
		uint32_t slices = gpu.profiles[profile].compute_slices;
		struct parts have = random_parts(slices), wanted = random_parts(slices);

		assert_true(gs_mig_compute_arrange(slices, 0, have.sizes, have.count, starts));
		*instance = (struct gs_mig_instance){
			.id = 7, .profile = profile, .place = gpu.profiles[profile].placements[0]};
		for (uint8_t k = 0; k < have.count; k++) {
			bool busy = random_below(4) == 0;
			instance->compute[instance->compute_count++] = (struct gs_mig_compute){
				.id = k, .start = starts[k], .slices = have.sizes[k], .busy = busy};
			instance->busy = instance->busy || busy;
		}
		wish.items[0] = (struct gs_mig_want){
			.profile = profile, .start = GS_MIG_ANYWHERE, .compute_count = wanted.count};
		memcpy(wish.items[0].compute, wanted.sizes, wanted.count);
		int result = gs_mig_plan_make(&gpu, &layout, &wish, GS_MIG_BECOME, &plan);
		assert_int_equal(result, parts_possible(instance, &wanted, slices) ? 0 : -1);
		assert_int_equal(plan.blocker_count, result ? 1 : 0);
		if (result)
			continue;
		assert_int_equal(plan.created + plan.destroyed, 0);
		assert_int_equal(plan.step_count, plan.compute_created + plan.compute_destroyed);
		play_parts(instance, &plan, &wanted);
		possible++;
		kept += have.count - plan.compute_destroyed;
	}
	assert_true(possible > CASES / 4 && possible < CASES && kept > CASES / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_all_arrangements),
		cmocka_unit_test(test_compute_instances),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
