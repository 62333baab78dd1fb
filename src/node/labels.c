/* Publishes the node's labels: on the Node object (or as a NodeFeature object), and in Node Feature Discovery's file. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/lane.h"
#include "base/log.h"
#include "node/labels.h"
#include "node/node_internal.h"
#include "node/others.h"

enum {
	MACHINE_BYTES_MAX = 4096,
	NAMESPACE_BYTES_MAX = 256,
	FILE_BYTES_MAX = 1024 * 1024,
	LOOK_SECONDS_MAX = 24 * 60 * 60,
	RETRY_MS = 30000, /* a file that could not be written */
};

struct node_labels {
	struct node *node;
	bool built; /* at least once */
	struct gs_labels labels;
	char *namespace; /* for the NodeFeature object */
	bool by_feature; /* where they should go */
	bool feature_refused;
	uv_timer_t timer; /* the file is looked at again */

	struct lane *lane;
	bool writing, again; /* `again`: the file should be another one by now */
	bool stopping;
	bool freed_handle;
	char *path, *text; /* of the write under way */
	bool failed, written;
	struct gs_error err;
	char *problem; /* of the last write; NULL: none */
};

/* --- the machine --- */

void node_read_machine(const char *path, char *machine, size_t size)
{
	struct stat status;
	size_t length;
	machine[0] = '\0';
	/* A pipe of that name would hang its reader. */
	if (!path || stat(path, &status) < 0 || !S_ISREG(status.st_mode))
		return;
	GS_AUTO_FREE char *text = gs_read_file_again(path, MACHINE_BYTES_MAX, &length, NULL);
	if (text)
		snprintf(machine, size, "%.*s", (int)strcspn(text, "\n"), text);
}

/* --- the feature file --- */

/* "DIR/.gfd.tmp": NFD reads every file of its directory but hidden ones, so a half-written file must have such a name. */
static char *hidden_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	int length = slash ? (int)(slash - path) : 0;
	return gs_printf("%.*s/.%s", length, path, slash ? slash + 1 : path);
}

/* Makes the file's content `text`, unless it is already (`written` tells). Atomic, and under a hidden name until it is
 * whole. Waits for the disk. */
static int node_feature_file_write(const char *path, const char *text, bool *written, struct gs_error *err)
{
	size_t length;
	*written = false;
	GS_AUTO_FREE char *old = gs_read_own_file(path, FILE_BYTES_MAX, &length, NULL);
	if (old && strcmp(old, text) == 0)
		return 0;
	GS_AUTO_FREE char *hidden = hidden_name(path);
	if (gs_write_file(hidden, text, strlen(text), 0644, err) < 0)
		return -1;
	if (rename(hidden, path) < 0) {
		gs_fail_errno(err, "cannot rename %s to %s", hidden, path);
		unlink(hidden);
		return -1;
	}
	*written = true;
	return 0;
}

/* Without NFD its directory is not there, and there is no one to write for. */
static bool directory_exists(const char *path)
{
	GS_AUTO_FREE char *directory = gs_strdup(path);
	char *slash = strrchr(directory, '/');
	struct stat status;
	if (slash)
		*slash = '\0';
	return slash && stat(*directory ? directory : "/", &status) == 0 && S_ISDIR(status.st_mode);
}

/* The text again in the state directory, by which the file is known to be ours: NVIDIA's program writes one of that name. */
static void record(const char *state_dir, const char *text)
{
	size_t length;
	GS_AUTO_FREE char *path = gs_printf("%s/" NODE_LABELS_RECORD, state_dir);
	GS_AUTO_FREE char *old = gs_read_own_file(path, FILE_BYTES_MAX, &length, NULL);
	if (!old || strcmp(old, text) != 0)
		gs_write_file(path, text, strlen(text), 0600, NULL);
}

