/* The daemon's writes to the Node: kept as desired state, and sent until the API server has them.
 *
 * Each kind of change is a job of its own with its own back-off, so that a right that is missing for one of them does
 * not hold up the others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "base/timestamp.h"
#include "base/utf8.h"
#include "kube/api/api_text.h"
#include "kube/node_object/cluster_internal.h"

enum {
	NOTE_BYTES_MAX = 1024, /* events.k8s.io/v1, validation of `note` */
	INSTANCE_BYTES_MAX = 128,
	REASON_BYTES_MAX = 128,
	CONDITION_MESSAGE_BYTES_MAX = 4096,
	FORGET_MS = 10 * 60 * 1000, /* an event is recorded again, a label's fight is over */
	FIGHT_TRIES = 3,            /* until a message says that another writer sets our labels */
	FIGHT_WAIT_MAX_MS = 10 * 60 * 1000,
	BREATH_MS = 20,
	DENIALS_MAX = 6,                /* until a right is believed to be missing */
	DENIED_WAIT_MS = 5 * 60 * 1000, /* it may be granted later */
	CONDITIONS_JOB = CLUSTER_MANAGERS_MAX,
	EVENTS_JOB,
};

#define APPLY_TYPE     "application/apply-patch+yaml" /* JSON is YAML */
#define STRATEGIC_TYPE "application/strategic-merge-patch+json"
#define JSON_TYPE      "application/json"
#define EVENTS_PATH    "/apis/events.k8s.io/v1/namespaces/default/events"

/* `text` in at most `limit` bytes, cut between characters; bytes that are no UTF-8 become question marks. */
static json_t *bounded(const char *text, size_t limit)
{
	struct gs_strbuf out = {0};
	size_t length = strlen(text);
	for (size_t i = 0; i < length;) {
		size_t character = gs_utf8_length(text + i, length - i);
		if (out.length + (character ? character : 1) > limit)
			break;
		if (character)
			gs_strbuf_add_bytes(&out, text + i, character);
		else
			gs_strbuf_add_char(&out, '?');
		i += character ? character : 1;
	}
	json_t *value = json_string(out.data ? out.data : "");
	gs_strbuf_free(&out);
	return value;
}

static void free_json(json_t **value)
{
	json_decref(*value);
	*value = NULL;
}

/* --- jobs --- */

static struct cluster_job *job_of(struct cluster *cluster, size_t which)
{
	return &cluster->jobs[which];
}

static void job_done(struct cluster_job *job)
{
	job->busy = job->unanswered = false;
	job->attempt = job->denials = 0;
	free(job->problem);
	job->problem = NULL;
}

static void job_failed(struct cluster_job *job, const struct api_reply *reply, const char *what)
{
	job->busy = false;
	job->unanswered = reply->status == 0;
	job->may_hurry = reply->status == 0 || reply->status == 401 || reply->status == 403;
	bool is_denied = reply->status == 403 || reply->status == 404;
	/* A server that has just come back may not know the rights yet. */
	if (is_denied && job->denials == 0)
		job->attempt = 0;
	job->denials = is_denied ? job->denials + 1 : 0;
	unsigned wait_ms = api_backoff_ms(job->attempt++, api_random());
	if (job->denials > DENIALS_MAX)
		wait_ms = DENIED_WAIT_MS;
	if (wait_ms < reply->retry_after_ms)
		wait_ms = reply->retry_after_ms;
	job->not_before_ms = uv_now(job->cluster->loop) + wait_ms;
	GS_AUTO_FREE char *problem = gs_printf("%s: %s", what, reply->problem);
	if (!job->problem || strcmp(job->problem, problem) != 0)
		gs_log(GS_LOG_WARNING, "a change of the node could not be delivered; trying again",
		       GS_STR("error", problem));
	free(job->problem);
	job->problem = GS_STEAL(problem);
}

