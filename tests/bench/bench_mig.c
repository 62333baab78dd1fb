/* What MIG costs, beside its targets: planning, for which no driver is asked, and changes of eight GPUs.
 * Run by `make bench` as: gpushare sim 8xA100-80GB --mig none -- bench_mig */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/core/mig_fixture.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "core/mig/mig_config.h"
#include "core/mig/mig_plan.h"
#include "figure.h"
#include "mig/mig_apply.h"

enum { CASES = 20000, ROUNDS = 9, GPUS = 8 };

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((random_state >> 33) % limit);
}

/* Instances at random places, until a few in a row find theirs taken. */
static struct gs_mig_layout random_layout(const struct gs_mig_gpu *gpu)
{
	struct gs_mig_layout layout = {0};
	uint32_t taken = 0;

	for (uint32_t tries = 4 + random_below(16); tries; tries--) {
		uint8_t profile = (uint8_t)random_below(gpu->profile_count);
		const struct gs_mig_profile *p = &gpu->profiles[profile];
		struct gs_mig_placement place = p->placements[random_below(p->placement_count)];
		if (taken & gs_mig_place_mask(place))
			continue;
		taken |= gs_mig_place_mask(place);
		layout.instances[layout.count] =
			(struct gs_mig_instance){.id = layout.count,
						 .profile = profile,
						 .place = place,
						 .busy = random_below(4) == 0,
						 .compute = {{.slices = (uint8_t)p->compute_slices}},
						 .compute_count = 1};
		layout.count++;
	}
	return layout;
}

/* A wish that fits on an empty GPU, and sometimes one more, so that the search goes deep. */
static void random_case(const struct gs_mig_gpu *gpu, struct gs_mig_layout *layout, struct gs_mig_wish *wish)
{
	struct gs_mig_layout other = random_layout(gpu);
	*layout = random_layout(gpu);
	gs_mig_wish_from_layout(gpu, &other, wish);
	if (random_below(4) == 0)
		gs_mig_wish_add(gpu, gpu->profiles[random_below(gpu->profile_count)].name, 1, wish, NULL);
}

static double plan_us(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, const struct gs_mig_wish *wish)
{
	struct gs_mig_plan plan;
	double best = 1e9;
	for (int round = 0; round < ROUNDS; round++) {
		double begin = now();
		gs_mig_plan_make(gpu, layout, wish, GS_MIG_BECOME, &plan);
		double took = (now() - begin) * 1e6;
		best = took < best ? took : best;
	}
	return best;
}

/* The slowest of many cases; of each the least disturbed round. */
static void measure_worst(const char *name, const struct gs_mig_gpu *gpu)
{
	struct gs_mig_layout layout;
	struct gs_mig_wish wish;
	double worst = 0, sum = 0;
	char note[64];

	for (int i = 0; i < CASES; i++) {
		random_case(gpu, &layout, &wish);
		double took = plan_us(gpu, &layout, &wish);
		worst = took > worst ? took : worst;
		sum += took;
	}
	snprintf(note, sizeof note, "worst of %d cases, mean %.1f us", CASES, sum / CASES);
	row(name, worst, "us", 1000, note);
}

static void die(const char *what, const struct gs_error *err)
{
	fprintf(stderr, "bench_mig: %s: %s\n", what, err->text);
	exit(1);
}

struct change {
	uint32_t created, destroyed;                 /* GPU instances */
	uint32_t compute_created, compute_destroyed; /* and compute instances, also those of these */
	double seconds;
};

static void count_steps(const struct gs_mig_plan *plan, struct change *change)
{
	for (size_t i = 0; i < plan->step_count; i++) {
		const struct gs_mig_step *step = &plan->steps[i];
		bool create = step->kind == GS_MIG_CREATE_INSTANCE || step->kind == GS_MIG_CREATE_COMPUTE;
		*(create ? &change->compute_created : &change->compute_destroyed) += step->compute_count;
	}
	change->created += plan->created;
	change->destroyed += plan->destroyed;
}

/* What `gpushare mig apply` does, without starting a process: looks at all GPUs, plans, and changes them. */
static struct change change_to(const struct gs_nvml *nvml, const char *state_dir, const char *name)
{
	struct gs_mig_session session;
	struct gs_mig_boards boards;
	struct gs_mig_node_gpu gpus[GPUS];
	struct gs_mig_target targets[GPUS];
	static struct gs_mig_task tasks[GPUS];
	struct gs_mig_config config;
	struct change change = {.seconds = now()};
	char *recovered;
	struct gs_error err = {0};

