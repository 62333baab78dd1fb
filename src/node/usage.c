#include "node/usage.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "node/withdraw.h"

/* --- known at any time --- */

/* Why no container can get a GPU that is well; NULL: it can. */
static const char *withheld_text(const struct node *node, uint32_t gpu)
{
	for (uint32_t i = 0; i < node->inventory.device_count; i++)
		if (node->inventory.devices[i].gpu == gpu && !node->inventory.devices[i].mig)
			return gs_plan_withheld(&node->plan, i) ? gs_plan_withheld(&node->plan, i)
								: gs_plan_misfit(&node->plan, i);
	return NULL;
}

static void fill_health(const struct node *node, struct gs_usage *usage)
{
	for (uint32_t i = 0; i < usage->inventory->gpu_count; i++) {
		struct gs_usage_gpu *gpu = &usage->gpus[i];
		gpu->healthy = gpus_healthy(node->gpus, usage->inventory->gpus[i].uuid, &gpu->reason);
		gpu->withheld = withheld_text(node, i);
	}
	for (uint32_t i = 0; i < usage->inventory->device_count; i++) {
		struct gs_usage_device *device = &usage->devices[i];
		device->healthy = node_device_healthy(node, i, &device->reason);
		device->cordoned = node_withdrawn(node, i);
	}
}

static void fill_shares(const struct node *node, struct gs_usage *usage)
{
	const struct kube_pod_table *table = NULL;
	const char *problem;
	if (node->pods && kube_pods_get(node->pods, &table, &problem) == KUBE_PODS_KNOWN) {
		usage->pods_known = true;
		usage->pods_truncated = table->truncated;
		usage->pods_at_ms = kube_pods_at_ms(node->pods);
	}
	for (size_t i = 0; i < usage->share_count; i++) {
		struct gs_usage_share *share = &usage->shares[i];
		const struct gs_usage_group *group = &usage->groups[share->group];
		uint32_t position = (uint32_t)(share->share - group->resource->shares);
		share->healthy = node_share_healthy(node, group->resource, group->on, position);
		share->allocated_seconds = ledger_get(node->ledger, share->share->id);
		if (usage->pods_known)
			share->pods = kube_pod_table_find(table, share->share->id, &share->pod_count);
	}
}

static int64_t read_clock(clockid_t clock, int64_t per_second)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * per_second + now.tv_nsec / (1000000000 / per_second);
}

void node_usage_take(const struct node *node, struct gs_usage *usage)
{
	const struct gs_usage_time now = {read_clock(CLOCK_MONOTONIC, 1000), read_clock(CLOCK_REALTIME, 1)};
	gs_usage_begin(usage, &node->plan, &node->inventory, now);
	fill_health(node, usage);
	fill_shares(node, usage);
}

/* --- with processes --- */

struct asking {
	struct node *node;
	node_usage_done *done;
	void *user;
};

/* The GPUs may be others by now than those that were sampled. */
static void on_sampled(void *user, const struct gs_inventory *sampled, const struct gs_gpu_sample *samples)
{
	GS_AUTO_FREE struct asking *asking = user;
	struct node *node = asking->node;
	struct gs_usage usage;
	if (node->stopping) {
		asking->done(node, NULL, asking->user);
		return;
	}
	node_usage_take(node, &usage);
	const struct gs_gpu_sample *by_gpu[GS_GPUS_MAX] = {NULL};
	for (size_t i = 0; i < node->inventory.gpu_count; i++)
		for (size_t j = 0; j < sampled->gpu_count; j++)
			if (strcmp(node->inventory.gpus[i].uuid, sampled->gpus[j].uuid) == 0)
				by_gpu[i] = &samples[j];
	gs_usage_attribute(&usage, by_gpu);
	asking->done(node, &usage, asking->user);
	gs_usage_free(&usage);
}

static void on_pods(void *user)
{
	struct asking *asking = user;
	struct node *node = asking->node;
	if (!node->stopping && node->gpus) {
		gpus_sample(node->gpus, on_sampled, asking);
		return;
	}
	asking->done(node, NULL, asking->user);
	free(asking);
}

void node_usage_ask(struct node *node, node_usage_done *done, void *user)
{
	struct asking *asking = gs_calloc(1, sizeof *asking);
	*asking = (struct asking){.node = node, .done = done, .user = user};
	if (node->pods)
		kube_pods_refresh(node->pods, on_pods, asking);
	else
		on_pods(asking);
}