/* An answer that will be the same next time, so that there is no use in asking again. */
static bool is_final(const struct api_reply *reply)
{
	return reply->status == 400 || reply->status == 405 || reply->status == 413 || reply->status == 415 ||
	       reply->status == 422;
}

static void job_refused(struct cluster_job *job, const struct api_reply *reply, const char *what)
{
	job->busy = job->unanswered = false;
	job->attempt = 0;
	free(job->problem);
	job->problem = gs_printf("%s: %s", what, reply->problem);
	gs_log(GS_LOG_ERROR, "the API server refuses a change of the node", GS_STR("error", job->problem));
}

static void send_job(struct cluster_job *job, const char *method, const char *path, const char *type, json_t *body,
		     api_done *done)
{
	GS_AUTO_FREE char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
	struct gs_error err;
	job->busy = true;
	if (api_send(job->cluster->api, method, path, type, text ? text : "{}", done, job, &err) == 0)
		return;
	const struct api_reply reply = {.body = "", .problem = err.text};
	job_failed(job, &reply, "the request was not sent");
}

static void on_work_timer(uv_timer_t *timer)
{
	cluster_work(timer->data);
}

/* Changes made in one turn of the loop go in one request. */
static void work_soon(struct cluster *cluster)
{
	if (cluster->api && (!uv_is_active((uv_handle_t *)&cluster->work_timer) ||
			     uv_timer_get_due_in(&cluster->work_timer) > BREATH_MS))
		uv_timer_start(&cluster->work_timer, on_work_timer, BREATH_MS, 0);
}

/* --- labels and annotations --- */

static json_t *object_of(const struct cluster_pair *pairs, size_t count)
{
	json_t *object = json_object();
	for (size_t i = 0; i < count; i++)
		json_object_set_new(object, pairs[i].key, json_string(pairs[i].value));
	return object;
}

static struct managed *managed_of(struct cluster *cluster, const char *manager)
{
	for (size_t i = 0; i < cluster->managed_count; i++)
		if (strcmp(cluster->managed[i].manager, manager) == 0)
			return &cluster->managed[i];
	if (cluster->managed_count == CLUSTER_MANAGERS_MAX)
		return NULL;
	struct managed *managed = &cluster->managed[cluster->managed_count++];
	*managed = (struct managed){.manager = gs_strdup(manager)};
	return managed;
}

void cluster_set_metadata(struct cluster *cluster, const char *manager, const struct cluster_metadata *metadata)
{
	struct managed *managed = cluster ? managed_of(cluster, manager) : NULL;
	if (!managed)
		return;
	json_t *body =
		json_pack("{s:s, s:s, s:{s:s, s:o, s:o}}", "apiVersion", "v1", "kind", "Node", "metadata", "name",
			  cluster->node_name, "labels", object_of(metadata->labels, metadata->label_count),
			  "annotations", object_of(metadata->annotations, metadata->annotation_count));
	json_decref(managed->wanted);
	managed->wanted = body;
	work_soon(cluster);
}

void cluster_set_feature(struct cluster *cluster, const char *space, const struct cluster_pair *labels,
			 size_t label_count, cluster_feature_answered *answered, void *user)
{
	struct managed *managed = cluster ? managed_of(cluster, CLUSTER_FEATURE_MANAGER) : NULL;
	if (!managed)
		return;
	GS_AUTO_FREE char *name = gs_printf("nvidia-features-for-%s", cluster->node_name);
	free(managed->path);
	managed->path = gs_printf(CLUSTER_FEATURE_PATH, space, cluster->node_name);
	managed->answered = answered;
	managed->user = user;
	json_decref(managed->wanted);
	/* The kinds of features must be there, although we have none but labels. */
	managed->wanted =
		json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:o, s:{s:{}, s:{}, s:{}}}}", "apiVersion",
			  "nfd.k8s-sigs.io/v1alpha1", "kind", "NodeFeature", "metadata", "name", name, "namespace",
			  space, "labels", "nfd.node.kubernetes.io/node-name", cluster->node_name, "spec", "labels",
			  object_of(labels, label_count), "features", "flags", "attributes", "instances");
	cluster_work(cluster);
}

