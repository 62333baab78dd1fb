/* The connection's life, and what the watch on the own Node tells. */
#include "kube/node_object/cluster.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "kube/node_object/cluster_internal.h"

static int64_t now_seconds(void)
{
	return (int64_t)time(NULL);
}

static void set_state(struct cluster *cluster, const char *state)
{
	if (strcmp(cluster->state, state) != 0)
		cluster->state_since = now_seconds();
	cluster->state = state;
}

/* --- labels of the node --- */

static void tell(struct watched_label *watched, const char *value)
{
	free(watched->value);
	watched->value = value ? gs_strdup(value) : NULL;
	watched->changed(watched->user, watched->value);
}

static const char *label_of(const struct cluster *cluster, const char *key)
{
	return json_string_value(json_object_get(cluster->labels, key));
}

void cluster_watch_label(struct cluster *cluster, const char *key, cluster_label_changed *changed, void *user)
{
	if (!cluster || cluster->watched_count == CLUSTER_WATCHED_LABELS_MAX)
		return;
	struct watched_label *watched = &cluster->watched[cluster->watched_count++];
	*watched = (struct watched_label){.key = key, .changed = changed, .user = user};
	if (cluster->synced)
		tell(watched, label_of(cluster, key));
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static void tell_changes(struct cluster *cluster)
{
	bool first = !cluster->synced;
	cluster->synced = true;
	for (size_t i = 0; i < cluster->watched_count; i++) {
		struct watched_label *watched = &cluster->watched[i];
		const char *value = label_of(cluster, watched->key);
		if (first || !same_text(value, watched->value))
			tell(watched, value);
	}
}

/* --- the watch --- */

static void take_copy(json_t **place, const json_t *object)
{
	json_decref(*place);
	*place = json_is_object(object) ? json_incref((json_t *)object) : json_object();
}

/* Not when it accepts the watch, since one that ends each at once would fill the log. */
static void log_connected(struct cluster *cluster)
{
	if (!cluster->logged_connected)
		gs_log(GS_LOG_INFO, "connected to the API server", GS_STR("server", api_server(cluster->api)),
		       GS_STR("node", cluster->node_name));
	cluster->logged_connected = true;
	free(cluster->logged_problem);
	cluster->logged_problem = NULL;
}

static bool on_node(void *user, enum api_event_type type, const json_t *object)
{
	struct cluster *cluster = user;
	const json_t *metadata = json_object_get(object, "metadata");
	const char *name = json_string_value(json_object_get(metadata, "name"));
	const char *uid = json_string_value(json_object_get(metadata, "uid"));
	/* Another object than the requested one: the answer is dropped. */
	if (!name || strcmp(name, cluster->node_name) != 0)
		return false;
	if (cluster->stopping) /* the watch's owner may be gone */
		return true;
	log_connected(cluster);
	if (type == API_DELETED) {
		gs_log(GS_LOG_WARNING, "this node was deleted from the cluster", GS_STR("node", name));
		return true;
	}
	if (uid && !same_text(uid, cluster->node_uid)) {
		if (cluster->node_uid)
			cluster_start_over(cluster);
		free(cluster->node_uid);
		cluster->node_uid = gs_strdup(uid);
	}
	take_copy(&cluster->labels, json_object_get(metadata, "labels"));
	take_copy(&cluster->annotations, json_object_get(metadata, "annotations"));
	tell_changes(cluster);
	const char *text = json_string_value(json_object_get(metadata, "resourceVersion"));
	uint64_t version = text ? strtoull(text, NULL, 10) : 0;
	if (version < cluster->version)
		cluster_forget_versions(cluster);
	cluster->version = version;
	cluster_check_managed(cluster);
	return true;
}

static void on_watch_state(void *user, const char *problem)
{
	struct cluster *cluster = user;
	if (cluster->stopping)
		return;
	if (!problem) {
		/* The next watch is to be accepted first; the server may be gone by then. */
		set_state(cluster, "Connecting");
		return;
	}
	if (!*problem) {
		set_state(cluster, "Watching");
		free(cluster->watch_problem);
		cluster->watch_problem = NULL;
		cluster_hurry(cluster);
		return;
	}
	if (!same_text(problem, cluster->logged_problem)) {
		gs_log(GS_LOG_WARNING, "no connection to the API server; trying again", GS_STR("error", problem));
		free(cluster->logged_problem);
		cluster->logged_problem = gs_strdup(problem);
		cluster->logged_connected = false;
	}
	set_state(cluster, "Retrying");
	free(cluster->watch_problem);
	cluster->watch_problem = gs_strdup(problem);
}

/* --- life --- */

enum { LAST_WORDS_MS = 2000 };

static void on_heartbeat(uv_timer_t *timer)
{
	struct cluster *cluster = timer->data;
	cluster_say_again(cluster);
	cluster_work(cluster);
}

static bool is_node_name(const char *name)
{
	size_t length = strlen(name);
	return length > 0 && length <= 253 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == length;
}

int cluster_start(uv_loop_t *loop, const struct cluster_options *options, struct cluster **out, struct gs_error *err)
{
	if (!is_node_name(options->node_name))
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "\"%s\" is no name of a node; set kubernetes.nodeName, or NODE_NAME from spec.nodeName",
			       options->node_name);
	const struct api_options api_options = {
		.host = options->host, .port = options->port, .credentials_dir = options->service_account_dir};
	struct api *api;
	if (api_open(loop, &api_options, &api, err) < 0)
		return -1;
	struct cluster *cluster = gs_calloc(1, sizeof *cluster);
	*cluster = (struct cluster){
		.loop = loop,
		.api = api,
		.node_name = gs_strdup(options->node_name),
		.node_path = gs_printf("/api/v1/nodes/%s", options->node_name),
		.state = "Connecting",
		.state_since = now_seconds(),
		.event_allowance = CLUSTER_EVENT_BURST,
		.event_refilled_ms = uv_now(loop),
		.event_number = api_random(),
	};
	uv_timer_init(loop, &cluster->work_timer);
	cluster->work_timer.data = cluster;
	uv_timer_init(loop, &cluster->heartbeat);
	cluster->heartbeat.data = cluster;
	cluster->handles = 2;
	/* At random, so that the nodes of a cluster do not all speak at once. */
	uv_timer_start(&cluster->heartbeat, on_heartbeat, api_random() % CLUSTER_HEARTBEAT_MS, CLUSTER_HEARTBEAT_MS);
	for (size_t i = 0; i < CLUSTER_JOBS_MAX; i++)
		cluster->jobs[i].cluster = cluster;
	const struct api_watch_owner owner = {.user = cluster, .event = on_node, .state = on_watch_state};
	GS_AUTO_FREE char *path = gs_printf("/api/v1/nodes?fieldSelector=metadata.name%%3D%s", options->node_name);
	api_watch(api, path, &owner);
	*out = cluster;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct cluster *cluster = handle->data;
	if (--cluster->handles > 0)
		return;
	cluster_free_writes(cluster);
	for (size_t i = 0; i < cluster->watched_count; i++)
		free(cluster->watched[i].value);
	json_decref(cluster->labels);
	json_decref(cluster->annotations);
	free(cluster->node_name);
	free(cluster->node_path);
	free(cluster->node_uid);
	free(cluster->watch_problem);
	free(cluster->logged_problem);
	free(cluster);
}