bool node_feature_file_is_ours(const char *path, const char *state_dir)
{
	size_t length;
	GS_AUTO_FREE char *record_path = gs_printf("%s/" NODE_LABELS_RECORD, state_dir);
	GS_AUTO_FREE char *recorded = gs_read_own_file(record_path, FILE_BYTES_MAX, &length, NULL);
	GS_AUTO_FREE char *there = gs_read_own_file(path, FILE_BYTES_MAX, &length, NULL);
	return recorded && there && strcmp(recorded, there) == 0;
}

static void run_write(void *user)
{
	struct node_labels *labels = user;
	labels->written = false;
	labels->failed = directory_exists(labels->path) &&
			 node_feature_file_write(labels->path, labels->text, &labels->written, &labels->err) < 0;
	if (!labels->failed)
		record(labels->node->options->state_dir, labels->text);
}

static void free_when_stopped(struct node_labels *labels)
{
	if (!labels->stopping || labels->writing || !labels->freed_handle)
		return;
	lane_close(labels->lane, NULL, NULL);
	gs_labels_free(&labels->labels);
	free(labels->namespace);
	free(labels->path);
	free(labels->text);
	free(labels->problem);
	free(labels);
}

static void write_file(struct node_labels *labels);

static void on_timer(uv_timer_t *timer)
{
	write_file(timer->data);
}

static void note_problem(struct node_labels *labels)
{
	const char *problem = labels->failed ? labels->err.text : NULL;
	if (problem && (!labels->problem || strcmp(labels->problem, problem) != 0))
		gs_log(GS_LOG_WARNING, "the labels' file cannot be written; trying again", GS_STR("error", problem));
	free(labels->problem);
	labels->problem = problem ? gs_strdup(problem) : NULL;
}

static bool is_forever(const struct gs_config *config)
{
	return config->flags.gfd.oneshot || config->flags.gfd.sleep_interval_ns == INT64_MAX;
}

static void after_write(void *user)
{
	struct node_labels *labels = user;
	labels->writing = false;
	if (labels->stopping) {
		free_when_stopped(labels);
		return;
	}
	note_problem(labels);
	if (labels->written)
		gs_log(GS_LOG_INFO, "labels written for Node Feature Discovery", GS_STR("file", labels->path));
	int64_t interval_ns = labels->node->config.flags.gfd.sleep_interval_ns;
	if (labels->again)
		write_file(labels);
	else if (labels->failed)
		uv_timer_start(&labels->timer, on_timer, RETRY_MS, 0);
	else if (!is_forever(&labels->node->config) && interval_ns > 0)
		uv_timer_start(&labels->timer, on_timer,
			       interval_ns / 1000000 < LOOK_SECONDS_MAX * 1000LL ? (uint64_t)(interval_ns / 1000000) + 1
										 : LOOK_SECONDS_MAX * 1000ULL,
			       0);
}

/* Writes the labels to the file, on another thread. */
static void write_file(struct node_labels *labels)
{
	const char *path = labels->node->config.flags.gfd.output_file;
	labels->again = labels->writing;
	if (labels->writing || !path || !*path || !labels->built || node_others_hold(labels->node))
		return;
	struct gs_strbuf text = {0};
	gs_labels_feature_file(&labels->labels, &text);
	free(labels->path);
	free(labels->text);
	labels->path = gs_strdup(path);
	labels->text = gs_strbuf_take(&text);
	labels->writing = true;
	lane_run(labels->lane, &(struct lane_work){.run = run_write, .done = after_write, .user = labels});
}

/* --- the Node object, or a NodeFeature --- */

static void send_labels(struct node_labels *labels);

char *node_own_namespace(const char *service_account_dir)
{
	const char *given = getenv("NAMESPACE");
	size_t length;
	if (given && *given)
		return gs_strdup(given);
	GS_AUTO_FREE char *path = gs_printf("%s/namespace", service_account_dir);
	GS_AUTO_FREE char *text = gs_read_file_again(path, NAMESPACE_BYTES_MAX, &length, NULL);
	if (text)
		text[strcspn(text, "\n")] = '\0';
	return gs_strdup(text && *text ? text : "default");
}

