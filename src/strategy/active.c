#include "strategy/active.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/vec.h"

struct active {
	const struct gs_strategy *strategy;
	const struct gs_strategy_life *life;
	void *instance;
};

struct gs_active {
	GS_VEC(struct active) items;
};

struct gs_active *gs_active_new(const struct gs_strategy *const *strategies, size_t count,
				const struct gs_strategy_node *node)
{
	struct gs_active *active = gs_calloc(1, sizeof *active);
	for (size_t i = 0; i < count; i++) {
		const struct gs_strategy_life *life = strategies[i]->life;
		if (life)
			*GS_VEC_PUSH(&active->items) = (struct active){strategies[i], life, life->create(node)};
	}
	return active;
}

void gs_active_keep(const struct gs_active *active, const struct gs_config *now, struct gs_config *next)
{
	for (size_t i = 0; i < active->items.count; i++)
		active->items.items[i].life->keep(active->items.items[i].instance, now, next);
}

void gs_active_activate(struct gs_active *active, const struct gs_strategy_context *context)
{
	for (size_t i = 0; i < active->items.count; i++)
		active->items.items[i].life->activate(active->items.items[i].instance, context);
}

void gs_active_observe(struct gs_active *active, const char *gpu)
{
	for (size_t i = 0; i < active->items.count; i++)
		active->items.items[i].life->observe(active->items.items[i].instance, gpu);
}

bool gs_active_ready(const struct gs_active *active, const struct gs_strategy_context *context, uint32_t device,
		     const char **reason)
{
	*reason = "";
	for (size_t i = 0; i < active->items.count; i++)
		if (!active->items.items[i].life->ready(active->items.items[i].instance, context, device, reason))
			return false;
	return true;
}

bool gs_active_share_ready(const struct gs_active *active, const struct gs_strategy_context *context,
			   const struct gs_resource_device *on, const struct gs_share *share)
{
	const struct gs_strategy_life *life = on->strategy->life;
	return !life || life->share_ready(gs_active_instance(active, on->strategy), context, on, share);
}

void gs_active_problems(const struct gs_active *active, void (*say)(void *user, const char *text), void *user)
{
	for (size_t i = 0; i < active->items.count; i++)
		active->items.items[i].life->problems(active->items.items[i].instance, say, user);
}

void gs_active_status(const struct gs_active *active, json_t *status)
{
	for (size_t i = 0; i < active->items.count; i++) {
		const struct active *item = &active->items.items[i];
		json_object_set_new(status, item->life->status_key, item->life->status(item->instance, NULL));
	}
}

json_t *gs_active_details(const struct gs_active *active, const struct gs_usage *usage)
{
	json_t *all = json_array();
	for (size_t i = 0; i < active->items.count; i++) {
		json_t *list = active->items.items[i].life->status(active->items.items[i].instance, usage);
		json_array_extend(all, list);
		json_decref(list);
	}
	return all;
}

void gs_active_clients(const struct gs_active *active, const struct gs_usage *usage, gs_usage_client *tell, void *user)
{
	for (size_t i = 0; i < active->items.count; i++)
		active->items.items[i].life->clients(active->items.items[i].instance, usage, tell, user);
}

void gs_active_metrics(const struct gs_active *active,
		       void (*begin)(void *user, const struct gs_strategy_metric *metric, const void *instance),
		       void *user)
{
	for (size_t i = 0; i < active->items.count; i++) {
		const struct gs_strategy_metric *metric = active->items.items[i].life->metrics;
		for (; metric && metric->name; metric++)
			begin(user, metric, active->items.items[i].instance);
	}
}

const void *gs_active_instance(const struct gs_active *active, const struct gs_strategy *strategy)
{
	for (size_t i = 0; i < active->items.count; i++)
		if (active->items.items[i].strategy == strategy)
			return active->items.items[i].instance;
	return NULL;
}

void gs_active_stop(struct gs_active *active)
{
	for (size_t i = 0; i < active->items.count; i++)
		active->items.items[i].life->stop(active->items.items[i].instance);
}

void gs_active_free(struct gs_active *active)
{
	if (!active)
		return;
	for (size_t i = 0; i < active->items.count; i++)
		active->items.items[i].life->free(active->items.items[i].instance);
	GS_VEC_FREE(&active->items);
	free(active);
}
