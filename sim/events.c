/* NVML events, and NVML calls that are made to fail. */
#include "sim/layout.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Waiters are in other processes: never FUTEX_PRIVATE_FLAG. */
static void futex_wake_all(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void futex_wait(uint32_t *word, uint32_t seen, uint64_t nanoseconds)
{
	struct timespec timeout = {.tv_sec = (time_t)(nanoseconds / 1000000000ull),
				   .tv_nsec = (long)(nanoseconds % 1000000000ull)};
	syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

void sim_repair_events(struct sim_state *state)
{
	for (size_t i = 0; i < SIM_EVENTS_MAX; i++)
		if (state->events[i].sequence > state->event_sequence)
			state->event_sequence = state->events[i].sequence;
	uint32_t rules = 0;
	for (size_t i = 0; i < SIM_FAULTS_MAX; i++) {
		state->faults[i].function[SIM_FUNCTION_NAME_SIZE - 1] = '\0';
		rules += state->faults[i].count != 0;
	}
	__atomic_store_n(&state->fault_count, rules, __ATOMIC_RELAXED);
	__atomic_store_n(&state->event_futex, (uint32_t)state->event_sequence, __ATOMIC_RELEASE);
}

void sim_event_post(struct sim_node *node, uint32_t gpu, uint64_t type, uint64_t data)
{
	sim_event_post_instance(node, gpu, SIM_MIG_NONE, SIM_MIG_NONE, type, data);
}

void sim_event_post_instance(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance, uint32_t compute_instance,
			     uint64_t type, uint64_t data)
{
	if (gpu >= SIM_GPUS_MAX || !sim_lock(node))
		return;
	struct sim_state *state = node->state;
	uint64_t sequence = state->event_sequence + 1;
	state->events[sequence % SIM_EVENTS_MAX] = (struct sim_event){
		.sequence = sequence,
		.gpu = gpu,
		.gpu_instance = (uint16_t)gpu_instance,
		.compute_instance = (uint16_t)compute_instance,
		.type = type,
		.data = data,
	};
	state->event_sequence = sequence;
	__atomic_store_n(&state->event_futex, (uint32_t)sequence, __ATOMIC_RELEASE);
	sim_unlock(node);
	futex_wake_all(&state->event_futex);
}

uint64_t sim_events_last(struct sim_node *node)
{
	if (!sim_lock(node))
		return 0;
	uint64_t last = node->state->event_sequence;
	sim_unlock(node);
	return last;
}

/* Under the lock: the first event after *sequence that matches; *sequence moves past all that were looked at. */
static bool next_event(const struct sim_state *state, const uint64_t types_by_gpu[SIM_GPUS_MAX], uint64_t *sequence,
		       struct sim_event *event)
{
	uint64_t last = state->event_sequence;
	if (*sequence > last) /* not of this node */
		*sequence = last;
	if (last - *sequence > SIM_EVENTS_MAX)
		*sequence = last - SIM_EVENTS_MAX;
	while (*sequence < last) {
		const struct sim_event *candidate = &state->events[++*sequence % SIM_EVENTS_MAX];
		if (candidate->sequence != *sequence || candidate->gpu >= SIM_GPUS_MAX ||
		    !(types_by_gpu[candidate->gpu] & candidate->type))
			continue;
		*event = *candidate;
		return true;
	}
	return false;
}

int sim_event_wait(struct sim_node *node, const uint64_t types_by_gpu[SIM_GPUS_MAX], uint64_t *sequence,
		   unsigned timeout_ms, struct sim_event *event)
{
	uint64_t deadline = sim_now_ns() + timeout_ms * 1000000ull;
	for (;;) {
		if (!sim_lock(node))
			return 0;
		uint32_t seen = __atomic_load_n(&node->state->event_futex, __ATOMIC_ACQUIRE);
		bool found = next_event(node->state, types_by_gpu, sequence, event);
		sim_unlock(node);
		if (found)
			return 1;
		uint64_t now = sim_now_ns();
		if (now >= deadline)
			return 0;
		futex_wait(&node->state->event_futex, seen, deadline - now);
	}
}

int sim_nvml_fault_set(struct sim_node *node, const char *function, int code, uint32_t count, struct gs_error *err)
{
	if (!function[0] || strlen(function) >= SIM_FUNCTION_NAME_SIZE)
		return gs_fail(err, GS_ERROR_INPUT, EINVAL, "'%.100s' is no NVML function's name", function);
	if (!sim_lock(node))
		return gs_fail(err, GS_ERROR_SYSTEM, EIO, "the lock of the simulated node in %s is broken", node->dir);
	struct sim_fault *rule = NULL;
	for (size_t i = 0; i < SIM_FAULTS_MAX; i++) {
		struct sim_fault *cell = &node->state->faults[i];
		if (cell->count && strncmp(cell->function, function, sizeof cell->function) == 0) {
			rule = cell;
			break;
		}
		if (!cell->count && !rule)
			rule = cell;
	}
	if (rule) {
		rule->count = 0;
		rule->code = code;
		snprintf(rule->function, sizeof rule->function, "%s", function);
		rule->count = count;
		sim_repair_events(node->state); /* counts the rules */
	}
	sim_unlock(node);
	if (!rule && count)
		return gs_fail(err, GS_ERROR_LIMIT, ENOSPC, "there are already %d fault rules", SIM_FAULTS_MAX);
	return 0;
}

int sim_nvml_fault_take(struct sim_node *node, const char *function)
{
	if (!__atomic_load_n(&node->state->fault_count, __ATOMIC_RELAXED) || !sim_lock(node))
		return 0;
	int code = 0;
	for (size_t i = 0; i < SIM_FAULTS_MAX; i++) {
		struct sim_fault *rule = &node->state->faults[i];
		if (!rule->count || strncmp(rule->function, function, sizeof rule->function) != 0)
			continue;
		code = rule->code;
		if (rule->count != SIM_FAULT_FOREVER && --rule->count == 0)
			sim_repair_events(node->state);
		break;
	}
	sim_unlock(node);
	return code;
}

/* A rule for one GPU is one for a function of this name. */
static void name_on(char name[SIM_FUNCTION_NAME_SIZE + 16], uint32_t slot, const char *function)
{
	snprintf(name, SIM_FUNCTION_NAME_SIZE + 16, "%.*s@%u", SIM_FUNCTION_NAME_SIZE, function, slot);
}

int sim_nvml_fault_set_on(struct sim_node *node, uint32_t slot, const char *function, int code, uint32_t count,
			  struct gs_error *err)
{
	char name[SIM_FUNCTION_NAME_SIZE + 16];
	name_on(name, slot, function);
	return sim_nvml_fault_set(node, name, code, count, err);
}

int sim_nvml_fault_take_on(struct sim_node *node, uint32_t slot, const char *function)
{
	char name[SIM_FUNCTION_NAME_SIZE + 16];
	if (!__atomic_load_n(&node->state->fault_count, __ATOMIC_RELAXED))
		return 0;
	name_on(name, slot, function);
	return sim_nvml_fault_take(node, name);
}