/* No CRD, or no right: either may come later. */
static bool is_unavailable(const struct managed *managed, const struct api_reply *reply)
{
	return managed->path && (reply->status == 404 || reply->status == 403);
}

static bool metadata_is_due(const struct cluster *cluster, const struct managed *managed)
{
	return managed->wanted && !cluster->leaves_metadata &&
	       !(managed->delivered && json_equal(managed->wanted, managed->delivered)) &&
	       !(managed->refused && json_equal(managed->wanted, managed->refused));
}

static void on_metadata(void *user, const struct api_reply *reply)
{
	struct cluster_job *job = user;
	struct cluster *cluster = job->cluster;
	struct managed *managed = &cluster->managed[job - cluster->jobs];
	if (cluster->stopping) { /* the owner may be gone */
		free_json(&managed->sent);
		job_done(job);
		return;
	}
	if (is_unavailable(managed, reply)) {
		free_json(&managed->sent);
		job_done(job);
		managed->unavailable = true;
		job->not_before_ms = uv_now(cluster->loop) + DENIED_WAIT_MS;
		/* A server that has just come back may not know the rights yet. */
		job->may_hurry = reply->status == 403;
		job->attempt = 1;
		managed->answered(managed->user, false);
	} else if (is_final(reply)) {
		free_json(&managed->refused);
		managed->refused = GS_STEAL(managed->sent);
		job_refused(job, reply, "the node's labels");
	} else if (*reply->problem) {
		free_json(&managed->sent);
		job_failed(job, reply, "the node's labels");
	} else {
		free_json(&managed->delivered);
		managed->delivered = GS_STEAL(managed->sent);
		json_t *node = api_json_load(reply->body, reply->length, NULL);
		const char *version =
			json_string_value(json_object_get(json_object_get(node, "metadata"), "resourceVersion"));
		managed->delivered_version = version ? strtoull(version, NULL, 10) : 0;
		json_decref(node);
		job_done(job);
		gs_log(GS_LOG_INFO, "the node's labels are set", GS_STR("manager", managed->manager));
		managed->unavailable = false;
		if (managed->path)
			managed->answered(managed->user, true);
	}
	/* The watch may have reported another writer's change before this answer came. */
	cluster_check_managed(cluster);
}

static void send_metadata(struct cluster *cluster, size_t which)
{
	struct managed *managed = &cluster->managed[which];
	GS_AUTO_FREE char *path = gs_printf("%s?fieldManager=%s&force=true",
					    managed->path ? managed->path : cluster->node_path, managed->manager);
	managed->sent = json_incref(managed->wanted);
	send_job(job_of(cluster, which), "PATCH", path, APPLY_TYPE, managed->wanted, on_metadata);
	if (!job_of(cluster, which)->busy)
		free_json(&managed->sent);
}

/* The first key of `set` that `now` has not or has another value of; NULL when there is none. */
static const char *first_difference(const json_t *set, const json_t *now)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)set, key, value)
	{
		if (!json_equal(value, json_object_get(now, key)))
			return key;
	}
	return NULL;
}

