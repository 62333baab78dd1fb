/* Sharing strategies in the daemon: what their instances (strategy/active.h) have of it. */
#include "node/node_internal.h"
#include "strategy/strategies.h"

static void work(void *user, void (*run)(const struct gs_nvml *nvml, void *of), void (*done)(void *of), void *of)
{
	const struct node *node = user;
	gpus_work(node->gpus, GPUS_LANE_MODES, run, done, of);
}

static void on_changed(void *user)
{
	struct node *node = user;
	if (!node->stopping)
		node_publish_health(node);
}

static void on_again(void *user)
{
	node_strategies_activate(user);
	on_changed(user);
}

static void rescan(void *user)
{
	const struct node *node = user;
	gpus_rescan(node->gpus);
}

void node_strategies_start(struct node *node)
{
	const struct gs_strategy_node around = {
		.loop = &node->loop,
		.state_dir = node->options->state_dir,
		.cgroups = node->options->host_cgroups,
		.user = node,
		.work = work,
		.changed = on_changed,
		.again = on_again,
		.rescan = rescan,
	};
	node->strategies = gs_active_new(gs_strategies, gs_strategy_count, &around);
}

struct gs_strategy_context node_strategies_context(const struct node *node)
{
	return (struct gs_strategy_context){&node->config, &node->inventory, &node->plan};
}

void node_strategies_activate(struct node *node)
{
	const struct gs_strategy_context context = node_strategies_context(node);
	gs_active_activate(node->strategies, &context);
}
