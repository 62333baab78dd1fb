#include "helpers.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB(count) ((uint64_t)(count) << 20)
#define MS(count)  ((uint64_t)(count)*1000000)

static int attach(struct world *world, uint32_t gpu)
{
	struct gs_error err;
	int slot = sim_client_attach(world->node, gpu, SIM_CLIENT_COMPUTE, &err);
	assert_true(slot >= 0);
	return slot;
}

static uint64_t room_of(struct world *world, uint32_t gpu)
{
	struct sim_gpu copy;
	assert_true(sim_gpu_get(world->node, gpu, &copy));
	return copy.memory_total - copy.memory_reserved;
}

/* Law: whatever clients do, what they hold adds up and never exceeds what the GPU has for them. */
static void memory_never_exceeds_the_gpu(void **state)
{
	enum { ACTORS = 8, ROUNDS = 20000 };
	struct world *world = *state;
	uint64_t seed = 20261123, held[ACTORS] = {0}, sum[2] = {0};
	int slots[ACTORS];
	uint64_t room[2] = {room_of(world, 0), room_of(world, 1)};
	for (int i = 0; i < ACTORS; i++)
		slots[i] = attach(world, (uint32_t)i % 2);
	for (int round = 0; round < ROUNDS; round++) {
		int actor = (int)(next_random(&seed) % ACTORS), gpu = actor % 2;
		uint64_t bytes = next_random(&seed) % MIB(next_random(&seed) % 3 ? 2000 : 50000);
		switch (next_random(&seed) % 8) {
		case 0: /* gives back, also more than it has */
			sim_client_release(world->node, slots[actor], bytes);
			bytes = bytes < held[actor] ? bytes : held[actor];
			held[actor] -= bytes;
			sum[gpu] -= bytes;
			break;
		case 1: /* leaves and comes again */
			sim_client_detach(world->node, slots[actor]);
			sum[gpu] -= held[actor];
			held[actor] = 0;
			slots[actor] = attach(world, (uint32_t)gpu);
			break;
		default:
			if (sim_client_allocate(world->node, slots[actor], bytes) == 0) {
				held[actor] += bytes;
				sum[gpu] += bytes;
			} else {
				assert_true(bytes > room[gpu] - sum[gpu]); /* refused only for a reason */
			}
		}
		assert_true(sum[gpu] <= room[gpu]);
		if (round % 64 == 0)
			assert_int_equal(sim_gpu_memory_used(world->owner, (uint32_t)gpu), sum[gpu]);
	}
	assert_int_equal(sim_client_allocate(world->node, slots[0], UINT64_MAX), -1);
}

static void all_memory_can_be_had(void **state)
{
	struct world *world = *state;
	int slot = attach(world, 0);
	assert_int_equal(sim_client_allocate(world->node, slot, room_of(world, 0)), 0);
	assert_int_equal(sim_client_allocate(world->node, slot, 1), -1);
	assert_int_equal(sim_client_allocate(world->node, slot, 0), 0);
}

static void hog(struct world *world)
{
	int slot = attach(world, 0);
	sim_client_allocate(world->node, slot, room_of(world, 0));
	sim_client_submit(world->node, slot, 0, MS(3000000));
}

static void death_frees_memory_and_the_queue(void **state)
{
	struct world *world = *state;
	int slot = attach(world, 0);
	struct sim_gpu gpu;
	in_killed_child(hog, world);
	assert_int_equal(sim_client_allocate(world->node, slot, room_of(world, 0)), 0);
	assert_int_equal(sim_clients(world->owner, 0, NULL, 0), 1);
	/* The dead one's 50 minutes of work are not waited for. */
	uint64_t before = sim_now_ns();
	assert_true(sim_client_submit(world->node, slot, 0, MS(1)) < before + MS(1000000));
	assert_true(sim_gpu_get(world->node, 0, &gpu));
	assert_true(gpu.busy_until_ns < before + MS(1000000));
}

static int attach_mps(struct world *world, uint32_t permille)
{
	struct gs_error err;
	int slot = sim_client_attach(world->node, 0, SIM_CLIENT_MPS, &err);
	assert_true(slot >= 0);
	sim_client_limit(world->node, slot, permille);
	return slot;
}

