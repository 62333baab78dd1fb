/* The strategies of a running node: an instance of each, asked as one. */
#ifndef GPUSHARE_STRATEGY_ACTIVE_H
#define GPUSHARE_STRATEGY_ACTIVE_H

#include "strategy/life.h"

struct gs_active;

/* Of each strategy of a list that has a life. */
struct gs_active *gs_active_new(const struct gs_strategy *const *strategies, size_t count,
				const struct gs_strategy_node *node);
/* See struct gs_strategy_life. */
void gs_active_keep(const struct gs_active *active, const struct gs_config *now, struct gs_config *next);
void gs_active_activate(struct gs_active *active, const struct gs_strategy_context *context);
void gs_active_observe(struct gs_active *active, const char *gpu);
/* Whether every strategy lets the device's shares be allocated; the first reason why not. */
bool gs_active_ready(const struct gs_active *active, const struct gs_strategy_context *context, uint32_t device,
		     const char **reason);
bool gs_active_share_ready(const struct gs_active *active, const struct gs_strategy_context *context,
			   const struct gs_resource_device *on, const struct gs_share *share);
void gs_active_problems(const struct gs_active *active, void (*say)(void *user, const char *text), void *user);
/* Adds a member for each strategy. */
void gs_active_status(const struct gs_active *active, json_t *status);
/* Of all strategies: what they brought up, each with the number of its clients; and the clients. */
json_t *gs_active_details(const struct gs_active *active, const struct gs_usage *usage);
void gs_active_clients(const struct gs_active *active, const struct gs_usage *usage, gs_usage_client *tell, void *user);
/* Calls `begin` for each metric, with the instance to ask. */
void gs_active_metrics(const struct gs_active *active,
		       void (*begin)(void *user, const struct gs_strategy_metric *metric, const void *instance),
		       void *user);
/* For gs_strategy.edit; NULL: it has none. Valid until gs_active_free. */
const void *gs_active_instance(const struct gs_active *active, const struct gs_strategy *strategy);
void gs_active_stop(struct gs_active *active);
/* Once the loop has nothing left to do. */
void gs_active_free(struct gs_active *active);

#endif