static void on_feature_answered(void *user, bool accepted)
{
	struct node_labels *labels = user;
	const struct cluster_metadata none = {0};
	if (accepted) {
		labels->feature_refused = false;
		/* Labels that an earlier run put on the Node itself go. */
		if (labels->by_feature)
			cluster_set_metadata(labels->node->cluster, NODE_LABELS_MANAGER, &none);
		return;
	}
	if (!labels->by_feature)
		return;
	if (!labels->feature_refused)
		gs_log(GS_LOG_INFO, "NodeFeature objects can't be written here; labelling the Node itself");
	labels->feature_refused = true;
	send_labels(labels);
}

static void send_labels(struct node_labels *labels)
{
	struct node *node = labels->node;
	size_t count = labels->labels.count;
	GS_AUTO_FREE struct cluster_pair *pairs = gs_calloc(count, sizeof *pairs);
	for (size_t i = 0; i < count; i++)
		pairs[i] = (struct cluster_pair){.key = labels->labels.items[i].key,
						 .value = labels->labels.items[i].value};
	bool was_by_feature = labels->by_feature;
	labels->by_feature = node->config.flags.use_node_feature_api;
	if (labels->by_feature)
		cluster_set_feature(node->cluster, labels->namespace, pairs, count, on_feature_answered, labels);
	if (labels->by_feature && !labels->feature_refused)
		return;
	/* While it is refused the Node has them, and the object is tried again. */
	if (was_by_feature && !labels->by_feature)
		cluster_set_feature(node->cluster, labels->namespace, NULL, 0, on_feature_answered, labels);
	const struct cluster_metadata metadata = {.labels = pairs, .label_count = count};
	cluster_set_metadata(node->cluster, NODE_LABELS_MANAGER, &metadata);
}

/* --- when --- */

void node_labels_update(struct node *node)
{
	struct node_labels *labels = node->labels;
	if (!labels || labels->stopping || !node->options->labels || !node->config_ready || !node->inventory_known ||
	    node->plan_problem)
		return;
	if (labels->built && is_forever(&node->config))
		return;
	struct gs_label_facts facts;
	struct gs_labels built = {0};
	gs_label_facts_copy(&facts, gpus_label_facts(node->gpus));
	node_read_machine(node->config.flags.gfd.machine_type_file, facts.machine, sizeof facts.machine);
	facts.started_seconds = node->started_seconds;
	gs_labels_build(&node->config, &node->inventory, &node->plan, &facts, &built);
	gs_label_facts_free(&facts);
	if (!labels->built || !gs_labels_equal(&labels->labels, &built)) {
		gs_labels_free(&labels->labels);
		labels->labels = built;
		labels->built = true;
		gs_log(GS_LOG_DEBUG, "the labels changed", GS_INT("labels", built.count));
		send_labels(labels);
	} else {
		gs_labels_free(&built);
		if (labels->by_feature != node->config.flags.use_node_feature_api)
			send_labels(labels);
	}
	/* The config may name another file by now. */
	write_file(labels);
}

void node_labels_start(struct node *node)
{
	node->labels = gs_calloc(1, sizeof *node->labels);
	node->labels->node = node;
	node->labels->lane = lane_new(&node->loop, "labels-file");
	node->labels->namespace = node_own_namespace(node->config.kubernetes.service_account_dir);
	uv_timer_init(&node->loop, &node->labels->timer);
	node->labels->timer.data = node->labels;
	/* Those of a daemon that had them switched on go. */
	const struct cluster_metadata none = {0};
	if (!node->options->labels)
		cluster_set_metadata(node->cluster, NODE_LABELS_MANAGER, &none);
}

static void on_closed(uv_handle_t *handle)
{
	struct node_labels *labels = handle->data;
	labels->freed_handle = true;
	free_when_stopped(labels);
}

void node_labels_stop(struct node *node)
{
	if (!node->labels)
		return;
	node->labels->stopping = true;
	uv_close((uv_handle_t *)&node->labels->timer, on_closed);
	node->labels = NULL;
}

const char *node_labels_problem(const struct node *node)
{
	return node->labels ? node->labels->problem : NULL;
}