static void mps_clients_run_side_by_side(void **state)
{
	struct world *world = *state;
	int first = attach_mps(world, 500), second = attach_mps(world, 500), third = attach_mps(world, 1000);
	uint64_t now = sim_now_ns();
	assert_true(sim_client_submit(world->node, first, now, MS(1000000)) >= now + MS(1000000));
	/* Half of the GPU is free: the second one need not wait. */
	assert_true(sim_client_submit(world->node, second, now, MS(1000000)) < now + MS(1500000));
	/* Now all want twice what there is. */
	uint64_t end = sim_client_submit(world->node, third, now, MS(1000000));
	assert_true(end >= now + MS(2000000) && end < now + MS(2500000));
	/* A client's own work comes one after the other. */
	assert_true(sim_client_submit(world->node, first, now, MS(1000)) > now + MS(1000000));
}

static void a_fault_is_taken_once(void **state)
{
	struct world *world = *state;
	int slot = attach(world, 0);
	assert_int_equal(sim_client_fault(world->owner, getpid() + 1, 700), 0);
	assert_int_equal(sim_client_take_fault(world->node, slot), 0);
	assert_int_equal(sim_client_fault(world->owner, getpid(), 700), 1);
	assert_int_equal(sim_client_take_fault(world->node, slot), 700);
	assert_int_equal(sim_client_take_fault(world->node, slot), 0);
	assert_int_equal(sim_client_take_fault(world->node, -1), 0);
}

static int orphan_gate[2];

/* Allocates, and leaves a child behind that lives until the gate is closed. */
static void leave_an_orphan(struct world *world)
{
	int slot = attach(world, 0), forked[2];
	char byte;
	sim_client_allocate(world->node, slot, MIB(100));
	if (pipe(forked) < 0)
		_exit(1);
	if (fork() == 0) {
		close(orphan_gate[1]);
		if (write(forked[1], "", 1) != 1 || read(orphan_gate[0], &byte, 1) != 0)
			_exit(1);
		_exit(0);
	}
	if (read(forked[0], &byte, 1) != 1) /* its fork handlers have run */
		_exit(1);
}

static void an_orphan_does_not_hold_its_parents_memory(void **state)
{
	struct world *world = *state;
	assert_int_equal(pipe(orphan_gate), 0);
	in_killed_child(leave_an_orphan, world);
	assert_int_equal(sim_gpu_memory_used(world->node, 0), 0);
	close(orphan_gate[0]);
	close(orphan_gate[1]);
}

/* Uses everything there is, for ever. */
static void be_busy(struct world *world, uint64_t seed)
{
	struct gs_error err;
	for (;;) {
		uint32_t gpu = (uint32_t)(next_random(&seed) % 2);
		int slot = sim_client_attach(world->node, gpu, SIM_CLIENT_COMPUTE, &err);
		for (int i = 0; i < 20; i++) {
			sim_client_allocate(world->node, slot, next_random(&seed) % MIB(5000));
			sim_client_submit(world->node, slot, 0, next_random(&seed) % MS(100));
			sim_gpu_memory_used(world->node, gpu);
			sim_event_post(world->node, gpu, 8, 31);
		}
		if (next_random(&seed) % 2)
			sim_client_detach(world->node, slot);
	}
}

/* Law: however many die at whatever moment, nothing is left of them and nobody hangs. */
static void death_at_any_moment_leaves_nothing(void **state)
{
	enum { CHILDREN = 8, DEATHS = 200 };
	struct world *world = *state;
	uint64_t seed = 31337;
	pid_t children[CHILDREN] = {0};
	for (int death = 0; death < DEATHS + CHILDREN; death++) {
		pid_t *child = &children[death % CHILDREN];
		if (*child) {
			usleep((useconds_t)(next_random(&seed) % 3000));
			assert_int_equal(kill(*child, SIGKILL), 0);
			assert_int_equal(waitpid(*child, NULL, 0), *child);
		}
		*child = death < DEATHS ? fork() : 0;
		if (death < DEATHS && *child == 0)
			be_busy(world, seed + (uint64_t)death + 1);
	}
	for (uint32_t gpu = 0; gpu < 2; gpu++) {
		assert_int_equal(sim_gpu_memory_used(world->node, gpu), 0);
		assert_int_equal(sim_clients(world->node, gpu, NULL, 0), 0);
		int slot = attach(world, gpu);
		assert_int_equal(sim_client_allocate(world->node, slot, room_of(world, gpu)), 0);
	}
}

