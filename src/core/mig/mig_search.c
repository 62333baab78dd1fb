#include "core/mig/mig_search.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* The value of a way, as one number: the more important, the higher its digits. Each digit has room for whatever 16
 * instances can add to it. */
enum { OPEN_BITS = 13, WAIT_BITS = 5, COMPUTE_BITS = 8, IDLE_BITS = 5, BUSY_BITS = 5 };
#define WORTH_WAIT    ((int64_t)1 << OPEN_BITS)       /* a new instance needs the slices of an old one */
#define WORTH_COMPUTE (WORTH_WAIT << WAIT_BITS)       /* a compute instance goes */
#define WORTH_IDLE    (WORTH_COMPUTE << COMPUTE_BITS) /* an idle GPU instance stays */
#define WORTH_BUSY    (WORTH_IDLE << IDLE_BITS)       /* a busy one stays */
#define WORTH_BASE    (WORTH_BUSY << (BUSY_BITS + 1)) /* above all of these: every way that exists is above 0 */
#define NO_WAY        ((int64_t)-1)

struct search {
	const struct gs_mig_gpu *gpu;
	const struct gs_mig_layout *layout;
	enum gs_mig_goal goal;
	const struct gs_mig_want *wants; /* equal ones beside one another */
	size_t count;
	/* Of each want, at each place of its profile; a gain may be NO_WAY. */
	int64_t gain[GS_MIG_INSTANCES_MAX][GS_MIG_SLICES_MAX];
	uint16_t mask[GS_MIG_INSTANCES_MAX][GS_MIG_SLICES_MAX];
	uint8_t place_count[GS_MIG_INSTANCES_MAX + 1];
	bool again[GS_MIG_INSTANCES_MAX + 1]; /* equal to the want before it */
	uint8_t size[GS_MIG_INSTANCES_MAX][GS_MIG_SLICES_MAX];
	/* Of a want and those after it: slices that they take at least, and how many are equal to it. */
	uint16_t slices_left[GS_MIG_INSTANCES_MAX + 1], equal_left[GS_MIG_INSTANCES_MAX + 1];
	/* The result of gs_mig_open_places for each set of slices; filled once it is needed often. */
	uint16_t open[1 << GS_MIG_SLICES_MAX];
	unsigned open_asked;
	/* By row and taken slices, once the bit of the same position says that it is known. A want has one row, or one for each first place when it is equal
	 * to the one before it; the last row is that of full arrangements. */
	int64_t *best;
	uint64_t *known;
	size_t rows[GS_MIG_INSTANCES_MAX + 1];
};

static const struct gs_mig_profile *profile_of(const struct search *s, size_t want)
{
	return &s->gpu->profiles[s->wants[want].profile];
}

/* Whether a busy instance is held by this compute instance; without marks, by all of them. */
static bool compute_busy(const struct gs_mig_instance *instance, size_t compute)
{
	bool marked = false;
	for (size_t i = 0; i < instance->compute_count; i++)
		marked = marked || instance->compute[i].busy;
	return instance->busy && (!marked || instance->compute[compute].busy);
}

/* Whether what remains of the wanted compute instances fits beside those kept, and if so, where. */
static bool try_kept(const struct gs_mig_instance *instance, const struct gs_mig_want *want, uint32_t slices,
		     uint32_t kept, struct gs_mig_compute_change *change)
{
	uint32_t taken = 0, used = 0;

	*change = (struct gs_mig_compute_change){.kept = kept};
	for (size_t i = 0; i < instance->compute_count; i++) {
		const struct gs_mig_compute *compute = &instance->compute[i];
		if (!(kept & 1U << i)) {
			if (compute_busy(instance, i))
				return false;
			change->destroyed++;
			continue;
		}
		size_t match = 0;
		while (match < want->compute_count && ((used & 1U << match) || want->compute[match] != compute->slices))
			match++;
		if (match == want->compute_count)
			return false;
		used |= 1U << match;
		taken |= ((1U << compute->slices) - 1) << compute->start;
	}
	for (size_t i = 0; i < want->compute_count; i++)
		if (!(used & 1U << i))
			change->created[change->created_count++] = want->compute[i];
	return gs_mig_compute_arrange(slices, taken, change->created, change->created_count, change->starts);
}

/* The fewest compute instances that must go for an instance to become the wanted one; false: a busy one would. */
static bool change_compute(const struct gs_mig_instance *instance, const struct gs_mig_want *want, uint32_t slices,
			   struct gs_mig_compute_change *best)
{
	bool found = false;
	struct gs_mig_compute_change change;

