#include "core/mig/mig_plan.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/mig/mig_search.h"

static void say(struct gs_mig_plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct gs_mig_plan *plan, const char *format, ...)
{
	size_t length = strlen(plan->reason);
	va_list args;

	va_start(args, format);
	vsnprintf(plan->reason + length, sizeof plan->reason - length, format, args);
	va_end(args);
}

/* "GPU instance 9 (1g.10gb on slice 2, used by process 4711, not in the spec)". */
static void say_instance(struct gs_mig_plan *plan, const struct gs_mig_gpu *gpu, const struct gs_mig_instance *instance,
			 bool wished)
{
	bool known = instance->profile < gpu->profile_count;
	const char *name = known ? gpu->profiles[instance->profile].name : "unknown profile";
	unsigned start = instance->place.start, size = instance->place.size;

	say(plan, "GPU instance %u (%s on slice%s %u", instance->id, name, size > 1 ? "s" : "", start);
	if (size > 1)
		say(plan, "-%u", start + size - 1);
	if (!instance->busy)
		say(plan, ", idle");
	else if (instance->holder[0])
		say(plan, ", used by %s", instance->holder);
	else
		say(plan, ", in use");
	say(plan, wished ? ")" : ", not wished for)");
}

/* Before the item at `at` of `count`: nothing, a comma, or the word before the last. */
static const char *separator(size_t at, size_t count, const char *last)
{
	if (!at)
		return "";
	return at + 1 < count ? ", " : last;
}

static bool is_wanted(const struct gs_mig_wish *wish, uint8_t profile)
{
	for (size_t i = 0; i < wish->count; i++)
		if (wish->items[i].profile == profile)
			return true;
	return false;
}

/* " without GPU instance 7 (...) and GPU instance 9 (...)". With a spec: says which of them it does not contain. */
static void say_without(struct gs_mig_plan *plan, const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout,
			const struct gs_mig_wish *wish, uint32_t blockers)
{
	size_t count = (size_t)__builtin_popcount(blockers), told = 0;

	say(plan, " without ");
	for (size_t i = 0; i < layout->count; i++) {
		const struct gs_mig_instance *instance = &layout->instances[i];
		if (!(blockers & 1U << i))
			continue;
		say(plan, "%s", separator(told++, count, " and "));
		say_instance(plan, gpu, instance, !wish || is_wanted(wish, instance->profile));
	}
}

/* --- counts and engines, which hold whatever the places are --- */

struct demand {
	uint32_t counts[GS_MIG_PROFILES_MAX];
	uint64_t engines[GS_MIG_ENGINES];
};

static void demand_add(struct demand *demand, const struct gs_mig_gpu *gpu, uint8_t profile)
{
	if (profile >= gpu->profile_count)
		return;
	demand->counts[profile]++;
	for (size_t i = 0; i < GS_MIG_ENGINES; i++)
		demand->engines[i] += gpu->profiles[profile].engines[i];
}

/* The engine that more is wanted of than there is, or -1. */
static int engine_short(const struct demand *demand, const struct gs_mig_gpu *gpu)
{
	for (int i = 0; i < GS_MIG_ENGINES; i++)
		if (gpu->engines[i] && demand->engines[i] > gpu->engines[i])
			return i;
	return -1;
}

/* The instances of the spec; when adding, also those that exist, except the blockers. */
static struct demand demand_of(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout,
			       const struct gs_mig_wish *wish, enum gs_mig_goal goal, uint32_t blockers)
{
	struct demand demand = {0};

	for (size_t i = 0; i < wish->count; i++)
		demand_add(&demand, gpu, wish->items[i].profile);
	for (size_t i = 0; goal == GS_MIG_ADD && i < layout->count; i++)
		if (!(blockers & 1U << i))
			demand_add(&demand, gpu, layout->instances[i].profile);
	return demand;
}

