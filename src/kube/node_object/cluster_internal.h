/* Shared by cluster.c and cluster_write.c. */
#ifndef GPUSHARE_NODE_CLUSTER_INTERNAL_H
#define GPUSHARE_NODE_CLUSTER_INTERNAL_H

#include <jansson.h>

#include "kube/api/api.h"
#include "kube/node_object/cluster.h"

enum {
	CLUSTER_HEARTBEAT_MS = 5 * 60 * 1000,
	CLUSTER_EVENTS_MAX = 32,             /* waiting for the API server */
	CLUSTER_REMEMBERED_MAX = 32,         /* events recorded lately */
	CLUSTER_EVENT_BURST = 10,            /* events at once; after them */
	CLUSTER_EVENT_REFILL_MS = 20 * 1000, /* one in this time */
	CLUSTER_JOBS_MAX = CLUSTER_MANAGERS_MAX + 2,
};

struct watched_label {
	const char *key;
	cluster_label_changed *changed;
	void *user;
	char *value;
};

/* One kind of change that is brought to the API server: at most one request of it at a time. */
struct cluster_job {
	struct cluster *cluster;
	bool busy;
	bool may_hurry;         /* the last failure was the connection's, or a right's */
	bool unanswered;        /* the last try had no answer at all */
	unsigned attempt;       /* failures in a row */
	unsigned denials;       /* of these the last ones, for want of a right */
	uint64_t not_before_ms; /* loop time */
	char *problem;          /* why the last try failed; NULL: it did not */
};

struct managed {
	char *manager;
	char *path;                         /* of the object; NULL: the Node */
	cluster_feature_answered *answered; /* of another object than the Node */
	void *user;
	json_t *wanted, *delivered, *refused; /* apply bodies; NULL: none */
	json_t *sent;
	bool unavailable;           /* no CRD or no right, and no problem: asked for now and then */
	uint64_t delivered_version; /* resourceVersion of the Node after our change */
	unsigned overwritten;       /* times in a row that another writer changed it */
	uint64_t overwritten_ms;
};

struct condition {
	char *type, *reason, *message;
	const char *status; /* "True", "False"; NULL: it should not be there */
	int64_t changed_seconds;
	bool delivered, sent;
};

struct waiting_event {
	char *name;
	json_t *body; /* without the node's uid */
};

struct remembered_event {
	uint64_t hash, at_ms;
};

struct cluster {
	uv_loop_t *loop;
	struct api *api;
	char *node_name, *node_path;
	char *node_uid; /* NULL until the watch told */
	bool synced;
	json_t *labels, *annotations; /* of the node as last seen, at this version */
	uint64_t version;
	struct watched_label watched[CLUSTER_WATCHED_LABELS_MAX];
	size_t watched_count;

	const char *state;
	int64_t state_since;
	char *watch_problem;  /* NULL: none */
	char *logged_problem; /* the last one that was logged, until the node was heard of again */
	bool logged_connected;
	uv_timer_t heartbeat; /* conditions are said again; when stopping: how long the last words may take */
	bool stopping;
	int handles;

	struct managed managed[CLUSTER_MANAGERS_MAX];
	size_t managed_count;
	bool leaves_metadata;
	struct condition conditions[CLUSTER_CONDITIONS_MAX];
	size_t condition_count;
	json_t *conditions_refused;
	struct waiting_event events[CLUSTER_EVENTS_MAX]; /* oldest first */
	size_t event_count;
	struct remembered_event remembered[CLUSTER_REMEMBERED_MAX];
	size_t remembered_next;
	unsigned event_allowance;
	uint64_t event_refilled_ms;
	uint64_t events_dropped;
	uint32_t event_number;

	struct cluster_job jobs[CLUSTER_JOBS_MAX]; /* one for each manager, then conditions, then events */
	uv_timer_t work_timer;
};

/* cluster_write.c: sends the writes that are due, and sets a timer for those that are not. */
void cluster_work(struct cluster *cluster);
/* The API server is back, or lets us watch: nothing waits any longer that failed for want of either. */
void cluster_hurry(struct cluster *cluster);
/* The node was made anew: nothing that we said stands. */
void cluster_start_over(struct cluster *cluster);
/* Compares what the node said last with what we set. */
void cluster_check_managed(struct cluster *cluster);
/* Numbers begin again: the API server's store is an older one. */
void cluster_forget_versions(struct cluster *cluster);
/* Fills in `waiting`, and `problem` when a change is refused or delayed. */
void cluster_writes_state(const struct cluster *cluster, struct cluster_state *state);
void cluster_free_writes(struct cluster *cluster);

/* All conditions are to be sent again, for their heartbeat. */
void cluster_say_again(struct cluster *cluster);
/* The last request: no daemon looks after the node any more, so every condition becomes unknown. False when there is no
 * condition to write. Calls cluster_close once the API server has accepted or refused it. */
bool cluster_say_unknown(struct cluster *cluster);
/* Whether a change of the node had no answer at all. */
bool cluster_unanswered(const struct cluster *cluster);

#endif
