/* The daemon's one object, and what its parts call of each other. All on the loop's thread. */
#ifndef GPUSHARE_NODE_NODE_INTERNAL_H
#define GPUSHARE_NODE_NODE_INTERNAL_H

#include <jansson.h>
#include <uv.h>

#include "base/vec.h"
#include "core/config/config.h"
#include "core/share/share.h"
#include "kube/plugin/plugin.h"
#include "kube/plugin/pod_resources.h"
#include "kube/node_object/cluster.h"
#include "monitor/gpus.h"
#include "node/labels.h"
#include "node/ledger.h"
#include "node/node.h"
#include "rpc/rpc.h"
#include "strategy/active.h"

struct node_others;
struct node_specs;
struct gs_usage;
struct http_server;
struct handover;

struct node {
	uv_loop_t loop;
	const struct node_options *options;
	int64_t started_seconds;
	bool stopping;

	/* Desired: the last good config and what the GPU room last saw. */
	struct gs_config config;
	bool config_ready;           /* there is one in force; else nothing is published */
	bool config_waits_for_label; /* nothing is chosen yet */
	bool config_label_known;     /* the API server said whether the node has the label */
	bool config_unwatched;       /* said once */
	bool config_unkept;          /* it could not be written for the next start */
	bool config_unread;          /* it could not be read, which may pass; else it was read, and is not valid */
	char *config_text;           /* of the file in force; NULL without a file */
	char *config_name;    /* of that file in the directory of configurations; NULL: not chosen, or a single file */
	char *config_label;   /* of the node; NULL: it has none */
	char *config_problem; /* why the file that is there now is not in force; NULL when it is */
	char *serve_problem;  /* why a resource could not be served; NULL when all are */
	bool serve_conflict;  /* because another process serves it */
	char *plan_problem;   /* why the config does not fit the hardware; NULL when it does */
	struct gpus *gpus;
	struct cluster *cluster; /* NULL: no API server */
	char *cluster_problem;   /* why there is none though the config wants it; NULL: all is well */
	struct gs_inventory inventory;
	bool inventory_known; /* the GPUs were read at least once */
	bool lacks_imex;      /* as told */
	bool *device_healthy; /* of inventory.devices, as published */

	/* What we last wrote to the cluster. */
	bool config_bad_reported;
	GS_VEC(char *) reported_sick; /* UUIDs */

	struct kube_pods *pods;     /* NULL: the kubelet is not asked */
	struct node_labels *labels; /* NULL: not started, or stopping */

	/* Actual: the published resources. */
	struct gs_plan plan;
	GS_VEC(struct kube_plugin *) plugins;
	struct node_others *others;   /* others.h; NULL: not started, or stopping */
	struct gs_active *strategies; /* NULL: not started */
	struct ledger *ledger;
	struct lane *ledger_lane; /* NULL: not started, or stopping */
	char *ledger_text;        /* being written; NULL: no write is under way */
	int ledger_result;
	struct gs_error ledger_error;
	bool ledger_failed;       /* said once, until a save works again */
	struct node_specs *specs; /* specs.h; NULL: not started, or stopping */

	GS_VEC(struct withdrawal *) withdrawals; /* withdraw.h */
	GS_VEC(struct vanished *) vanished;      /* vanished.h, oldest first */
	struct missing *missing;                 /* missing.h */
	struct mig_manager *mig;                 /* mig_manager.h; NULL: no cluster */

	char *pause;                 /* pause.h: why this program is executed again, without NVML; NULL: it is not */
	struct handover *handover;   /* handover.h; NULL: none is offered, and none is waited for */
	struct gs_error start_error; /* why it could not take over */
	bool in_charge;              /* the directories are this daemon's; else it waits for another one */
	bool retired;                /* another daemon has all but the kubelet's open connections */
	bool taken_over;             /* and serves: the end is at once, and touches nothing */
	void (*on_retired)(void *user);
	void *retired_user;

	struct rpc_server *status_server;
	bool socket_lost;                   /* its socket's file is gone and could not be made anew; said once */
	struct http_server *metrics_server; /* NULL: none is wanted */
	bool metrics_ask_pods;              /* the kubelet was asked for a scrape, and has not answered yet */
	int plugin_dir_lock, state_dir_lock;