/* The first instance, if possible an idle one, of this profile, or with this engine (-1: any). 0: there is none. */
static uint32_t find_user(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, int profile, int engine,
			  uint32_t but)
{
	for (int busy = 0; busy < 2; busy++) {
		for (size_t i = 0; i < layout->count; i++) {
			uint8_t its = layout->instances[i].profile;
			if (layout->instances[i].busy == busy && !(but & 1U << i) && its < gpu->profile_count &&
			    (profile < 0 || its == profile) && (engine < 0 || gpu->profiles[its].engines[engine] > 0))
				return 1U << i;
		}
	}
	return 0;
}

/* false: more of a profile than there can ever be; when adding, blockers are those of it that are there. */
static bool check_counts(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout,
			 const struct gs_mig_wish *wish, enum gs_mig_goal goal, uint32_t *blockers,
			 struct gs_mig_plan *plan)
{
	struct demand demand = demand_of(gpu, layout, wish, goal, 0);
	struct gs_error err;

	if (gs_mig_wish_check(gpu, wish, &err)) {
		say(plan, "%s", err.text);
		return false;
	}
	for (size_t i = 0; i < wish->count; i++) {
		uint8_t at = wish->items[i].profile;
		const struct gs_mig_profile *profile = &gpu->profiles[at];
		if (demand.counts[at] <= profile->max_count)
			continue;
		for (uint32_t over = demand.counts[at] - profile->max_count; over; over--)
			*blockers |= find_user(gpu, layout, at, -1, *blockers);
		say(plan, "at most %u of %s can be on one GPU; there is room", profile->max_count, profile->name);
		say_without(plan, gpu, layout, NULL, *blockers);
		return false;
	}
	return true;
}

/* false: more of an engine than there is; when adding, blockers are those that use it. */
static bool check_engines(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout,
			  const struct gs_mig_wish *wish, enum gs_mig_goal goal, uint32_t *blockers,
			  struct gs_mig_plan *plan)
{
	static const char *const names[] = {"copy engines", "video decoders", "video encoders", "JPEG decoders",
					    "optical flow engines"};
	struct demand demand = demand_of(gpu, layout, wish, goal, *blockers);
	int engine = engine_short(&demand, gpu);
	uint32_t user;

	if (engine < 0)
		return true;
	say(plan, "%s they need %" PRIu64 " %s, and the GPU has %u",
	    goal == GS_MIG_ADD ? "with what the GPU has" : "together", demand.engines[engine], names[engine],
	    gpu->engines[engine]);
	if (goal == GS_MIG_BECOME)
		return false;
	while (engine_short(&demand, gpu) == engine && (user = find_user(gpu, layout, -1, engine, *blockers))) {
		*blockers |= user;
		demand = demand_of(gpu, layout, wish, goal, *blockers);
	}
	say(plan, "; they are free");
	say_without(plan, gpu, layout, NULL, *blockers);
	return false;
}

/* --- why not --- */

/* Which of the wanted instances is one too many: the smallest without which the rest would fit on an empty GPU. */
static const struct gs_mig_profile *one_too_many(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish)
{
	static const struct gs_mig_layout empty;
	const struct gs_mig_profile *best = NULL;
	struct gs_mig_way way;

	for (size_t i = 0; i < wish->count; i++) {
		const struct gs_mig_profile *profile = &gpu->profiles[wish->items[i].profile];
		struct gs_mig_wish rest = *wish;
		rest.items[i] = rest.items[--rest.count];
		if (best && best->placements[0].size <= profile->placements[0].size)
			continue;
		if (gs_mig_find_way(gpu, &empty, &rest, GS_MIG_BECOME, &way))
			best = profile;
	}
	return best;
}

static void say_places(struct gs_mig_plan *plan, const struct gs_mig_profile *profile)
{
	say(plan, "%s can begin at slice ", profile->name);
	for (size_t i = 0; i < profile->placement_count; i++)
		say(plan, "%s%u", separator(i, profile->placement_count, " or "), profile->placements[i].start);
}

