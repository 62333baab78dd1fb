#include "kube/plugin/pod_resources.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/strbuf.h"
#include "base/vec.h"
#include "kube/plugin/wire.h"
#include "rpc/rpc.h"

#define LIST_METHOD "/v1.PodResourcesLister/List"

enum {
	NAME_MAX_BYTES = 253, /* of Kubernetes' objects */
	WIRE_BYTES = 2,       /* type of a length-delimited field */
	/* Field numbers of src/kube/proto/podresources.proto. */
	LIST_PODS = 1,
	POD_NAME = 1,
	POD_NAMESPACE = 2,
	POD_CONTAINERS = 3,
	CONTAINER_NAME = 1,
	CONTAINER_DEVICES = 2,
	DEVICES_IDS = 2,
};

/* --- reading --- */

/* A holder while texts still move: positions in them. */
struct place {
	size_t device, namespace, pod, container;
};

struct reading {
	kube_device_wanted *wanted;
	void *user;
	struct gs_strbuf texts;
	GS_VEC(struct place) places;
	bool truncated, bad;
};

/* Of a length-delimited field, whose bytes are never NULL. */
static struct wire_reader reader_of(const struct wire_field *field)
{
	return (struct wire_reader){.at = field->bytes, .end = field->bytes + field->length};
}