void cluster_check_managed(struct cluster *cluster)
{
	if (cluster->stopping)
		return;
	uint64_t now = uv_now(cluster->loop);
	for (size_t i = 0; i < cluster->managed_count && !cluster->leaves_metadata; i++) {
		struct managed *managed = &cluster->managed[i];
		/* The watch may still report the state before our change; or, while a write is under way, the state
		 * that it makes. */
		if (managed->path || managed->sent || !managed->delivered ||
		    cluster->version < managed->delivered_version)
			continue;
		const json_t *set = json_object_get(managed->delivered, "metadata");
		const char *key = first_difference(json_object_get(set, "labels"), cluster->labels);
		if (!key)
			key = first_difference(json_object_get(set, "annotations"), cluster->annotations);
		if (!key)
			continue;
		if (now - managed->overwritten_ms > 2 * FIGHT_WAIT_MAX_MS)
			managed->overwritten = 0;
		managed->overwritten_ms = now;
		unsigned wait_ms = api_backoff_ms(managed->overwritten++, api_random());
		if (managed->overwritten > FIGHT_TRIES)
			wait_ms = FIGHT_WAIT_MAX_MS;
		job_of(cluster, i)->not_before_ms = now + wait_ms;
		GS_AUTO_FREE char *message =
			gs_printf("%s of this node is set by someone else, too; disable what else labels the node "
				  "(NVIDIA's gpu-feature-discovery, another gpushare)",
				  key);
		gs_log(GS_LOG_WARNING, "a label of ours was changed; setting it again", GS_STR("key", key));
		if (managed->overwritten == FIGHT_TRIES)
			cluster_event(cluster, true, "LabelsOverwritten", "SetLabels", message);
		free_json(&managed->delivered);
	}
	cluster_work(cluster);
}

void cluster_leave_metadata(struct cluster *cluster, bool leave)
{
	if (!cluster || cluster->leaves_metadata == leave)
		return;
	cluster->leaves_metadata = leave;
	cluster_check_managed(cluster);
}

/* --- conditions --- */

static struct condition *condition_of(struct cluster *cluster, const char *type)
{
	for (size_t i = 0; i < cluster->condition_count; i++)
		if (strcmp(cluster->conditions[i].type, type) == 0)
			return &cluster->conditions[i];
	if (cluster->condition_count == CLUSTER_CONDITIONS_MAX)
		return NULL;
	struct condition *condition = &cluster->conditions[cluster->condition_count++];
	*condition = (struct condition){.type = gs_strdup(type)};
	return condition;
}

/* `status` NULL: the condition goes. */
static void set_condition(struct cluster *cluster, const char *type, const char *status, const char *reason,
			  const char *message)
{
	struct condition *condition = cluster ? condition_of(cluster, type) : NULL;
	if (!condition)
		return;
	bool is_new = !condition->reason;
	bool is_other = is_new || condition->status != status;
	if (!is_other && strcmp(condition->reason, reason) == 0 && strcmp(condition->message, message) == 0)
		return;
	if (is_other)
		condition->changed_seconds = (int64_t)time(NULL);
	free(condition->reason);
	free(condition->message);
	condition->reason = gs_strdup(reason);
	condition->message = gs_strdup(message);
	condition->status = status;
	condition->delivered = condition->sent = false;
	work_soon(cluster);
}

void cluster_set_condition(struct cluster *cluster, const char *type, bool status, const char *reason,
			   const char *message)
{
	set_condition(cluster, type, status ? "True" : "False", reason, message);
}

void cluster_clear_condition(struct cluster *cluster, const char *type)
{
	set_condition(cluster, type, NULL, "", "");
}

static bool conditions_are_due(const struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->condition_count; i++)
		if (!cluster->conditions[i].delivered)
			return true;
	return false;
}

static void on_conditions(void *user, const struct api_reply *reply)
{
	struct cluster_job *job = user;
	struct cluster *cluster = job->cluster;
	bool is_settled = !*reply->problem || is_final(reply);
	for (size_t i = 0; i < cluster->condition_count; i++) {
		cluster->conditions[i].delivered |= cluster->conditions[i].sent && is_settled;
		cluster->conditions[i].sent = false;
	}
	if (is_final(reply))
		job_refused(job, reply, "the node's conditions");
	else if (*reply->problem)
		job_failed(job, reply, "the node's conditions");
	else
		job_done(job);
	/* The last words are said once: a server that is away now is not waited for. */
	if (cluster->stopping && (!conditions_are_due(cluster) || *reply->problem))
		cluster_close(cluster);
	else
		cluster_work(cluster);
}