/* Whether two of the wanted instances were given places that overlap; says which. */
static bool say_overlap(struct gs_mig_plan *plan, const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish)
{
	for (size_t i = 0; i < wish->count; i++) {
		const struct gs_mig_want *a = &wish->items[i];
		const struct gs_mig_profile *first = &gpu->profiles[a->profile];
		for (size_t k = i + 1; k < wish->count && a->start != GS_MIG_ANYWHERE; k++) {
			const struct gs_mig_want *b = &wish->items[k];
			const struct gs_mig_profile *second = &gpu->profiles[b->profile];
			if (b->start == GS_MIG_ANYWHERE || a->start >= b->start + second->placements[0].size ||
			    b->start >= a->start + first->placements[0].size)
				continue;
			if (a->profile == b->profile && a->start == b->start)
				say(plan, "%s at slice %d is asked for twice; one instance can be there", first->name,
				    a->start);
			else
				say(plan, "%s at slice %d and %s at slice %d are both asked for, and they overlap",
				    first->name, a->start, second->name, b->start);
			return true;
		}
	}
	return false;
}

static void explain_never(const struct gs_mig_gpu *gpu, const struct gs_mig_wish *wish, struct gs_mig_plan *plan)
{
	GS_AUTO_FREE char *text = gs_mig_wish_text(gpu, wish);
	unsigned slices = 0;
	bool told[GS_MIG_PROFILES_MAX] = {false};

	if (say_overlap(plan, gpu, wish))
		return;
	for (size_t i = 0; i < wish->count; i++)
		slices += gpu->profiles[wish->items[i].profile].placements[0].size;
	say(plan, "%s can't be on one GPU together, not even on an empty one: ", text);
	if (slices > gpu->slice_count) {
		say(plan, "they take %u memory slices, and it has %u", slices, gpu->slice_count);
	} else {
		for (size_t i = 0; i < wish->count; i++) {
			uint8_t profile = wish->items[i].profile;
			if (told[profile])
				continue;
			say(plan, "%s", i ? "; " : "");
			say_places(plan, &gpu->profiles[profile]);
			told[profile] = true;
		}
	}
	const struct gs_mig_profile *extra = one_too_many(gpu, wish);
	if (extra)
		say(plan, "; without one %s the rest would fit", extra->name);
}

static void explain_blockers(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout,
			     const struct gs_mig_wish *wish, enum gs_mig_goal goal, uint32_t blockers,
			     struct gs_mig_plan *plan)
{
	GS_AUTO_FREE char *text = gs_mig_wish_text(gpu, wish);

	if (goal == GS_MIG_ADD)
		say(plan, "there is no place for %s beside what the GPU has; there is", text);
	else if (!wish->count)
		say(plan, "all instances of the GPU must go for that, and none in use is touched; it can be done");
	else
		say(plan,
		    "the GPU can't become %s: no arrangement of it leaves every instance in use where it is; there is "
		    "one",
		    text);
	say_without(plan, gpu, layout, goal == GS_MIG_BECOME && wish->count ? wish : NULL, blockers);
}

/* --- the order of steps --- */

struct sequence {
	const struct gs_mig_gpu *gpu;
	const struct gs_mig_layout *layout;
	const struct gs_mig_way *way;
	struct gs_mig_plan *plan;
	uint32_t present; /* bit n: instance n of the layout is still there */
	uint32_t doomed;  /* bit n: and will go */
	uint32_t created; /* bit n: want n is there */
};

static struct gs_mig_step *push(struct sequence *s, enum gs_mig_step_kind kind)
{
	struct gs_mig_step *step = &s->plan->steps[s->plan->step_count++];
	*step = (struct gs_mig_step){.kind = kind};
	return step;
}