static bool is_name(const struct wire_field *field)
{
	if (!field->bytes || field->length == 0 || field->length > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < field->length; i++) {
		uint8_t c = field->bytes[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
			return false;
	}
	return true;
}

static size_t add_text(struct reading *reading, const uint8_t *bytes, size_t length)
{
	size_t at = reading->texts.length;
	gs_strbuf_add_bytes(&reading->texts, bytes, length);
	gs_strbuf_add_char(&reading->texts, '\0');
	return at;
}

/* Texts of a pod and a container are kept once, and only when one of their devices is wanted. */
struct owner {
	struct wire_field namespace, pod, container;
	struct place at;
	bool pod_kept, container_kept;
};

static void keep(struct reading *reading, struct owner *owner, const struct wire_field *id)
{
	if (reading->places.count == KUBE_PODS_HOLDERS_MAX) {
		reading->truncated = true;
		return;
	}
	if (!owner->pod_kept) {
		owner->at.namespace = add_text(reading, owner->namespace.bytes, owner->namespace.length);
		owner->at.pod = add_text(reading, owner->pod.bytes, owner->pod.length);
		owner->pod_kept = true;
	}
	if (!owner->container_kept) {
		owner->at.container = add_text(reading, owner->container.bytes, owner->container.length);
		owner->container_kept = true;
	}
	owner->at.device = add_text(reading, id->bytes, id->length);
	*GS_VEC_PUSH(&reading->places) = owner->at;
}

static void read_devices(struct reading *reading, struct owner *owner, const struct wire_field *devices)
{
	struct wire_reader reader = reader_of(devices);
	struct wire_field field;
	while (wire_next(&reader, &field))
		if (field.number == DEVICES_IDS && field.type == WIRE_BYTES && field.length > 0 &&
		    !memchr(field.bytes, '\0', field.length) &&
		    reading->wanted(reading->user, (const char *)field.bytes, field.length))
			keep(reading, owner, &field);
	reading->bad |= reader.bad;
}

/* Fields may come in any order, so names are looked for first. */
static void read_container(struct reading *reading, struct owner *owner, const struct wire_field *container)
{
	struct wire_reader reader = reader_of(container);
	struct wire_field field;
	owner->container = (struct wire_field){0};
	owner->container_kept = false;
	while (wire_next(&reader, &field))
		if (field.number == CONTAINER_NAME && field.type == WIRE_BYTES)
			owner->container = field;
	reading->bad |= reader.bad;
	if (reader.bad || !is_name(&owner->container))
		return;
	reader = reader_of(container);
	while (wire_next(&reader, &field))
		if (field.number == CONTAINER_DEVICES && field.type == WIRE_BYTES)
			read_devices(reading, owner, &field);
}

static void read_pod(struct reading *reading, const struct wire_field *pod)
{
	struct wire_reader reader = reader_of(pod);
	struct wire_field field;
	struct owner owner = {0};
	while (wire_next(&reader, &field)) {
		if (field.number == POD_NAME && field.type == WIRE_BYTES)
			owner.pod = field;
		else if (field.number == POD_NAMESPACE && field.type == WIRE_BYTES)
			owner.namespace = field;
	}
	reading->bad |= reader.bad;
	if (reader.bad || !is_name(&owner.pod) || !is_name(&owner.namespace))
		return;
	reader = reader_of(pod);
	while (wire_next(&reader, &field))
		if (field.number == POD_CONTAINERS && field.type == WIRE_BYTES)
			read_container(reading, &owner, &field);
}

static int compare_holders(const void *a, const void *b)
{
	const struct gs_pod_holder *left = a, *right = b;
	int order = strcmp(left->device, right->device);
	if (!order)
		order = strcmp(left->namespace, right->namespace);
	if (!order)
		order = strcmp(left->pod, right->pod);
	return order ? order : strcmp(left->container, right->container);
}

static void make_table(struct reading *reading, struct kube_pod_table *table)
{
	size_t count = reading->places.count;
	table->texts = gs_strbuf_take(&reading->texts);
	table->holders = gs_calloc(count, sizeof *table->holders);
	table->truncated = reading->truncated;
	for (size_t i = 0; i < count; i++) {
		const struct place *place = &reading->places.items[i];
		table->holders[i] = (struct gs_pod_holder){.device = table->texts + place->device,
							   .namespace = table->texts + place->namespace,
							   .pod = table->texts + place->pod,
							   .container = table->texts + place->container};
	}
	qsort(table->holders, count, sizeof *table->holders, compare_holders);
	/* A device that the kubelet lists twice for a container is held once. */
	for (size_t i = 0; i < count; i++)
		if (table->count == 0 || compare_holders(&table->holders[table->count - 1], &table->holders[i]) != 0)
			table->holders[table->count++] = table->holders[i];
}

int kube_pod_table_read(const uint8_t *bytes, size_t length, kube_device_wanted *wanted, void *user,
			struct kube_pod_table *table, struct gs_error *err)
{
	/* A node without pods sends no byte at all. */
	static const uint8_t none[1];
	struct wire_reader reader = {.at = length ? bytes : none, .end = length ? bytes + length : none};
	struct wire_field field;
	struct reading reading = {.wanted = wanted, .user = user};
	*table = (struct kube_pod_table){0};
	while (wire_next(&reader, &field) && !reading.bad)
		if (field.number == LIST_PODS && field.type == WIRE_BYTES)
			read_pod(&reading, &field);
	bool bad = reader.bad || reading.bad;
	if (!bad)
		make_table(&reading, table);
	gs_strbuf_free(&reading.texts);
	GS_VEC_FREE(&reading.places);
	return bad ? gs_fail(err, GS_ERROR_INPUT, 0, "the kubelet's list of pods is not a message of its API v1") : 0;
}

void kube_pod_table_free(struct kube_pod_table *table)
{
	free(table->holders);
	free(table->texts);
	*table = (struct kube_pod_table){0};
}

const struct gs_pod_holder *kube_pod_table_find(const struct kube_pod_table *table, const char *device, size_t *count)
{
	size_t low = 0, high = table->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (strcmp(table->holders[middle].device, device) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (*count = 0; low + *count < table->count && strcmp(table->holders[low + *count].device, device) == 0;)
		++*count;
	return *count ? &table->holders[low] : NULL;
}

/* --- asking --- */

struct asker {
	kube_pods_done *done;
	void *user;
};

struct kube_pods {
	uv_loop_t *loop;
	struct kube_pods_owner owner;
	char *socket;
	struct rpc_client *client;
	uv_timer_t timer; /* answers from memory, in the loop's next turn */
	bool asking, replied;
	bool closing;

	enum kube_pods_state state;
	uint64_t answered_ms; /* loop time */
	struct kube_pod_table table;
	char *problem;
	GS_VEC(struct asker) askers;
};

int kube_pods_open(uv_loop_t *loop, const char *socket, const struct kube_pods_owner *owner, struct kube_pods **ret,
		   struct gs_error *err)
{
	struct rpc_client *client;
	if (rpc_client_new(loop, socket, &client, err) < 0)
		return -1;
	rpc_client_set_message_bytes(client, KUBE_PODS_REPLY_BYTES_MAX);
	struct kube_pods *pods = gs_calloc(1, sizeof *pods);
	*pods = (struct kube_pods){.loop = loop, .owner = *owner, .socket = gs_strdup(socket), .client = client};
	uv_timer_init(loop, &pods->timer);
	pods->timer.data = pods;
	*ret = pods;
	return 0;
}

static void answer_all(struct kube_pods *pods)
{
	/* An asker may ask again. */
	__typeof__(pods->askers) askers = pods->askers;
	memset(&pods->askers, 0, sizeof pods->askers);
	for (size_t i = 0; i < askers.count; i++)
		askers.items[i].done(askers.items[i].user);
	GS_VEC_FREE(&askers);
}

static void set_state(struct kube_pods *pods, enum kube_pods_state state, const char *problem)
{
	pods->state = state;
	pods->answered_ms = uv_now(pods->loop);
	free(pods->problem);
	pods->problem = gs_strdup(problem);
	if (state != KUBE_PODS_KNOWN)
		kube_pod_table_free(&pods->table);
}

static void on_message(void *user, const uint8_t *message, size_t length)
{
	struct kube_pods *pods = user;
	struct gs_error err = {0};
	kube_pod_table_free(&pods->table);
	pods->replied = true;
	if (kube_pod_table_read(message, length, pods->owner.wanted, pods->owner.user, &pods->table, &err) < 0)
		set_state(pods, KUBE_PODS_FAILED, err.text);
	else
		set_state(pods, KUBE_PODS_KNOWN, "");
}

static void on_done(void *user, enum rpc_status status, const char *text)
{
	struct kube_pods *pods = user;
	pods->asking = false;
	if (pods->closing)
		return;
	if (status != RPC_OK) {
		GS_AUTO_FREE char *problem =
			gs_printf("%s: %s%s%s", pods->socket, rpc_status_name((int)status), *text ? ": " : "", text);
		set_state(pods, KUBE_PODS_FAILED, problem);
	} else if (!pods->replied) {
		set_state(pods, KUBE_PODS_FAILED, "the kubelet answered without a list of pods");
	}
	answer_all(pods);
}

static void on_timer(uv_timer_t *timer)
{
	answer_all(timer->data);
}

static bool is_fresh(const struct kube_pods *pods)
{
	uint64_t age_ms = uv_now(pods->loop) - pods->answered_ms;
	if (pods->state == KUBE_PODS_KNOWN)
		return age_ms < KUBE_PODS_FRESH_MS;
	return pods->state == KUBE_PODS_FAILED && age_ms < KUBE_PODS_FAILED_MS;
}

void kube_pods_refresh(struct kube_pods *pods, kube_pods_done *done, void *user)
{
	*GS_VEC_PUSH(&pods->askers) = (struct asker){.done = done, .user = user};
	if (pods->asking)
		return;
	uv_update_time(pods->loop);
	if (!is_fresh(pods)) {
		if (access(pods->socket, F_OK) < 0) {
			set_state(pods, KUBE_PODS_ABSENT, "");
		} else {
			pods->replied = false;
			pods->asking = rpc_client_start(pods->client, LIST_METHOD, NULL, 0, KUBE_PODS_TIMEOUT_MS,
							on_message, on_done, pods) != NULL;
			if (pods->asking)
				return;
			set_state(pods, KUBE_PODS_FAILED, "too many questions to the kubelet are under way");
		}
	}
	uv_timer_start(&pods->timer, on_timer, 0, 0);
}

enum kube_pods_state kube_pods_get(const struct kube_pods *pods, const struct kube_pod_table **table,
				   const char **problem)
{
	*table = &pods->table;
	*problem = pods->problem ? pods->problem : "";
	return pods->state;
}

int64_t kube_pods_at_ms(const struct kube_pods *pods)
{
	return (int64_t)pods->answered_ms;
}

static void on_closed(uv_handle_t *handle)
{
	struct kube_pods *pods = handle->data;
	kube_pod_table_free(&pods->table);
	GS_VEC_FREE(&pods->askers);
	free(pods->socket);
	free(pods->problem);
	free(pods);
}

void kube_pods_close(struct kube_pods *pods)
{
	if (!pods)
		return;
	pods->closing = true;
	rpc_client_free(pods->client);
	set_state(pods, KUBE_PODS_UNASKED, "");
	answer_all(pods);
	uv_close((uv_handle_t *)&pods->timer, on_closed);
}