	for (uint32_t gone = 0; gone < 1U << instance->compute_count; gone++) {
		uint32_t kept = ~gone & ((1U << instance->compute_count) - 1);
		if (found && __builtin_popcount(gone) >= best->destroyed)
			continue;
		if (!try_kept(instance, want, slices, kept, &change))
			continue;
		*best = change;
		found = true;
		if (!gone)
			break;
	}
	return found;
}

/* The instance at that very place that is the wanted one. */
static int instance_at(const struct search *s, size_t want, size_t place)
{
	const struct gs_mig_placement *wanted = &profile_of(s, want)->placements[place];
	for (size_t i = 0; i < s->layout->count; i++) {
		const struct gs_mig_instance *instance = &s->layout->instances[i];
		if (instance->profile == s->wants[want].profile && instance->place.start == wanted->start &&
		    instance->place.size == wanted->size)
			return (int)i;
	}
	return -1;
}

/* -1: nothing stays there. */
static int stays_at(const struct search *s, size_t want, size_t place, struct gs_mig_compute_change *change)
{
	int at = s->goal == GS_MIG_BECOME ? instance_at(s, want, place) : -1;
	if (at < 0 ||
	    !change_compute(&s->layout->instances[at], &s->wants[want], profile_of(s, want)->compute_slices, change))
		return -1;
	return at;
}

static int64_t gain_at(const struct search *s, size_t want, size_t place)
{
	struct gs_mig_compute_change change;

	if (s->wants[want].start != GS_MIG_ANYWHERE &&
	    s->wants[want].start != profile_of(s, want)->placements[place].start)
		return NO_WAY;
	if (s->goal == GS_MIG_ADD)
		return 0;
	int stays = stays_at(s, want, place, &change);
	if (stays >= 0)
		return (s->layout->instances[stays].busy ? WORTH_BUSY : WORTH_IDLE) - change.destroyed * WORTH_COMPUTE;
	return s->mask[want][place] & gs_mig_layout_mask(s->layout) ? -WORTH_WAIT : 0;
}

/* One pass over each slice adds up, for every set of free slices, what lies within it. */
static void fill_open(struct search *s)
{
	uint32_t slices = s->gpu->slice_count, all = (1U << slices) - 1;

	memset(s->open, 0, sizeof s->open);
	for (size_t i = 0; i < s->gpu->open_count; i++)
		s->open[all & ~s->gpu->open[i].mask] += s->gpu->open[i].weight;
	for (uint32_t slice = 0; slice < slices; slice++)
		for (uint32_t taken = 0; taken <= all; taken++)
			if (!(taken & 1U << slice))
				s->open[taken] += s->open[taken | 1U << slice];
}

static uint32_t open_places(struct search *s, uint32_t taken)
{
	enum { OFTEN = 64 };
	if (s->open_asked < OFTEN) {
		s->open_asked++;
		return gs_mig_open_places(s->gpu, taken);
	}
	if (s->open_asked++ == OFTEN)
		fill_open(s);
	return s->open[taken];
}

/* The value of a full arrangement by itself, given all its slices. */
static int64_t worth_of(struct search *s, uint32_t taken)
{
	int64_t worth = WORTH_BASE;

	if (s->goal == GS_MIG_ADD) {
		for (size_t i = 0; i < s->layout->count; i++) {
			const struct gs_mig_instance *instance = &s->layout->instances[i];
			if (!(gs_mig_place_mask(instance->place) & taken))
				worth += instance->busy ? WORTH_BUSY : WORTH_IDLE;
		}
		taken |= gs_mig_layout_mask(s->layout);
	}
	return worth + open_places(s, taken);
}

static int64_t search(struct search *s, size_t want, size_t first_place, uint32_t taken, uint32_t free_slices);

/* The worth of the best way for this want and those after it, this one being at `place`. */
static int64_t search_at(struct search *s, size_t want, size_t place, uint32_t taken, uint32_t free_slices)
{
	uint32_t mask = s->mask[want][place];
	if ((taken & mask) || s->gain[want][place] == NO_WAY)
		return NO_WAY;
	int64_t rest = search(s, want + 1, s->again[want + 1] ? place + 1 : 0, taken | mask,
			      free_slices - s->size[want][place]);
	return rest == NO_WAY ? NO_WAY : rest + s->gain[want][place];
}

/* Equal wants take rising places, so that no arrangement is looked at twice. The best choice for the remaining wants
 * then depends only on the first allowed place and on the slices in use. */