void cluster_say_again(struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->condition_count; i++)
		cluster->conditions[i].delivered &= !cluster->conditions[i].status;
}

bool cluster_say_unknown(struct cluster *cluster)
{
	bool any = false;
	for (size_t i = 0; i < cluster->condition_count; i++) {
		const struct condition *condition = &cluster->conditions[i];
		if (!condition->status)
			continue;
		set_condition(cluster, condition->type, "Unknown", "DaemonStopped",
			      "the daemon was stopped, and nobody looks after the GPUs of this node");
		any = true;
	}
	struct cluster_job *job = job_of(cluster, CONDITIONS_JOB);
	return any && (job->busy || job->attempt == 0);
}

bool cluster_unanswered(const struct cluster *cluster)
{
	for (size_t i = 0; i < CLUSTER_JOBS_MAX; i++)
		if (cluster->jobs[i].unanswered)
			return true;
	return false;
}

/* As an element of a strategic merge patch. */
static json_t *condition_json(const struct condition *condition)
{
	char changed[GS_TIMESTAMP_SIZE], now[GS_TIMESTAMP_SIZE];
	if (!condition->status)
		return json_pack("{s:s, s:s}", "$patch", "delete", "type", condition->type);
	gs_timestamp((struct timespec){.tv_sec = condition->changed_seconds}, 0, changed);
	gs_timestamp((struct timespec){.tv_sec = time(NULL)}, 0, now);
	return json_pack("{s:s, s:s, s:o, s:o, s:s, s:s}", "type", condition->type, "status", condition->status,
			 "reason", bounded(condition->reason, REASON_BYTES_MAX), "message",
			 bounded(condition->message, CONDITION_MESSAGE_BYTES_MAX), "lastTransitionTime", changed,
			 "lastHeartbeatTime", now);
}

static void send_conditions(struct cluster *cluster)
{
	json_t *list = json_array();
	for (size_t i = 0; i < cluster->condition_count; i++) {
		struct condition *condition = &cluster->conditions[i];
		if (condition->delivered)
			continue;
		condition->sent = true;
		json_array_append_new(list, condition_json(condition));
	}
	json_t *body = json_pack("{s:{s:o}}", "status", "conditions", list);
	GS_AUTO_FREE char *path = gs_printf("%s/status?fieldManager=gpushare", cluster->node_path);
	send_job(job_of(cluster, CONDITIONS_JOB), "PATCH", path, STRATEGIC_TYPE, body, on_conditions);
	json_decref(body);
}

/* --- events --- */

/* FNV-1a; chance is good enough to tell a dozen texts apart. */
static uint64_t hash_of(const char *reason, const char *message)
{
	uint64_t hash = 1469598103934665603u;
	for (const char *at = reason; *at; at++)
		hash = (hash ^ (unsigned char)*at) * 1099511628211u;
	for (const char *at = message; *at; at++)
		hash = (hash ^ (unsigned char)*at) * 1099511628211u;
	return hash | 1;
}

static bool is_repeated(struct cluster *cluster, uint64_t hash)
{
	uint64_t now = uv_now(cluster->loop);
	for (size_t i = 0; i < CLUSTER_REMEMBERED_MAX; i++)
		if (cluster->remembered[i].hash == hash && now - cluster->remembered[i].at_ms < FORGET_MS)
			return true;
	cluster->remembered[cluster->remembered_next] = (struct remembered_event){hash, now};
	cluster->remembered_next = (cluster->remembered_next + 1) % CLUSTER_REMEMBERED_MAX;
	return false;
}

static void drop_event(struct cluster *cluster, size_t which)
{
	free(cluster->events[which].name);
	json_decref(cluster->events[which].body);
	memmove(&cluster->events[which], &cluster->events[which + 1],
		(--cluster->event_count - which) * sizeof cluster->events[0]);
}