static void work_is_done_in_turn(void **state)
{
	struct world *world = *state;
	int slots[3] = {attach(world, 0), attach(world, 0), attach(world, 0)};
	uint64_t seed = 7, start = sim_now_ns(), previous = 0, sum = 0;
	for (int i = 0; i < 500; i++) {
		uint64_t duration = MS(1 + next_random(&seed) % 20);
		uint64_t end = sim_client_submit(world->node, slots[next_random(&seed) % 3], 0, duration);
		sum += duration;
		if (previous) /* each starts when the one before ends: no overlap, no gap */
			assert_true(end == previous + duration || sim_now_ns() >= previous);
		assert_true(end >= start + duration);
		previous = end;
	}
	assert_true(previous >= start + sum);
	/* Another GPU has a timeline of its own. */
	int other = attach(world, 1);
	assert_true(sim_client_submit(world->node, other, 0, MS(1)) < previous);
}

static void work_waits_for_what_it_depends_on(void **state)
{
	struct world *world = *state;
	int slot = attach(world, 0);
	uint64_t earliest = sim_now_ns() + MS(60000);
	assert_int_equal(sim_client_submit(world->node, slot, earliest, MS(5)), earliest + MS(5));
	/* Absurd times are bounded, not overflowed. */
	assert_true(sim_client_submit(world->node, slot, UINT64_MAX, UINT64_MAX) < UINT64_MAX / 2);
}

static void leaving_drops_the_queue(void **state)
{
	struct world *world = *state;
	int slot = attach(world, 0), other = attach(world, 0);
	uint64_t kept = sim_client_submit(world->node, other, 0, MS(600000));
	sim_client_submit(world->node, slot, 0, MS(3000000));
	sim_client_detach(world->node, slot);
	/* What the other one was promised stands, and nothing overlaps it. */
	assert_int_equal(sim_client_submit(world->node, other, 0, MS(1)), kept + MS(1));
}

static void busy_time_follows_from_work(void **state)
{
	struct world *world = *state;
	int slot = attach(world, 0);
	struct sim_client copy;
	struct sim_gpu gpu;
	assert_int_equal(sim_gpu_busy_permille(world->node, 0, MS(1000)), 0);
	uint64_t end = sim_client_submit(world->node, slot, 0, MS(40));
	while (sim_now_ns() < end)
		usleep(1000);
	assert_int_equal(sim_clients(world->node, 0, &copy, 1), 1);
	uint64_t now = sim_now_ns();
	assert_int_equal(copy.queued_ns, 0);
	assert_int_equal(copy.busy_ns_total, MS(40));
	assert_int_equal(copy.pid, getpid());
	/* 40 ms in the last six seconds are 6 permille, of the client and of the GPU; the window may have moved on. */
	assert_in_range(sim_client_busy_permille(&copy, now, SIM_WINDOW_MAX_NS), 6, 7);
	if (sim_now_ns() - end < MS(5000))
		assert_in_range(sim_gpu_busy_permille(world->node, 0, SIM_WINDOW_MAX_NS), 6, 7);
	assert_int_equal(sim_gpu_busy_permille(world->node, 1, SIM_WINDOW_MAX_NS), 0);
	assert_int_equal(sim_client_busy_permille(&copy, now, 0), 0);
	assert_true(sim_gpu_get(world->node, 0, &gpu));
	assert_int_equal(gpu.busy_ns_total, MS(40));
	assert_int_equal(gpu.launches, 1);
	/* The work outlives the worker in the GPU's books. */
	sim_client_detach(world->node, slot);
	assert_true(sim_gpu_get(world->node, 0, &gpu));
	assert_int_equal(gpu.busy_ns_total, MS(40));
}

static void queued_work_is_not_busy_yet(void **state)
{
	struct world *world = *state;
	int slot = attach(world, 0);
	struct sim_client copy;
	sim_client_submit(world->node, slot, sim_now_ns() + MS(3000000), MS(1000));
	assert_int_equal(sim_gpu_busy_permille(world->node, 0, SIM_WINDOW_MAX_NS), 0);
	assert_int_equal(sim_clients(world->node, 0, &copy, 1), 1);
	assert_int_equal(copy.queued_ns, MS(1000));
}

