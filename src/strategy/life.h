/* The work of a sharing strategy on a node beyond its shares: it starts the parts that they need, says whether these
 * are ready, reports on them, and stops them again. A strategy without this (gs_strategy.life NULL) needs nothing.
 *
 * The daemon makes one instance of each for its whole life (active.h). All on the loop's thread, but `deactivate`. */
#ifndef GPUSHARE_STRATEGY_LIFE_H
#define GPUSHARE_STRATEGY_LIFE_H

#include <jansson.h>
#include <uv.h>

#include "core/share/share.h"
#include "core/usage/usage.h"
#include "gpu/nvml.h"

/* The node around an instance. */
struct gs_strategy_node {
	uv_loop_t *loop;
	const char *state_dir;
	const char *cgroups; /* where the node's cgroups are mounted, for what outlives a container; NULL: not in one */
	void *user;
	/* Has `run` called on a worker thread, with NVML (NULL: not there), then `done` on the loop's thread, also when the
	 * daemon stops meanwhile. */
	void (*work)(void *user, void (*run)(const struct gs_nvml *nvml, void *of), void (*done)(void *of), void *of);
	/* The result of `ready` changed. */
	void (*changed)(void *user);
	/* The obstacle to its work may be gone: call `activate` again. */
	void (*again)(void *user);
	/* It changed what an inventory tells of a GPU. */
	void (*rescan)(void *user);
};

/* The config and the plan in force. */
struct gs_strategy_context {
	const struct gs_config *config;
	const struct gs_inventory *inventory;
	const struct gs_plan *plan;
};

/* Labels are names and values in turn, ended by NULL. */
typedef void gs_strategy_tell(void *user, const char *const *labels, double value);

struct gs_strategy_metric {
	const char *name;
	bool counter; /* else a gauge */
	const char *help;
	void (*tell)(const void *instance, gs_strategy_tell *tell, void *user);
};

/* The input of `deactivate`, which ends a strategy for good when no daemon runs. */
struct gs_strategy_end {
	const char *state_dir;
	const struct gs_config *config;
	bool uninstall; /* nothing shall be left; else files stay for a daemon to come */
	void *user;
	void (*say)(void *user, const char *text);                 /* a sentence on what was done */
	void (*failed)(void *user, const struct gs_error *reason); /* the rest is done all the same */
};

struct gs_strategy_life {
	const char *title;                        /* for messages: "MPS" */
	const char *state_file;                   /* in the state directory; NULL: none */
	const char *status_key;                   /* its member of the status document */
	const struct gs_strategy_metric *metrics; /* the last one has no name; NULL: none */

	void *(*create)(const struct gs_strategy_node *node);
	/* Sets those values in `next`, a config about to be in force, that can't change while this program runs, to the
	 * present ones. */
	void (*keep)(const void *instance, const struct gs_config *now, struct gs_config *next);
	/* Makes the node as this plan needs it, also when nothing of it is this strategy's any more: parts that are no
	 * longer needed go. Called at every change of plan; touches only what differs. */
	void (*activate)(void *instance, const struct gs_strategy_context *context);
	/* Something happened on this GPU (its UUID), whatever it means. */
	void (*observe)(void *instance, const char *gpu);
	/* Whether it lets a device's shares be allocated, however they are shared: its own leftovers there may be in
	 * the way. `*reason` is "" or a sentence, valid until the next callback. */
	bool (*ready)(const void *instance, const struct gs_strategy_context *context, uint32_t device,
		      const char **reason);
	/* The same for one share of this strategy, on a device that is ready. */
	bool (*share_ready)(const void *instance, const struct gs_strategy_context *context,
			    const struct gs_resource_device *on, const struct gs_share *share);
	/* The problems that keep shares from being allocated: a sentence each. */
	void (*problems)(const void *instance, void (*say)(void *user, const char *text), void *user);
	/* The parts that it runs on the node, for the status document: a list of objects. With `usage` each has the
	 * number of its `clients` too. */
	json_t *(*status)(const void *instance, const struct gs_usage *usage);
	/* The processes on devices of this strategy. */
	void (*clients)(const void *instance, const struct gs_usage *usage, gs_usage_client *tell, void *user);
	/* The strategy stops looking after the parts that it runs. They go on without this program. */
	void (*stop)(void *instance);
	/* Once the loop has nothing left to do. */
	void (*free)(void *instance);

	/* Ends all that it ever brought up on this node. Blocking; from a command line, while no daemon runs. */
	void (*deactivate)(const struct gs_strategy_end *end);
};

#endif