static json_t *event_time(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	char text[GS_TIMESTAMP_SIZE];
	return json_string(gs_timestamp(now, 6, text));
}

void cluster_event(struct cluster *cluster, bool warning, const char *reason, const char *action, const char *message)
{
	if (!cluster || is_repeated(cluster, hash_of(reason, message)))
		return;
	/* While one is under way it is the oldest and stays. */
	if (cluster->event_count == CLUSTER_EVENTS_MAX) {
		drop_event(cluster, job_of(cluster, EVENTS_JOB)->busy ? 1 : 0);
		cluster->events_dropped++;
	}
	struct waiting_event *event = &cluster->events[cluster->event_count++];
	event->name = gs_printf("%.200s.%llx%08x", cluster->node_name, (unsigned long long)time(NULL),
				(unsigned)cluster->event_number++);
	GS_AUTO_FREE char *instance = gs_printf("gpushare-%s", cluster->node_name);
	event->body = json_pack("{s:s, s:s, s:{s:s, s:s}, s:o, s:s, s:o, s:o, s:o, s:s, s:o}", "apiVersion",
				"events.k8s.io/v1", "kind", "Event", "metadata", "name", event->name, "namespace",
				"default", "eventTime", event_time(), "reportingController", "gpushare",
				"reportingInstance", bounded(instance, INSTANCE_BYTES_MAX), "action",
				bounded(action, REASON_BYTES_MAX), "reason", bounded(reason, REASON_BYTES_MAX), "type",
				warning ? "Warning" : "Normal", "note", bounded(message, NOTE_BYTES_MAX));
	cluster_work(cluster);
}

static void on_event_recorded(void *user, const struct api_reply *reply)
{
	struct cluster_job *job = user;
	struct cluster *cluster = job->cluster;
	/* Conflict: it was recorded by a try whose answer was lost. */
	bool is_recorded = !*reply->problem || reply->status == 409;
	if (is_recorded || is_final(reply))
		drop_event(cluster, 0);
	if (is_recorded)
		job_done(job);
	else if (is_final(reply))
		job_refused(job, reply, "an event");
	else
		job_failed(job, reply, "an event");
	cluster_work(cluster);
}

static void send_event(struct cluster *cluster)
{
	struct waiting_event *event = &cluster->events[0];
	/* As the kubelet does where it does not know the uid: the name, which `kubectl describe node` looks for, too. */
	const char *uid = cluster->node_uid ? cluster->node_uid : cluster->node_name;
	json_object_set_new(event->body, "regarding",
			    json_pack("{s:s, s:s, s:s, s:s}", "apiVersion", "v1", "kind", "Node", "name",
				      cluster->node_name, "uid", uid));
	cluster->event_allowance--;
	send_job(job_of(cluster, EVENTS_JOB), "POST", EVENTS_PATH, JSON_TYPE, event->body, on_event_recorded);
}

static bool event_is_allowed(struct cluster *cluster)
{
	uint64_t passed = (uv_now(cluster->loop) - cluster->event_refilled_ms) / CLUSTER_EVENT_REFILL_MS;
	cluster->event_refilled_ms += passed * CLUSTER_EVENT_REFILL_MS;
	unsigned room = CLUSTER_EVENT_BURST - cluster->event_allowance;
	cluster->event_allowance += passed > room ? room : (unsigned)passed;
	return cluster->event_allowance > 0;
}

/* --- work --- */

static bool job_is_due(struct cluster *cluster, size_t which)
{
	if (which < CLUSTER_MANAGERS_MAX)
		return which < cluster->managed_count && metadata_is_due(cluster, &cluster->managed[which]);
	return which == CONDITIONS_JOB ? conditions_are_due(cluster) : cluster->event_count > 0;
}

