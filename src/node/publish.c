/* Desired against actual: the plan that config and inventory give, and the device plugins that serve it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/lane.h"
#include "base/log.h"
#include "kube/plugin/allocate.h"
#include "kube/cdi/cdi.h"
#include "node/mig_manager.h"
#include "node/handover.h"
#include "node/node_internal.h"
#include "node/others.h"
#include "node/specs.h"
#include "node/vanished.h"
#include "node/withdraw.h"
#include "strategy/strategies.h"

enum { LEDGER_DELAY_MS = 1000, LEDGER_RETRY_MS = 30000 };

/* --- allocation --- */

static void on_ledger_timer(uv_timer_t *timer);

static void write_ledger(void *user)
{
	struct node *node = user;
	node->ledger_result = ledger_write(node->ledger, node->ledger_text, &node->ledger_error);
}

static void on_ledger_written(void *user)
{
	struct node *node = user;
	free(node->ledger_text);
	node->ledger_text = NULL;
	if (node->ledger_result < 0) {
		ledger_unsaved(node->ledger);
		if (!node->ledger_failed)
			gs_log(GS_LOG_WARNING, "allocations can't be kept for the next start",
			       GS_STR("error", node->ledger_error.text));
	}
	node->ledger_failed = node->ledger_result < 0;
	if (node->stopping)
		ledger_save(node->ledger, NULL);
	else if (node->ledger_failed)
		uv_timer_start(&node->ledger_timer, on_ledger_timer, LEDGER_RETRY_MS, 0);
}

/* On a worker thread, because a disk can be slow and the kubelet waits for Allocate. */
static void on_ledger_timer(uv_timer_t *timer)
{
	struct node *node = timer->loop->data;
	if (node->ledger_text) {
		uv_timer_start(timer, on_ledger_timer, LEDGER_DELAY_MS, 0);
		return;
	}
	node->ledger_text = ledger_render(node->ledger);
	if (node->ledger_text)
		lane_run(node->ledger_lane,
			 &(struct lane_work){.run = write_ledger, .done = on_ledger_written, .user = node});
}

/* Whether a device node exists under the dev root, as this process sees the host. */
static bool node_exists(const char *path, void *user)
{
	const struct node *node = user;
	GS_AUTO_FREE char *full = gs_dev_root_path(&node->config, path);
	return access(full, F_OK) == 0;
}

