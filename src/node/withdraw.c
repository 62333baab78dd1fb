/* Withholds devices for a change of a MIG layout: by the daemon's own worker, or by `gpushare mig` through the socket.
 * There a withdrawal lasts as long as the call is open, so that a client that dies leaves no device withheld. */
#include "node/withdraw.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "base/utf8.h"
#include "node/usage.h"

enum { REASON_BYTES_MAX = 200 };

/* Waits for the kubelet's list of pods and their devices. */
struct asking {
	struct node *node;
	struct withdrawal *withdrawal; /* NULL: of none */
	bool cancelled;                /* since the withdrawal is gone */
	node_withdrawal_ready *ready;
	void *user;
};

struct withdrawal {
	struct rpc_call *call; /* that holds it; NULL: the daemon's own */
	struct asking *asking;
	bool ended; /* stays in force until the GPUs were looked at */
	char *reason;
	size_t count;
	char (*uuids)[GS_UUID_SIZE];
};

struct withdrawal *node_withdraw(struct node *node, const char *const *uuids, size_t count, const char *reason)
{
	struct withdrawal *withdrawal = gs_calloc(1, sizeof *withdrawal);
	withdrawal->reason = gs_printf("%.*s", REASON_BYTES_MAX, reason);
	gs_utf8_make_plain(withdrawal->reason); /* it may be cut within a character */
	withdrawal->count = count;
	withdrawal->uuids = gs_calloc(count, sizeof *withdrawal->uuids);
	for (size_t i = 0; i < count; i++)
		snprintf(withdrawal->uuids[i], sizeof withdrawal->uuids[i], "%s", uuids[i]);
	*GS_VEC_PUSH(&node->withdrawals) = withdrawal;
	gs_log(GS_LOG_INFO, "withdrawing devices", GS_INT("count", count), GS_STR("reason", withdrawal->reason));
	node_publish_health(node);
	return withdrawal;
}

static void free_withdrawal(struct withdrawal *withdrawal)
{
	if (withdrawal->asking)
		withdrawal->asking->cancelled = true;
	free(withdrawal->reason);
	free(withdrawal->uuids);
	free(withdrawal);
}

/* A device that was removed meanwhile must not be allocated before the next look finds that it is gone. */
void node_unwithdraw(struct node *node, struct withdrawal *withdrawal)
{
	withdrawal->ended = true;
	withdrawal->call = NULL;
	if (!node->stopping)
		gpus_rescan(node->gpus);
}

void node_withdrawals_looked(struct node *node)
{
	size_t kept = 0;
	for (size_t i = 0; i < node->withdrawals.count; i++) {
		struct withdrawal *withdrawal = node->withdrawals.items[i];
		if (!withdrawal->ended) {
			node->withdrawals.items[kept++] = withdrawal;
			continue;
		}
		gs_log(GS_LOG_INFO, "devices are no longer withdrawn", GS_STR("reason", withdrawal->reason));
		free_withdrawal(withdrawal);
	}
	bool any = kept < node->withdrawals.count;
	node->withdrawals.count = kept;
	if (any)
		node_publish_health(node);
}

void node_withdrawals_stop(struct node *node)
{
	for (size_t i = 0; i < node->withdrawals.count; i++) {
		struct withdrawal *withdrawal = node->withdrawals.items[i];
		if (withdrawal->call)
			rpc_call_finish(withdrawal->call, RPC_UNAVAILABLE, "the daemon is stopping");
		withdrawal->call = NULL;
	}
}

void node_withdrawals_free(struct node *node)
{
	for (size_t i = 0; i < node->withdrawals.count; i++)
		free_withdrawal(node->withdrawals.items[i]);
	GS_VEC_FREE(&node->withdrawals);
}

static bool covers(const struct withdrawal *withdrawal, const char *gpu_uuid, const char *uuid)
{
	for (size_t i = 0; i < withdrawal->count; i++)
		if (strcmp(withdrawal->uuids[i], uuid) == 0 || strcmp(withdrawal->uuids[i], gpu_uuid) == 0)
			return true;
	return false;
}

const char *node_withdrawn_device(const struct node *node, const char *gpu_uuid, const char *uuid)
{
	for (size_t i = 0; i < node->withdrawals.count; i++)
		if (covers(node->withdrawals.items[i], gpu_uuid, uuid))
			return node->withdrawals.items[i]->reason;
	return NULL;
}

const char *node_withdrawn(const struct node *node, uint32_t which)
{
	const struct gs_device *device = &node->inventory.devices[which];
	return node_withdrawn_device(node, node->inventory.gpus[device->gpu].uuid, device->uuid);
}

/* In words; NULL: none does. The caller frees it. */
static char *describe_holder(const struct gs_usage *usage, const struct gs_usage_share *share)
{
	const char *resource = usage->groups[share->group].resource->name;
	char when[GS_TIMESTAMP_SIZE];
	switch (gs_usage_holder(usage, share)) {
	case GS_HELD_BY_POD:
		return gs_printf("pod %s/%s, which was given %s", share->pods->namespace, share->pods->pod, resource);
	case GS_HELD_LATELY: /* A point in time, not an age: a client that asks again gets the same text. */
		gs_timestamp((struct timespec){.tv_sec = share->allocated_seconds}, 0, when);
		return gs_printf("a container that was given %s at %s", resource, when);
	case GS_HELD_BY_NOBODY:
		break;
	}
	return NULL;
}

