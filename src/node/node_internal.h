/* The daemon's one object, and what its parts call of each other. All on the loop's thread. */
#ifndef GPUSHARE_NODE_NODE_INTERNAL_H
#define GPUSHARE_NODE_NODE_INTERNAL_H

#include <uv.h>

#include "base/vec.h"
#include "core/config.h"
#include "core/share.h"
#include "kube/plugin.h"
#include "node/gpus.h"
#include "node/ledger.h"
#include "node/node.h"
#include "rpc/rpc.h"

struct node {
	uv_loop_t loop;
	const struct node_options *options;
	int64_t started_seconds;
	bool stopping;

	/* Desired: the last good config and what the GPU room last saw. */
	struct gs_config config;
	char *config_text;    /* of the file as last read, good or bad; NULL without a file */
	char *config_problem; /* why the file that is there now is not in force; NULL when it is */
	char *serve_problem;  /* the last reason why a resource could not be served, so that it is logged once */
	char *plan_problem;   /* why the config does not fit the hardware; NULL when it does */
	struct gpus *gpus;
	struct gs_inventory inventory;
	bool gpu_healthy[GS_GPUS_MAX];

	/* Actual: what is published. */
	struct gs_plan plan;
	GS_VEC(struct kube_plugin *) plugins;
	struct ledger *ledger;
	uv_work_t ledger_work;
	char *ledger_text; /* being written; NULL: no write is under way */
	int ledger_result;
	struct gs_error ledger_error;
	bool ledger_failed; /* said once, until a save works again */
	bool cdi_failed;

	struct rpc_server *status_server;
	int plugin_dir_lock, state_dir_lock;

	uv_signal_t signals[4];
	uv_fs_event_t config_event, plugin_event;
	bool plugin_event_active;
	ino_t plugin_dir_inode;
	ino_t kubelet_inode; /* of the kubelet.sock that was there last; another one is another kubelet */
	struct timespec kubelet_time;
	uv_timer_t config_timer; /* debounce */
	uv_timer_t plugin_timer; /* the kubelet's directory is missing, or a socket could not be bound: look again */
	uv_timer_t ledger_timer;
};

/* config.c: reads the file into node->config. At start a bad file is an error; later it is logged and the last good
 * one stays. `force` reloads even when the text is the same. True when the config in force changed. */
int node_config_load(struct node *node, struct gs_error *err);
bool node_config_reload(struct node *node, bool force);
void node_config_watch(struct node *node);

/* publish.c: makes what is published equal to what should be. Safe to call at any time; touches only what changed. */
void node_publish(struct node *node, const struct gs_inventory *inventory);
void node_republish(struct node *node);
void node_retry_publish(struct node *node);
/* Health alone changed: the lists are sent again where they differ. */
void node_publish_health(struct node *node);
void node_unpublish(struct node *node);
/* kubelet.c: the kubelet's directory: sockets that vanished are bound again, a new kubelet is registered with. */
void node_kubelet_watch(struct node *node);
void node_kubelet_look_again(struct node *node);

/* status.c */
extern const struct rpc_method node_status_methods[];

#endif