/* When the job may run: now (0), or so many ms later. */
static uint64_t wait_of(struct cluster *cluster, size_t which)
{
	uint64_t now = uv_now(cluster->loop);
	const struct cluster_job *job = job_of(cluster, which);
	uint64_t wait_ms = job->not_before_ms > now ? job->not_before_ms - now : 0;
	if (which == EVENTS_JOB && !event_is_allowed(cluster) && wait_ms < CLUSTER_EVENT_REFILL_MS)
		wait_ms = CLUSTER_EVENT_REFILL_MS;
	return wait_ms;
}

void cluster_work(struct cluster *cluster)
{
	if (!cluster->api)
		return;
	uint64_t soonest_ms = UINT64_MAX;
	for (size_t i = 0; i < CLUSTER_JOBS_MAX; i++) {
		if (job_of(cluster, i)->busy || !job_is_due(cluster, i))
			continue;
		if (cluster->stopping && i != CONDITIONS_JOB)
			continue;
		uint64_t wait_ms = wait_of(cluster, i);
		if (wait_ms > 0) {
			soonest_ms = wait_ms < soonest_ms ? wait_ms : soonest_ms;
			continue;
		}
		if (i == EVENTS_JOB)
			send_event(cluster);
		else if (i == CONDITIONS_JOB)
			send_conditions(cluster);
		else
			send_metadata(cluster, i);
	}
	if (soonest_ms != UINT64_MAX)
		uv_timer_start(&cluster->work_timer, on_work_timer, soonest_ms, 0);
}

void cluster_hurry(struct cluster *cluster)
{
	for (size_t i = 0; i < CLUSTER_JOBS_MAX; i++) {
		/* Hurries only the jobs that may: the API server would refuse the others again. */
		if (cluster->jobs[i].attempt == 0 || !cluster->jobs[i].may_hurry)
			continue;
		cluster->jobs[i].attempt = 0;
		cluster->jobs[i].not_before_ms = 0;
	}
	cluster_work(cluster);
}

void cluster_forget_versions(struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->managed_count; i++)
		cluster->managed[i].delivered_version = 0;
}

void cluster_start_over(struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->managed_count; i++)
		free_json(&cluster->managed[i].delivered);
	cluster_forget_versions(cluster);
	/* A refusal about the old Node object says nothing about this one. */
	for (size_t i = 0; i < CLUSTER_JOBS_MAX; i++) {
		cluster->jobs[i].attempt = cluster->jobs[i].denials = 0;
		cluster->jobs[i].not_before_ms = 0;
	}
	for (size_t i = 0; i < cluster->condition_count; i++)
		cluster->conditions[i].delivered = cluster->conditions[i].sent = false;
	cluster_work(cluster);
}

void cluster_writes_state(const struct cluster *cluster, struct cluster_state *state)
{
	for (size_t i = 0; i < CLUSTER_JOBS_MAX; i++)
		if (cluster->jobs[i].problem)
			state->problem = cluster->jobs[i].problem;
	for (size_t i = 0; i < cluster->managed_count; i++)
		state->waiting += !cluster->managed[i].unavailable && metadata_is_due(cluster, &cluster->managed[i]);
	for (size_t i = 0; i < cluster->condition_count; i++)
		state->waiting += !cluster->conditions[i].delivered;
	state->waiting += cluster->event_count;
}

void cluster_free_writes(struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->managed_count; i++) {
		struct managed *managed = &cluster->managed[i];
		free(managed->manager);
		free(managed->path);
		json_decref(managed->wanted);
		json_decref(managed->delivered);
		json_decref(managed->refused);
		json_decref(managed->sent);
	}
	for (size_t i = 0; i < cluster->condition_count; i++) {
		free(cluster->conditions[i].type);
		free(cluster->conditions[i].reason);
		free(cluster->conditions[i].message);
	}
	while (cluster->event_count > 0)
		drop_event(cluster, 0);
	for (size_t i = 0; i < CLUSTER_JOBS_MAX; i++)
		free(cluster->jobs[i].problem);
}