static int64_t search(struct search *s, size_t want, size_t first_place, uint32_t taken, uint32_t free_slices)
{
	if (free_slices < s->slices_left[want] || first_place + s->equal_left[want] > s->place_count[want])
		return NO_WAY;
	size_t at = ((s->rows[want] + first_place) << s->gpu->slice_count) + taken;
	if (s->known[at / 64] >> at % 64 & 1)
		return s->best[at];
	int64_t best = want == s->count ? worth_of(s, taken) : NO_WAY;
	/* The best choice from the next place on is known already, or another way will need it too. */
	size_t end = want == s->count ? 0 : s->again[want] ? first_place + 1 : s->place_count[want];
	for (size_t place = first_place; place < end; place++) {
		int64_t worth = search_at(s, want, place, taken, free_slices);
		best = worth > best ? worth : best;
	}
	if (s->again[want]) {
		int64_t later = search(s, want, first_place + 1, taken, free_slices);
		best = later > best ? later : best;
	}
	s->known[at / 64] |= (uint64_t)1 << at % 64;
	return s->best[at] = best;
}

/* Walks the best way once more; of equal places the lowest. */
static void choose(struct search *s, int64_t worth, struct gs_mig_way *way)
{
	uint32_t taken = 0, free_slices = s->gpu->slice_count;
	size_t first_place = 0;

	for (size_t want = 0; want < s->count; want++) {
		size_t place = first_place;
		while (search_at(s, want, place, taken, free_slices) != worth)
			place++;
		way->places[want] = profile_of(s, want)->placements[place];
		way->stays[want] = stays_at(s, want, place, &way->changes[want]);
		worth -= s->gain[want][place];
		taken |= s->mask[want][place];
		free_slices -= s->size[want][place];
		first_place = s->again[want + 1] ? place + 1 : 0;
	}
	for (size_t i = 0; i < s->layout->count; i++) {
		const struct gs_mig_instance *instance = &s->layout->instances[i];
		bool stays = s->goal == GS_MIG_ADD ? !(gs_mig_place_mask(instance->place) & taken) : !instance->busy;
		for (size_t want = 0; want < s->count; want++)
			stays = stays || way->stays[want] == (int)i;
		way->blockers |= stays ? 0 : 1U << i;
	}
}

/* Large ones first, since they leave the fewest ways to go on; beyond that any order that keeps equal ones together. */
static int compare_wants(const void *left, const void *right, void *context)
{
	const struct gs_mig_want *a = left, *b = right;
	const struct gs_mig_gpu *gpu = context;
	int a_size = gpu->profiles[a->profile].placements[0].size,
	    b_size = gpu->profiles[b->profile].placements[0].size;

	if (a_size != b_size)
		return b_size - a_size;
	if (a->profile != b->profile)
		return (int)a->profile - (int)b->profile;
	if (a->start != b->start)
		return (int)b->start - (int)a->start;
	if (a->compute_count != b->compute_count)
		return (int)a->compute_count - (int)b->compute_count;
	return memcmp(a->compute, b->compute, a->compute_count);
}

bool gs_mig_find_way(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, const struct gs_mig_wish *wish,
		     enum gs_mig_goal goal, struct gs_mig_way *way)
{
	struct search s = {.gpu = gpu, .layout = layout, .goal = goal, .wants = way->wants, .count = wish->count};

	*way = (struct gs_mig_way){.count = wish->count};
	memcpy(way->wants, wish->items, wish->count * sizeof way->wants[0]);
	qsort_r(way->wants, way->count, sizeof way->wants[0], compare_wants, (void *)gpu);
	for (size_t want = 0; want < s.count; want++) {
		const struct gs_mig_profile *profile = profile_of(&s, want);
		s.place_count[want] = profile->placement_count;
		for (size_t place = 0; place < profile->placement_count; place++) {
			s.mask[want][place] = (uint16_t)gs_mig_place_mask(profile->placements[place]);
			s.size[want][place] = (uint8_t)__builtin_popcount(s.mask[want][place]);
			s.gain[want][place] = gain_at(&s, want, place);
		}
		s.again[want] = want && gs_mig_want_same(&s.wants[want - 1], &s.wants[want]);
		s.rows[want + 1] = s.rows[want] + (s.again[want] ? profile->placement_count + 1u : 1);
	}
	for (size_t want = s.count; want-- > 0;) {
		uint8_t smallest = UINT8_MAX;
		for (size_t place = 0; place < s.place_count[want]; place++)
			smallest = s.size[want][place] < smallest ? s.size[want][place] : smallest;
		s.slices_left[want] = (uint16_t)(s.slices_left[want + 1] + smallest);
		s.equal_left[want] = s.again[want + 1] ? (uint16_t)(s.equal_left[want + 1] + 1) : 1;
	}
	size_t states = (s.rows[s.count] + 1) << gpu->slice_count;
	s.best = gs_malloc(states * sizeof *s.best);
	s.known = gs_calloc(states / 64 + 1, sizeof *s.known);
	int64_t worth = search(&s, 0, 0, 0, gpu->slice_count);
	if (worth != NO_WAY)
		choose(&s, worth, way);
	free(s.best);
	free(s.known);
	return worth != NO_WAY;
}