static void destroy(struct sequence *s, uint32_t which)
{
	for (size_t i = 0; i < s->layout->count; i++) {
		const struct gs_mig_instance *instance = &s->layout->instances[i];
		if (!(which & 1U << i))
			continue;
		struct gs_mig_step *step = push(s, GS_MIG_DESTROY_INSTANCE);
		step->profile = instance->profile;
		step->place = instance->place;
		step->instance_id = instance->id;
		step->compute_count = instance->compute_count;
		for (size_t k = 0; k < instance->compute_count; k++) {
			step->compute[k] = instance->compute[k].slices;
			step->compute_start[k] = instance->compute[k].start;
		}
		s->plan->destroyed++;
	}
	s->present &= ~which;
	s->doomed &= ~which;
}

static void create(struct sequence *s, size_t want)
{
	const struct gs_mig_want *wanted = &s->way->wants[want];
	struct gs_mig_step *step = push(s, GS_MIG_CREATE_INSTANCE);

	step->profile = wanted->profile;
	step->place = s->way->places[want];
	step->compute_count = wanted->compute_count;
	memcpy(step->compute, wanted->compute, wanted->compute_count);
	gs_mig_compute_arrange(s->gpu->profiles[wanted->profile].compute_slices, 0, step->compute, step->compute_count,
			       step->compute_start);
	s->created |= 1U << want;
	s->plan->created++;
}

static uint32_t overlapping(const struct sequence *s, struct gs_mig_placement place)
{
	uint32_t found = 0;
	for (size_t i = 0; i < s->layout->count; i++)
		if (gs_mig_place_mask(s->layout->instances[i].place) & gs_mig_place_mask(place))
			found |= 1U << i;
	return found & s->doomed;
}

/* One of the doomed whose end makes room in counts or engines for a profile; 0: there is room. */
static uint32_t one_short(const struct sequence *s, uint8_t profile, uint32_t gone)
{
	struct demand demand = {0};

	demand_add(&demand, s->gpu, profile);
	for (size_t i = 0; i < s->layout->count; i++)
		if (s->present & ~gone & 1U << i)
			demand_add(&demand, s->gpu, s->layout->instances[i].profile);
	for (size_t i = 0; i < s->way->count; i++)
		if (s->created & 1U << i)
			demand_add(&demand, s->gpu, s->way->wants[i].profile);
	bool count_short = demand.counts[profile] > s->gpu->profiles[profile].max_count;
	int engine = engine_short(&demand, s->gpu);
	for (size_t i = 0; i < s->layout->count && (count_short || engine >= 0); i++) {
		uint8_t other = s->layout->instances[i].profile;
		if (!(s->doomed & ~gone & 1U << i) || other >= s->gpu->profile_count)
			continue;
		if (count_short ? other == profile : s->gpu->profiles[other].engines[engine] > 0)
			return 1U << i;
	}
	return 0;
}

/* The instances that must go before this one can be created. */
static uint32_t needed_for(const struct sequence *s, size_t want)
{
	uint32_t gone = overlapping(s, s->way->places[want]), more;
	while ((more = one_short(s, s->way->wants[want].profile, gone)))
		gone |= more;
	return gone;
}

/* Creates what can be created; when nothing can, ends the fewest instances that let something. */
static void sequence_instances(struct sequence *s)
{
	for (;;) {
		size_t best = SIZE_MAX;
		uint32_t best_gone = 0;
		for (size_t want = 0; want < s->way->count; want++) {
			if (s->way->stays[want] >= 0 || (s->created & 1U << want))
				continue;
			uint32_t gone = needed_for(s, want);
			if (best != SIZE_MAX && __builtin_popcount(gone) >= __builtin_popcount(best_gone))
				continue;
			best = want;
			best_gone = gone;
		}
		if (best == SIZE_MAX)
			return;
		destroy(s, best_gone);
		create(s, best);
	}
}