static void lost_gpus_refuse(struct sim_gpu *gpu, void *user)
{
	gpu->lost = *(const uint32_t *)user;
}

static void a_lost_gpu_takes_no_work(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	uint32_t lost = 1;
	int slot = attach(world, 0);
	sim_gpu_update(world->node, 0, lost_gpus_refuse, &lost);
	assert_int_equal(sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err), -1);
	assert_int_equal(err.code, ENODEV);
	assert_int_equal(sim_client_allocate(world->node, slot, 1), -1);
	lost = 0;
	sim_gpu_update(world->node, 0, lost_gpus_refuse, &lost);
	assert_int_equal(sim_client_allocate(world->node, slot, 1), 0);
	assert_int_equal(sim_client_attach(world->node, 2, SIM_CLIENT_COMPUTE, &err), -1);
}

static void set_compute_mode(struct sim_gpu *gpu, void *user)
{
	gpu->compute_mode = *(const uint32_t *)user;
}

static void compute_mode_is_kept(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	uint32_t mode = 3; /* exclusive process: this process may come twice, another may not */
	sim_gpu_update(world->node, 0, set_compute_mode, &mode);
	attach(world, 0);
	attach(world, 0);
	mode = 2; /* prohibited */
	sim_gpu_update(world->node, 0, set_compute_mode, &mode);
	assert_int_equal(sim_client_attach(world->node, 0, SIM_CLIENT_COMPUTE, &err), -1);
	assert_int_equal(err.code, EBUSY);
}

static void slots_run_out_and_come_back(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	for (int i = 0; i < SIM_CLIENTS_MAX; i++)
		attach(world, (uint32_t)i % 2);
	assert_int_equal(sim_client_attach(world->owner, 0, SIM_CLIENT_COMPUTE, &err), -1);
	assert_int_equal(err.code, ENOSPC);
	sim_client_detach(world->node, 500);
	assert_int_equal(sim_client_attach(world->owner, 0, SIM_CLIENT_COMPUTE, &err), 500);
	/* Two handles of one process are two clients: neither may touch the other's slot. */
	assert_int_equal(sim_client_allocate(world->node, 500, 1), -1);
	assert_int_equal(sim_client_allocate(world->owner, 500, 1), 0);
	sim_client_detach(world->node, 500);
	assert_int_equal(sim_client_allocate(world->owner, 500, 1), 0);
	static const int bad[] = {-1, SIM_CLIENTS_MAX, 1 << 30};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		sim_client_detach(world->node, bad[i]);
		sim_client_release(world->node, bad[i], 1);
		assert_int_equal(sim_client_allocate(world->node, bad[i], 1), -1);
	}
}

static void closing_a_handle_detaches(void **state)
{
	struct world *world = *state;
	struct gs_error err;
	int slot = attach(world, 0);
	assert_int_equal(sim_client_allocate(world->node, slot, MIB(1)), 0);
	sim_node_close(world->node);
	assert_int_equal(sim_gpu_memory_used(world->owner, 0), 0);
	assert_int_equal(sim_node_open(world->dir, &world->node, &err), 0);
}

int main(void)
{
#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, world_begin, world_end)
	const struct CMUnitTest tests[] = {
		WITH_WORLD(memory_never_exceeds_the_gpu),
		WITH_WORLD(all_memory_can_be_had),
		WITH_WORLD(death_frees_memory_and_the_queue),
		WITH_WORLD(an_orphan_does_not_hold_its_parents_memory),
		WITH_WORLD(mps_clients_run_side_by_side),
		WITH_WORLD(an_orphan_does_not_hold_its_parents_memory),
		WITH_WORLD(a_fault_is_taken_once),
		WITH_WORLD(an_orphan_does_not_hold_its_parents_memory),
		WITH_WORLD(death_at_any_moment_leaves_nothing),
		WITH_WORLD(work_is_done_in_turn),
		WITH_WORLD(work_waits_for_what_it_depends_on),
		WITH_WORLD(leaving_drops_the_queue),
		WITH_WORLD(busy_time_follows_from_work),
		WITH_WORLD(queued_work_is_not_busy_yet),
		WITH_WORLD(a_lost_gpu_takes_no_work),
		WITH_WORLD(compute_mode_is_kept),
		WITH_WORLD(slots_run_out_and_come_back),
		WITH_WORLD(closing_a_handle_detaches),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
