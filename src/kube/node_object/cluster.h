/* The daemon in a cluster: one watch on its own Node object, and what it says about the node: labels, annotations,
 * conditions, events. Callers state what should be; this file makes it so, with one request per real change, retried
 * with back-off for as long as the API server is away. All on the loop's thread; nothing here blocks or fails.
 *
 * Every function accepts NULL for the cluster and then does nothing: that is RBAC-free mode, and a machine outside of a
 * cluster. */
#ifndef GPUSHARE_NODE_CLUSTER_H
#define GPUSHARE_NODE_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"

struct cluster;

struct cluster_options {
	const char *node_name;
	const char *host, *port;         /* of the API server: KUBERNETES_SERVICE_HOST and _PORT */
	const char *service_account_dir; /* has token and ca.crt, which are read again when they change */
	const char *feature_namespace;   /* for cluster_clean: where a NodeFeature object may be; NULL: nowhere */
};

/* Begins to connect. -1 when libcurl or the credentials are missing; an API server that is away is not an error. */
int cluster_start(uv_loop_t *loop, const struct cluster_options *options, struct cluster **cluster,
		  struct gs_error *err);
/* Gives up the requests under way, but first sets the conditions to unknown, for two seconds at most. Makes no
 * callbacks. The loop must run until the memory has gone. */
void cluster_stop(struct cluster *cluster);
/* The same without that last request: another daemon looks after the node from now on. */
void cluster_close(struct cluster *cluster);

/* Takes back all that the daemon ever said about the node: labels and annotations of its managers, its conditions, and its
 * NodeFeature object (events expire by themselves). Blocks, for API_TIMEOUT_MS (kube/api/api.h) at most; for a node that no daemon runs on any
 * more. */
int cluster_clean(const struct cluster_options *options, struct gs_error *err);

/* --- what the Node object says --- */

/* Called with the label's value (NULL: the node does not have it) once after the first answer of the API server, and
 * again after every change. The text is valid during the call. */
typedef void cluster_label_changed(void *user, const char *value);
/* `key` must live as long as the cluster. At most CLUSTER_WATCHED_LABELS_MAX watchers, one call each. */
void cluster_watch_label(struct cluster *cluster, const char *key, cluster_label_changed *changed, void *user);
enum { CLUSTER_WATCHED_LABELS_MAX = 8 };

/* --- what we say about the node --- */

/* A label or an annotation. */
struct cluster_pair {
	const char *key, *value;
};
struct cluster_metadata {
	const struct cluster_pair *labels;
	size_t label_count;
	const struct cluster_pair *annotations;
	size_t annotation_count;
};

/* The complete set of labels and annotations that `manager` wants on the node: keys that it set before and no longer
 * names are removed (server-side apply with this field manager). Each room that labels uses a manager of its own:
 * "gpushare" for the features' labels, "gpushare-mig" for MIG's state. Copied; the same set again costs no request.
 * Values that another writer sets for the same keys are overwritten. */
void cluster_set_metadata(struct cluster *cluster, const char *manager, const struct cluster_metadata *metadata);
enum { CLUSTER_MANAGERS_MAX = 4 };
/* While `leave`, labels, annotations and the NodeFeature object stay as they are, also where another writer changes
 * them; sets made meanwhile are sent afterwards. */
void cluster_leave_metadata(struct cluster *cluster, bool leave);

/* The same labels as a NodeFeature object of Node Feature Discovery, whose master puts them on the node: the object
 * nvidia-features-for-NODE in `space` (a namespace). `answered` is called after each answer that will stay: true when the
 * object is as it should be, false when the cluster has no such objects or does not let us write them (404, 403). It may
 * call the functions here. */
typedef void cluster_feature_answered(void *user, bool accepted);
#define CLUSTER_FEATURE_MANAGER "gpushare-nfd"
#define CLUSTER_FEATURE_PATH    "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/%s/nodefeatures/nvidia-features-for-%s"
void cluster_set_feature(struct cluster *cluster, const char *space, const struct cluster_pair *labels,
			 size_t label_count, cluster_feature_answered *answered, void *user);

/* Sets a condition of the node. `reason` is CamelCase; `message` a sentence. The same again costs no request; every five
 * minutes all are said again, with another lastHeartbeatTime. Types in
 * use are listed in docs/cluster-api.md. */
void cluster_set_condition(struct cluster *cluster, const char *type, bool status, const char *reason,
			   const char *message);
enum { CLUSTER_CONDITIONS_MAX = 8 };
/* The node has no such condition: neither ours nor one that an earlier daemon left. */
void cluster_clear_condition(struct cluster *cluster, const char *type);

/* Records an event on the node, in the namespace default. The same reason and message again within ten minutes is not
 * recorded again; a flood is cut to a few a minute. `action` is what the daemon was doing, in CamelCase. */
void cluster_event(struct cluster *cluster, bool warning, const char *reason, const char *action, const char *message);

/* --- for status --- */

struct cluster_state {
	const char *node_name;
	const char *server;    /* https://host:port */
	const char *state;     /* "Connecting", "Watching", "Retrying" */
	const char *problem;   /* "" when all is well */
	int64_t since_seconds; /* of the state */
	uint64_t requests;     /* sent since the start, watches included */
	uint64_t watches;      /* of these */
	size_t waiting;        /* changes and events not yet delivered */
};
void cluster_get_state(const struct cluster *cluster, struct cluster_state *state);

#endif