void node_promises(const struct node *node, const struct withdrawal *withdrawal, node_promise *tell, void *user)
{
	struct gs_usage usage;
	node_usage_take(node, &usage);
	for (size_t i = 0; i < usage.share_count; i++) {
		const struct gs_share *share = usage.shares[i].share;
		const struct gs_device *device = &usage.inventory->devices[share->device];
		if (withdrawal && !covers(withdrawal, usage.inventory->gpus[device->gpu].uuid, device->uuid))
			continue;
		GS_AUTO_FREE char *who = describe_holder(&usage, &usage.shares[i]);
		if (who)
			tell(user, device->uuid, share->id, who);
	}
	gs_usage_free(&usage);
}

static void on_pods(void *user)
{
	struct asking *asking = user;
	struct withdrawal *withdrawal = asking->cancelled ? NULL : asking->withdrawal;
	bool over = asking->cancelled || (withdrawal && (withdrawal->ended || asking->node->stopping));
	if (withdrawal)
		withdrawal->asking = NULL;
	if (!over)
		asking->ready(asking->node, withdrawal, asking->user);
	free(asking);
}

void node_withdrawal_settle(struct node *node, struct withdrawal *withdrawal, node_withdrawal_ready *ready, void *user)
{
	struct asking *asking = gs_calloc(1, sizeof *asking);
	*asking = (struct asking){.node = node, .withdrawal = withdrawal, .ready = ready, .user = user};
	if (withdrawal)
		withdrawal->asking = asking;
	if (node->pods)
		kube_pods_refresh(node->pods, on_pods, asking);
	else
		on_pods(asking);
}

/* --- the call --- */

static void add_promise(void *user, const char *device, const char *share, const char *who)
{
	json_array_append_new(user, json_pack("{s:s, s:s, s:s}", "device", device, "share", share, "who", who));
}

static void send_promises(const struct node *node, const struct withdrawal *withdrawal, struct rpc_call *call)
{
	json_t *promised = json_array();
	node_promises(node, withdrawal, add_promise, promised);
	json_t *reply = json_pack("{s:o}", "promised", promised);
	char *text = json_dumps(reply, JSON_COMPACT);
	json_decref(reply);
	rpc_call_send(call, (const uint8_t *)text, strlen(text));
	free(text);
}

static void answer(struct node *node, struct withdrawal *withdrawal, void *user)
{
	if (withdrawal->call)
		send_promises(node, withdrawal, withdrawal->call);
}

/* A call that only asks; NULL: it was closed meanwhile. */
struct question {
	struct rpc_call *call;
};

static void answer_question(struct node *node, struct withdrawal *withdrawal, void *user)
{
	struct question *question = user;
	if (question->call && node->stopping) {
		rpc_call_finish(question->call, RPC_UNAVAILABLE, "the daemon is stopping");
	} else if (question->call) {
		send_promises(node, NULL, question->call);
		rpc_call_finish(question->call, RPC_OK, NULL);
	}
	free(question);
}

void node_on_allocations(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	struct node *node = user;
	if (!node->gpus || node->stopping) {
		rpc_call_finish(call, RPC_UNAVAILABLE, "the daemon is starting or stopping");
		return;
	}
	struct question *question = gs_calloc(1, sizeof *question);
	question->call = call;
	rpc_call_set_data(call, question);
	node_withdrawal_settle(node, NULL, answer_question, question);
}

void node_on_allocations_closed(struct rpc_call *call, void *user)
{
	struct question *question = rpc_call_data(call);
	question->call = NULL;
}

bool node_withdraw_request_read(const uint8_t *bytes, size_t length, struct withdraw_request *request)
{
	*request = (struct withdraw_request){0};
	if (length > WITHDRAW_BYTES_MAX)
		return false;
	request->document = length ? json_loadb((const char *)bytes, length, 0, NULL) : NULL;
	const json_t *devices = json_object_get(request->document, "devices");
	request->reason = json_string_value(json_object_get(request->document, "reason"));
	request->count = json_array_size(devices);
	bool valid = request->reason && request->count > 0 && request->count <= GS_DEVICES_MAX;
	if (valid)
		request->uuids = gs_calloc(request->count, sizeof *request->uuids);
	for (size_t i = 0; valid && i < request->count; i++) {
		request->uuids[i] = json_string_value(json_array_get(devices, i));
		valid = request->uuids[i] && strlen(request->uuids[i]) < GS_UUID_SIZE;
	}
	if (!valid)
		node_withdraw_request_free(request);
	return valid;
}

void node_withdraw_request_free(struct withdraw_request *request)
{
	free(request->uuids);
	json_decref(request->document);
	*request = (struct withdraw_request){0};
}

void node_on_withdraw(struct rpc_call *call, const uint8_t *request, size_t length, void *user)
{
	struct node *node = user;
	struct withdraw_request wanted;
	if (!node->gpus || node->stopping) {
		rpc_call_finish(call, RPC_UNAVAILABLE, "the daemon is starting or stopping");
		return;
	}
	if (!node_withdraw_request_read(request, length, &wanted)) {
		rpc_call_finish(call, RPC_INVALID_ARGUMENT,
				"the request must be {\"devices\": [UUID, ...], \"reason\": TEXT}");
		return;
	}
	struct withdrawal *withdrawal = node_withdraw(node, wanted.uuids, wanted.count, wanted.reason);
	withdrawal->call = call;
	rpc_call_set_data(call, withdrawal);
	node_withdrawal_settle(node, withdrawal, answer, NULL);
	node_withdraw_request_free(&wanted);
}

/* The client is done, or dead. */
void node_on_withdraw_closed(struct rpc_call *call, void *user)
{
	node_unwithdraw(user, rpc_call_data(call));
}