/* A random UUID (RFC 9562, version 4). */
static void make_uuid(char text[37])
{
	uint8_t b[16] = {0};
	if (getrandom(b, sizeof b, 0) < 0)
		memcpy(b, &(struct timespec){.tv_sec = time(NULL)}, sizeof b);
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
		 b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* The kubelet may have chosen a share before it heard that the share is withheld. A container must not start on a
 * device that is about to go. */
static int refuse_withdrawn(const struct node *node, const struct kube_view *view, const uint32_t *shares, size_t count,
			    struct gs_error *err)
{
	for (size_t i = 0; i < count; i++) {
		if (shares[i] >= view->resource->share_count)
			continue; /* gs_allocate says so */
		const struct gs_share *share = &view->resource->shares[shares[i]];
		const char *reason = node_withdrawn(node, share->device);
		if (!reason)
			continue;
		gs_fail(err, GS_ERROR_INPUT, 0, "%s is withdrawn: %s; the pod can be made again when that is done",
			share->id, reason);
		gs_log(GS_LOG_WARNING, "allocation refused", GS_STR("resource", view->resource->name),
		       GS_STR("error", err->text));
		return -1;
	}
	return 0;
}

static const void *instance_of(void *user, const struct gs_strategy *strategy)
{
	return gs_active_instance(user, strategy);
}

static int allocate(void *user, const struct kube_view *view, const uint32_t *shares, size_t count,
		    struct gs_container_edit *edit, struct gs_error *err)
{
	struct node *node = user;
	char uuid[37] = "";
	if (refuse_withdrawn(node, view, shares, count, err) < 0)
		return -1;
	if (node->config.flags.plugin.device_list_strategy & GS_DEVICE_LIST_CDI_ANNOTATIONS)
		make_uuid(uuid);
	const struct gs_allocate_options options = {
		.config = &node->config,
		.inventory = view->inventory,
		.node_check = {node_exists, node},
		.instance_of = instance_of,
		.instance_user = node->strategies,
		.request_uuid = uuid,
	};
	if (gs_allocate(&options, view->resource, shares, count, edit, err) < 0) {
		gs_log(GS_LOG_WARNING, "allocation refused", GS_STR("resource", view->resource->name),
		       GS_STR("error", err->text));
		return -1;
	}
	int64_t now = (int64_t)time(NULL);
	for (size_t i = 0; i < count; i++) {
		const char *id = view->resource->shares[shares[i]].id;
		ledger_set(node->ledger, id, now);
		gs_log(GS_LOG_DEBUG, "allocated", GS_STR("resource", view->resource->name), GS_STR("share", id));
	}
	if (!node->retired && !uv_is_active((uv_handle_t *)&node->ledger_timer))
		uv_timer_start(&node->ledger_timer, on_ledger_timer, LEDGER_DELAY_MS, 0);
	return 0;
}

static void on_registration(void *user, struct kube_plugin *plugin, const struct gs_error *err)
{
	struct node *node = user;
	if (err)
		gs_log(GS_LOG_WARNING, "not registered with the kubelet",
		       GS_STR("resource", kube_plugin_resource_name(plugin)), GS_STR("error", err->text));
	else
		gs_log(GS_LOG_INFO, "registered with the kubelet",
		       GS_STR("resource", kube_plugin_resource_name(plugin)));
	node_report(node);
}

/* --- plugins --- */

static bool is_share_healthy(const void *user, const struct gs_resource *resource, const struct gs_resource_device *on,
			     uint32_t share)
{
	return node_share_healthy(user, resource, on, share);
}

static struct kube_view view_of(struct node *node, const struct gs_resource *resource)
{
	return (struct kube_view){
		.resource = resource,
		.inventory = &node->inventory,
		.share_healthy = is_share_healthy,
		.user = node,
		.policy = node->config.flags.plugin.allocation_policy,
	};
}

static struct kube_plugin *find_plugin(struct node *node, const char *name)
{
	for (size_t i = 0; i < node->plugins.count; i++)
		if (strcmp(kube_plugin_resource_name(node->plugins.items[i]), name) == 0)
			return node->plugins.items[i];
	return NULL;
}

static void stop_plugin(struct node *node, size_t which)
{
	struct kube_plugin *plugin = node->plugins.items[which];
	node->plugins.items[which] = node->plugins.items[--node->plugins.count];
	kube_plugin_stop(plugin, NULL, NULL);
}

void node_serve_problem(struct node *node, const char *resource, const struct gs_error *err)
{
	if (err && (!node->serve_problem || strcmp(node->serve_problem, err->text) != 0))
		gs_log(GS_LOG_ERROR, *resource ? "cannot serve a resource; trying again" : "waiting",
		       GS_STR("resource", resource), GS_STR("error", err->text));
	free(node->serve_problem);
	node->serve_problem = err ? gs_strdup(err->text) : NULL;
	node->serve_conflict = err && err->source == GS_ERROR_SYSTEM && err->code == EADDRINUSE;
	if (err)
		node_kubelet_look_again(node);
	node_report(node);
}

static bool has_healthy_share(const struct node *node, const struct gs_resource *resource)
{
	for (size_t i = 0; i < resource->device_count; i++)
		for (uint32_t j = 0; j < resource->devices[i].share_count; j++)
			if (node_share_healthy(node, resource, &resource->devices[i],
					       resource->devices[i].first_share + j))
				return true;
	return false;
}

static void announce(struct node *node, struct kube_plugin *plugin)
{
	const struct gs_resource *resource = gs_plan_find(&node->plan, kube_plugin_resource_name(plugin));
	if (!handover_may_wait(node) || (resource && has_healthy_share(node, resource)))
		kube_plugin_register(plugin);
}

void node_announce(struct node *node)
{
	for (size_t i = 0; i < node->plugins.count; i++)
		if (kube_plugin_is_unannounced(node->plugins.items[i]))
			announce(node, node->plugins.items[i]);
}

static void start_plugin(struct node *node, const struct gs_resource *resource)
{
	const struct kube_plugin_owner owner = {.user = node, .allocate = allocate, .registration = on_registration};
	struct kube_view view = view_of(node, resource);
	struct kube_plugin *plugin;
	struct gs_error err;
	if (kube_plugin_start(&node->loop, node->options->plugin_dir, node->options->kubelet_socket, &view, &owner,
			      &plugin, &err) < 0) {
		node_serve_problem(node, resource->name, &err);
		return;
	}
	*GS_VEC_PUSH(&node->plugins) = plugin;
	gs_log(GS_LOG_INFO, "serving", GS_STR("resource", resource->name), GS_INT("devices", resource->device_count),
	       GS_INT("shares", resource->share_count));
	announce(node, plugin);
}

static int is_planned(const char *share, void *user)
{
	const struct gs_plan *plan = user;
	for (size_t i = 0; i < plan->resource_count; i++)
		if (gs_resource_find(&plan->resources[i], share, strlen(share)) >= 0)
			return 1;
	return 0;
}

static void set_plan_problem(struct node *node, const char *text)
{
	free(node->plan_problem);
	node->plan_problem = text ? gs_strdup(text) : NULL;
}

static bool is_published(const struct node *node, const char *uuid)
{
	for (size_t i = 0; i < node->plan.resource_count; i++)
		for (size_t j = 0; j < node->plan.resources[i].device_count; j++) {
			uint32_t device = node->plan.resources[i].devices[j].device;
			if (strcmp(node->inventory.devices[device].uuid, uuid) == 0)
				return true;
		}
	return false;
}

/* Whether a plan fits. A device that does not fit costs only itself, not the resources published now. */
static int check_plan(const struct node *node, const struct gs_inventory *inventory, const struct gs_plan *plan,
		      struct gs_error *err)
{
	for (uint32_t i = 0; i < inventory->device_count; i++)
		if (gs_plan_misfit(plan, i) && is_published(node, inventory->devices[i].uuid))
			return gs_fail(err, GS_ERROR_INPUT, 0, "%s", gs_plan_misfit(plan, i));
	return 0;
}

static int build_plan(const struct node *node, const struct gs_inventory *inventory, struct gs_plan *plan,
		      struct gs_error *err)
{
	if (gs_plan_build(&node->config, inventory, gs_strategies, gs_strategy_count, plan, err) < 0)
		return -1;
	if (check_plan(node, inventory, plan, err) == 0)
		return 0;
	gs_plan_free(plan);
	return -1;
}

/* Plans; on failure the old plan stays in force, because running workloads depend on it. */
static bool replan(struct node *node, const struct gs_inventory *inventory, struct gs_plan *plan)
{
	struct gs_error err;
	if (build_plan(node, inventory, plan, &err) < 0) {
		if (!node->plan_problem || strcmp(node->plan_problem, err.text) != 0)
			gs_log(GS_LOG_ERROR, "the config does not fit this node's GPUs; shares stay as they are",
			       GS_STR("error", err.text));
		set_plan_problem(node, err.text);
		return false;
	}
	set_plan_problem(node, NULL);
	return true;
}

/* Whether shares may be allocated; the node is prepared so that they can be. */
static bool serves(const struct node *node)
{
	return node->options->device_plugin && !mig_manager_holds(node) && !node_others_hold(node);
}

/* Resources that could not be served before: a directory that was missing, a socket that could not be bound. */
void node_retry_publish(struct node *node)
{
	bool complete = true;
	if (!serves(node) || !node_specs_known(node))
		return;
	for (size_t i = 0; i < node->plan.resource_count; i++) {
		if (!find_plugin(node, node->plan.resources[i].name))
			start_plugin(node, &node->plan.resources[i]);
		const struct kube_plugin *plugin = find_plugin(node, node->plan.resources[i].name);
		complete &= plugin && kube_plugin_served(plugin);
	}
	if (complete && node->serve_problem)
		node_serve_problem(node, NULL, NULL);
}

const char *node_imex_problem(const struct node *node)
{
	const struct gs_node_check check = {node_exists, (void *)node};
	for (size_t i = 0; node->config.imex_required && i < node->config.imex_channel_count; i++) {
		gs_device_node path;
		gs_imex_node(node->config.imex_channel_ids[i], path);
		if (!gs_node_exists(&check, path))
			return "an IMEX channel is required (imex.required) and has no device node; load the driver's "
			       "IMEX support, or set imex.required to false";
	}
	return NULL;
}

static bool usable(const struct node *node, uint32_t which, const char **reason)
{
	const char *withdrawn = node_withdrawn(node, which);
	if (withdrawn) {
		*reason = withdrawn;
		return false;
	}
	return gpus_healthy(node->gpus, node->inventory.devices[which].uuid, reason);
}

bool node_device_healthy(const struct node *node, uint32_t which, const char **reason)
{
	const struct gs_inventory *inventory = &node->inventory;
	const struct gs_device *device = &inventory->devices[which];
	*reason = node_others_reason(node);
	if (!*reason)
		*reason = node_imex_problem(node); /* every allocation would be refused */
	if (!*reason)
		*reason = gs_plan_withheld(&node->plan, which);
	if (*reason)
		return false;
	const struct gs_strategy_context context = node_strategies_context(node);
	if (!node_specs_ready(node, which, reason) || !usable(node, which, reason) ||
	    !gs_active_ready(node->strategies, &context, which, reason))
		return false;
	/* A GPU that is published whole with MIG enabled is as healthy as all that is on it. */
	bool whole = node->config.flags.mig_strategy == GS_MIG_NONE && inventory->gpus[device->gpu].mig_enabled;
	for (uint32_t i = 0; whole && !device->mig && i < inventory->device_count; i++)
		if (inventory->devices[i].mig && inventory->devices[i].gpu == device->gpu && !usable(node, i, reason))
			return false;
	return true;
}

bool node_share_healthy(const struct node *node, const struct gs_resource *resource,
			const struct gs_resource_device *on, uint32_t share)
{
	const struct gs_strategy_context context = node_strategies_context(node);
	return node->device_healthy[on->device] &&
	       gs_active_share_ready(node->strategies, &context, on, &resource->shares[share]);
}

static void refresh_health(struct node *node)
{
	const char *imex = node_imex_problem(node);
	if (imex && !node->lacks_imex)
		gs_log(GS_LOG_ERROR, "no share can be given out", GS_STR("error", imex));
	node->lacks_imex = imex;
	node->device_healthy =
		gs_reallocarray(node->device_healthy, node->inventory.device_count, sizeof *node->device_healthy);
	for (uint32_t i = 0; i < node->inventory.device_count; i++) {
		const char *reason;
		node->device_healthy[i] = node_device_healthy(node, i, &reason);
	}
}

static bool same_texts(char *const *a, size_t a_count, char *const *b, size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

static void log_notes(const struct gs_plan *before, const struct gs_plan *now)
{
	if (!same_texts(before->notes, before->note_count, now->notes, now->note_count)) {
		for (size_t i = 0; i < now->note_count; i++)
			gs_log(GS_LOG_WARNING, now->notes[i]);
		if (now->note_count == 0)
			gs_log(GS_LOG_INFO, "every device is published as the config asks again");
	}
	if (!same_texts(before->unmatched, before->unmatched_count, now->unmatched, now->unmatched_count))
		for (size_t i = 0; i < now->unmatched_count; i++)
			gs_log(GS_LOG_WARNING, now->unmatched[i]);
}

struct texts {
	GS_VEC(char *) items;
};

static void add_text(void *user, const char *text)
{
	struct texts *texts = user;
	*GS_VEC_PUSH(&texts->items) = gs_strdup(text);
}

static void free_texts(struct texts *texts)
{
	for (size_t i = 0; i < texts->items.count; i++)
		free(texts->items.items[i]);
	GS_VEC_FREE(&texts->items);
}

static bool sets_modes(const struct gs_plan *plan)
{
	for (size_t i = 0; i < plan->resource_count; i++)
		for (size_t j = 0; j < plan->resources[i].device_count; j++)
			if (plan->resources[i].devices[j].strategy->sets_compute_mode)
				return true;
	return false;
}

/* Logs the GPUs whose compute mode keeps shares from use. A strategy that sets them, or did a moment ago, restores them
 * itself. */
static void log_modes(const struct node *node, const struct gs_plan *old_plan, const struct gs_inventory *old_inventory)
{
	struct texts before = {0}, now = {0};
	if (sets_modes(old_plan) || sets_modes(&node->plan))
		return;
	gs_plan_modes(old_plan, old_inventory, add_text, &before);
	gs_plan_modes(&node->plan, &node->inventory, add_text, &now);
	if (!same_texts(before.items.items, before.items.count, now.items.items, now.items.count))
		for (size_t i = 0; i < now.items.count; i++)
			gs_log(GS_LOG_WARNING, now.items.items[i]);
	free_texts(&before);
	free_texts(&now);
}

/* The plan that node->plan is now. */
static void put_in_force(struct node *node)
{
	node_strategies_activate(node);
	node_specs_renew(node);
	refresh_health(node);
	for (size_t i = node->plugins.count; i > 0; i--) {
		const char *name = kube_plugin_resource_name(node->plugins.items[i - 1]);
		const struct gs_resource *resource = gs_plan_find(&node->plan, name);
		if (!resource) {
			gs_log(GS_LOG_INFO, "withdrawing", GS_STR("resource", name));
			stop_plugin(node, i - 1);
		} else {
			struct kube_view view = view_of(node, resource);
			kube_plugin_update(node->plugins.items[i - 1], &view);
		}
	}
	node_retry_publish(node);
}

void node_publish(struct node *node, const struct gs_inventory *inventory)
{
	struct gs_plan plan = {0};
	bool known = node_others_known(node);
	if (node->stopping)
		return;
	/* Without a config, or with one that cannot be planned at all, the GPUs are known, and none is shared. */
	if (node->config_ready && !replan(node, inventory, &plan) && node->plan.resource_count) {
		/* The published resources stay, but no container gets a device that is gone. */
		node_publish_health(node);
		return;
	}

	/* Plugins hold views into the old inventory and plan until each was given its new view or stopped. */
	struct gs_inventory old_inventory = node->inventory;
	struct gs_plan old_plan = node->plan;
	gs_inventory_copy(&node->inventory, inventory);
	node->plan = plan;
	node->inventory_known = true;
	log_notes(&old_plan, &plan);
	log_modes(node, &old_plan, &old_inventory);
	if (known && serves(node)) {
		put_in_force(node);
	} else {
		node_unpublish(node);
		refresh_health(node);
	}
	node_vanished_update(node, &old_plan, &old_inventory);
	ledger_prune(node->ledger, is_planned, &node->plan);
	gs_plan_free(&old_plan);
	gs_inventory_free(&old_inventory);
	if (!mig_manager_holds(node) && !node_others_hold(node))
		node_labels_update(node);
	node_report(node);
}

/* The config changed: the hardware is planned anew, as it is now: with the last config it may not have been planned. */
void node_republish(struct node *node)
{
	struct gs_inventory inventory;
	const struct gs_inventory *latest = node->gpus ? gpus_inventory(node->gpus) : NULL;
	gs_inventory_copy(&inventory, latest ? latest : &node->inventory);
	node_publish(node, &inventory);
	gs_inventory_free(&inventory);
}

void node_publish_health(struct node *node)
{
	refresh_health(node);
	for (size_t i = 0; i < node->plugins.count; i++) {
		struct kube_view view =
			view_of(node, gs_plan_find(&node->plan, kube_plugin_resource_name(node->plugins.items[i])));
		kube_plugin_update(node->plugins.items[i], &view);
	}
	node_report(node);
}

void node_unpublish(struct node *node)
{
	while (node->plugins.count > 0)
		stop_plugin(node, node->plugins.count - 1);
}