static void sequence_compute(struct sequence *s, size_t want)
{
	const struct gs_mig_instance *instance = &s->layout->instances[s->way->stays[want]];
	const struct gs_mig_compute_change *change = &s->way->changes[want];

	for (size_t i = 0; i < (size_t)instance->compute_count + change->created_count; i++) {
		bool old = i < instance->compute_count;
		if (old && (change->kept & 1U << i))
			continue;
		size_t fresh = i - instance->compute_count;
		struct gs_mig_step *step = push(s, old ? GS_MIG_DESTROY_COMPUTE : GS_MIG_CREATE_COMPUTE);
		step->profile = instance->profile;
		step->place = instance->place;
		step->instance_id = instance->id;
		step->compute_id = old ? instance->compute[i].id : 0;
		step->compute_count = 1;
		step->compute[0] = old ? instance->compute[i].slices : change->created[fresh];
		step->compute_start[0] = old ? instance->compute[i].start : change->starts[fresh];
		*(old ? &s->plan->compute_destroyed : &s->plan->compute_created) += 1;
	}
}

static void make_sequence(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, enum gs_mig_goal goal,
			  const struct gs_mig_way *way, struct gs_mig_plan *plan)
{
	struct sequence s = {.gpu = gpu, .layout = layout, .way = way, .plan = plan};

	s.present = (1U << layout->count) - 1;
	s.doomed = goal == GS_MIG_BECOME ? s.present : 0;
	for (size_t want = 0; want < way->count; want++)
		if (way->stays[want] >= 0)
			s.doomed &= ~(1U << way->stays[want]);
	sequence_instances(&s);
	for (size_t want = 0; want < way->count; want++)
		if (way->stays[want] >= 0)
			sequence_compute(&s, want);
	destroy(&s, s.doomed);
}

static bool check_input(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout,
			const struct gs_mig_wish *wish, struct gs_mig_plan *plan)
{
	bool good = layout->count <= GS_MIG_INSTANCES_MAX && wish->count <= GS_MIG_INSTANCES_MAX;

	for (size_t i = 0; good && i < layout->count; i++) {
		const struct gs_mig_instance *instance = &layout->instances[i];
		good = instance->compute_count <= GS_MIG_COMPUTE_MAX;
		for (size_t k = 0; good && k < instance->compute_count; k++)
			good = instance->compute[k].start + instance->compute[k].slices <= GS_MIG_SLICES_MAX;
	}
	for (size_t i = 0; good && i < wish->count; i++) {
		const struct gs_mig_want *want = &wish->items[i];
		uint8_t starts[GS_MIG_COMPUTE_MAX];
		good = want->profile < gpu->profile_count && want->compute_count <= GS_MIG_COMPUTE_MAX &&
		       gs_mig_compute_arrange(gpu->profiles[want->profile].compute_slices, 0, want->compute,
					      want->compute_count, starts);
	}
	if (!good)
		say(plan, "what the driver reports, or what is wished, is more than a GPU can have");
	return good;
}

/* true: there is a way, without blockers. */
static bool find_way(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, const struct gs_mig_wish *wish,
		     enum gs_mig_goal goal, struct gs_mig_way *way, struct gs_mig_plan *plan)
{
	*way = (struct gs_mig_way){0};
	if (!check_counts(gpu, layout, wish, goal, &way->blockers, plan))
		return false;
	if (!gs_mig_find_way(gpu, layout, wish, goal, way)) {
		explain_never(gpu, wish, plan);
		return false;
	}
	if (!check_engines(gpu, layout, wish, goal, &way->blockers, plan))
		return false;
	if (way->blockers)
		explain_blockers(gpu, layout, wish, goal, way->blockers, plan);
	return !way->blockers;
}

int gs_mig_plan_make(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, const struct gs_mig_wish *wish,
		     enum gs_mig_goal goal, struct gs_mig_plan *plan)
{
	struct gs_mig_way way;

	*plan = (struct gs_mig_plan){0};
	if (!check_input(gpu, layout, wish, plan))
		return -1;
	if (find_way(gpu, layout, wish, goal, &way, plan)) {
		make_sequence(gpu, layout, goal, &way, plan);
		return 0;
	}
	for (uint8_t i = 0; i < layout->count; i++)
		if (way.blockers & 1U << i)
			plan->blockers[plan->blocker_count++] = i;
	return -1;
}