	if (gs_mig_begin(&session, nvml, state_dir, "/proc", &recovered, &err) ||
	    gs_mig_read(nvml, "/proc", &boards, &err))
		die("looking at the GPUs", &err);
	if (boards.count != GPUS) {
		fprintf(stderr, "bench_mig: start it on a simulated node with %d GPUs, see make bench\n", GPUS);
		exit(1);
	}
	for (size_t i = 0; i < GPUS; i++)
		gpus[i] = (struct gs_mig_node_gpu){&boards.items[i].gpu, boards.items[i].pci_device, 0};
	gs_mig_config_generate(gpus, GPUS, &config);
	const struct gs_mig_named *named = gs_mig_config_find(&config, name, &err);
	if (!named || gs_mig_config_resolve(&config, named, gpus, GPUS, targets, NULL))
		die(name, &err);
	for (size_t i = 0; i < GPUS; i++) {
		const struct gs_mig_board *board = &boards.items[i];
		tasks[i] = (struct gs_mig_task){.board = board, .enabled = true};
		if (gs_mig_plan_make(&board->gpu, &board->layout, &targets[i].wish, GS_MIG_BECOME, &tasks[i].plan))
			exit(1);
		count_steps(&tasks[i].plan, &change);
	}
	if (gs_mig_apply(&session, tasks, GPUS, NULL, NULL, &err))
		die("changing the GPUs", &err);
	gs_mig_config_free(&config);
	gs_mig_boards_free(&boards);
	gs_mig_end(&session);
	free(recovered);
	change.seconds = now() - change.seconds;
	return change;
}

/* The least disturbed of several rounds. mig-parted needs 96 and 120 calls that create and destroy for the first, and
 * 486 ms; and 376 ms to find that nothing is to be done. */
static void measure_changes(void)
{
	char directory[] = "/tmp/gpushare-bench-mig-XXXXXX", note[64];
	struct change best = {.seconds = 1e9}, nothing = {.seconds = 1e9};
	struct gs_nvml *nvml;
	struct gs_error err;

	if (gs_nvml_open("/", &nvml, &err))
		die("NVML", &err);
	if (!mkdtemp(directory))
		exit(1);
	for (int round = 0; round < ROUNDS; round++) {
		change_to(nvml, directory, "all-1g.10gb");
		struct change change = change_to(nvml, directory, "all-balanced");
		best = change.seconds < best.seconds ? change : best;
		change = change_to(nvml, directory, "all-balanced");
		nothing = change.seconds < nothing.seconds ? change : nothing;
	}
	snprintf(note, sizeof note, "with compute instances %u; mig-parted: 96", best.created + best.compute_created);
	row("all-1g.10gb to all-balanced, 8 GPUs, creates", best.created, "", 32, note);
	snprintf(note, sizeof note, "with compute instances %u; mig-parted: 120",
		 best.destroyed + best.compute_destroyed);
	row("all-1g.10gb to all-balanced, 8 GPUs, destroys", best.destroyed, "", 56, note);
	row("all-1g.10gb to all-balanced, 8 GPUs", best.seconds * 1e3, "ms", 30, "mig-parted: 486");
	snprintf(note, sizeof note, "%u steps; mig-parted: 376", nothing.created + nothing.destroyed);
	row("all-balanced to all-balanced, 8 GPUs", nothing.seconds * 1e3, "ms", 5, note);
	gs_nvml_close(nvml);
	GS_AUTO_FREE char *cleanup = gs_printf("rm -rf '%s'", directory);
	if (system(cleanup))
		exit(1);
}

int main(void)
{
	struct gs_mig_gpu a30 = mig_fixture("A30"), h100 = mig_fixture("H100-80GB");
	struct gs_mig_gpu rtx = mig_fixture("RTX-PRO-6000"), dense = mig_dense_12();

	measure_worst("MIG plan of one GPU, 4 slices", &a30);
	measure_worst("MIG plan of one GPU, 8 slices", &h100);
	measure_worst("MIG plan of one GPU, 12 slices", &rtx);
	measure_worst("MIG plan of one GPU, 12 slices, 9 sizes", &dense);
	measure_changes();
	return 0;
}