void cluster_close(struct cluster *cluster)
{
	if (!cluster || !cluster->api)
		return;
	api_close(cluster->api);
	cluster->api = NULL;
	uv_close((uv_handle_t *)&cluster->work_timer, on_closed);
	uv_close((uv_handle_t *)&cluster->heartbeat, on_closed);
}

static void on_last_words_overdue(uv_timer_t *timer)
{
	cluster_close(timer->data);
}

void cluster_stop(struct cluster *cluster)
{
	if (!cluster)
		return;
	cluster->stopping = true;
	if (!cluster_say_unknown(cluster)) {
		cluster_close(cluster);
		return;
	}
	uv_timer_start(&cluster->heartbeat, on_last_words_overdue, LAST_WORDS_MS, 0);
	cluster_work(cluster);
}

void cluster_get_state(const struct cluster *cluster, struct cluster_state *state)
{
	*state = (struct cluster_state){.state = "Off", .problem = "", .server = "", .node_name = ""};
	if (!cluster)
		return;
	state->node_name = cluster->node_name;
	state->server = api_server(cluster->api);
	state->state = cluster->state;
	state->since_seconds = cluster->state_since;
	api_counts(cluster->api, &state->requests, &state->watches);
	cluster_writes_state(cluster, state);
	if (cluster->watch_problem)
		state->problem = cluster->watch_problem;
	/* A server that is stopped keeps its connections; only its silence shows it. */
	if (strcmp(state->state, "Watching") == 0 && cluster_unanswered(cluster))
		state->state = "Retrying";
}