	uv_signal_t signals[4];
	uv_fs_event_t config_events[2], plugin_event;
	bool plugin_event_active;
	ino_t plugin_dir_inode;
	ino_t kubelet_inode; /* of the kubelet.sock that was there last; another one is another kubelet */
	struct timespec kubelet_time;
	uv_timer_t config_timer; /* debounce; until the label is known: how long to wait for it */
	uv_timer_t plugin_timer; /* the kubelet's directory is missing, or a socket could not be bound: look again */
	uv_timer_t ledger_timer;
	uv_timer_t stop_timer; /* how long a stop waits for the GPU room */
	bool abandoned;        /* the time ran out before the GPU room ended */
	bool left_behind;      /* a thread is with a driver that hangs */
};

/* config.c: reads the file into node->config. At start a bad file is an error; later it is logged and the last good
 * one stays. `force` reloads even when the text is the same. True when the config in force changed. */
int node_config_load(struct node *node, struct gs_error *err);
bool node_config_reload(struct node *node, bool force);
void node_config_watch(struct node *node);
/* The GPUs were looked at: what could not be written for the next start before may be by now. */
void node_config_looked(struct node *node);
/* Once, when it is known whether there is a cluster: chooses and loads from the directory of configurations. */
void node_config_begin(struct node *node);
/* The node's label has this value (NULL: the node does not have it). */
void node_config_label(struct node *node, const char *value);

/* node.c: the directories are locked: everything else begins. */
void node_take_charge(struct node *node);
void node_unlock(struct node *node);
/* Leaves everything but the kubelet's open connections, then calls `done`, in 10 s at most. */
void node_retire(struct node *node, void (*done)(void *user), void *user);
void node_stop(struct node *node);

/* publish.c: makes the published resources equal to the planned ones. Safe to call at any time; touches only what
 * changed. */
void node_publish(struct node *node, const struct gs_inventory *inventory);
void node_republish(struct node *node);
void node_retry_publish(struct node *node);
/* Registers the resources that are served but not yet announced: the daemon before had healthy shares of them, and this
 * one had none. */
void node_announce(struct node *node);
/* Health alone changed: the lists are sent again where they differ. */
void node_publish_health(struct node *node);
/* Whether a device of node->inventory can be allocated; `reason` is "" or says why not, valid until the next change. */
/* Why no share can be allocated, or NULL: a device node that a container must get is missing. */
const char *node_imex_problem(const struct node *node);
bool node_device_healthy(const struct node *node, uint32_t which, const char **reason);
/* The same for one share (its position in the resource), as published. */
bool node_share_healthy(const struct node *node, const struct gs_resource *resource,
			const struct gs_resource_device *on, uint32_t share);
void node_unpublish(struct node *node);
/* kubelet.c: the kubelet's directory: sockets that vanished are bound again, a new kubelet is registered with. */
void node_kubelet_watch(struct node *node);
void node_kubelet_look_again(struct node *node);

/* A resource ("": none, because of another plugin) could not be served, or with NULL all can: says so once and looks
 * again. */
void node_serve_problem(struct node *node, const char *resource, const struct gs_error *err);
/* report.c: the cluster learns what an operator must know. Safe to call at any time; says only what changed. */
void node_join_cluster(struct node *node);
void node_report(struct node *node);
/* There is no driver, and no GPU that could want one. */
bool node_lacks_gpu(const struct node *node);

/* strategies.c: an instance of each strategy, and what they have of the daemon. Freed with node->strategies. */
void node_strategies_start(struct node *node);
/* Makes the node as the plan in force needs it. */
void node_strategies_activate(struct node *node);
/* The plan in force, for questions to node->strategies. */
struct gs_strategy_context node_strategies_context(const struct node *node);

/* metrics.c: whether the kubelet can give out all that there is; and serves /metrics, /healthz and /readyz, if that is wanted. */
bool node_is_ready(const struct node *node);
int node_metrics_start(struct node *node, struct gs_error *err);

/* status.c: adds a sentence for each GPU that can't be read, wholly or in part, to a list. */
void node_unread_problems(const struct node *node, json_t *problems);
extern const struct rpc_method node_status_methods[];

#endif
