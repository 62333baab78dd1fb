#include "client/client.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/socket.h"
#include "client/methods.h"
#include "rpc/rpc.h"

struct question {
	char *answer;
	enum rpc_status status;
	char *text;
};

static void on_message(void *user, const uint8_t *message, size_t length)
{
	struct question *question = user;
	free(question->answer);
	question->answer = gs_strndup((const char *)message, length);
}

static void on_done(void *user, enum rpc_status status, const char *text)
{
	struct question *question = user;
	question->status = status;
	question->text = gs_strdup(text);
}

static void explain(const struct question *question, const char *socket_path, struct gs_error *err)
{
	if (access(socket_path, F_OK) < 0)
		gs_fail(err, GS_ERROR_GRPC, (int)question->status,
			"no daemon listens at %s; start one with `gpushare node`, or name its socket with --socket",
			socket_path);
	else if (access(socket_path, W_OK) < 0)
		gs_fail(err, GS_ERROR_GRPC, (int)question->status,
			"%s is not yours to use; ask as root, or as the daemon's user", socket_path);
	else
		gs_fail(err, GS_ERROR_GRPC, (int)question->status, "the daemon at %s does not answer: %s", socket_path,
			question->text ? question->text : "no reply");
}

/* The reply to one request, owned by the caller; NULL with the reason. */
static char *ask(const char *socket_path, const char *method, const char *request, unsigned timeout_ms,
		 struct gs_error *err)
{
	uv_loop_t loop;
	struct rpc_client *client;
	struct question question = {.status = RPC_UNAVAILABLE};
	int failed = uv_loop_init(&loop);
	if (failed)
		return gs_fail(err, GS_ERROR_SYSTEM, -failed, "cannot make an event loop: %s", uv_strerror(failed)),
		       NULL;
	if (rpc_client_new(&loop, socket_path, &client, err) < 0) {
		uv_loop_close(&loop);
		return NULL;
	}
	rpc_client_set_message_bytes(client, NODE_STATUS_BYTES_MAX);
	rpc_client_start(client, method, (const uint8_t *)request, request ? strlen(request) : 0, timeout_ms,
			 on_message, on_done, &question);
	while (!question.text && uv_run(&loop, UV_RUN_ONCE))
		;
	rpc_client_free(client);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	if (question.status != RPC_OK || !question.answer) {
		explain(&question, socket_path, err);
		free(question.answer);
		question.answer = NULL;
	}
	free(question.text);
	return question.answer;
}

char *node_client_status(const char *socket_path, unsigned timeout_ms, struct gs_error *err)
{
	return ask(socket_path, NODE_STATUS_METHOD, NULL, timeout_ms, err);
}

char *node_client_mps(const char *socket_path, unsigned timeout_ms, struct gs_error *err)
{
	return ask(socket_path, NODE_MPS_METHOD, NULL, timeout_ms, err);
}

char *node_client_forget(const char *socket_path, char *const *uuids, size_t count, unsigned timeout_ms,
			 struct gs_error *err)
{
	json_t *gpus = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(gpus, json_string(uuids[i]));
	json_t *request = json_pack("{s:o}", "gpus", gpus);
	char *text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	char *answer = ask(socket_path, NODE_FORGET_METHOD, text, timeout_ms, err);
	free(text);
	return answer;
}

/* --- allocations and withdrawals --- */

static char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return gs_strdup(text ? text : "");
}

static void read_promises(const char *answer, struct node_promises *promises)
{
	json_t *reply = json_loads(answer, 0, NULL);
	json_t *list = json_object_get(reply, "promised");
	size_t count = json_array_size(list);
	promises->items = gs_calloc(count, sizeof *promises->items);
	for (size_t i = 0; i < count; i++) {
		const json_t *item = json_array_get(list, i);
		promises->items[promises->count++] = (struct node_promised){.device = text_of(item, "device"),
									    .share = text_of(item, "share"),
									    .who = text_of(item, "who")};
	}
	json_decref(reply);
}

void node_promises_free(struct node_promises *promises)
{
	for (size_t i = 0; i < promises->count; i++) {
		free(promises->items[i].device);
		free(promises->items[i].share);
		free(promises->items[i].who);
	}
	free(promises->items);
	*promises = (struct node_promises){0};
}

int node_client_allocations(const char *socket_path, unsigned timeout_ms, struct node_promises *promises,
			    struct gs_error *err)
{
	*promises = (struct node_promises){0};
	if (access(socket_path, F_OK) < 0 || gs_socket_try(socket_path, SOCK_STREAM) == ECONNREFUSED)
		return 0;
	char *answer = ask(socket_path, NODE_ALLOCATIONS_METHOD, NULL, timeout_ms, err);
	if (!answer)
		return -1;
	read_promises(answer, promises);
	free(answer);
	return 0;
}

/* --- withdrawals: a call that stays open --- */

struct node_withdrawal {
	uv_loop_t loop;
	struct rpc_client *client;
	struct question question;
};

static char *withdraw_request(const char *const *uuids, size_t count, const char *reason)
{
	json_t *devices = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(devices, json_string(uuids[i]));
	json_t *request = json_pack("{s:o, s:s}", "devices", devices, "reason", reason);
	char *text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	return text;
}

static void free_withdrawal(struct node_withdrawal *withdrawal)
{
	rpc_client_free(withdrawal->client);
	uv_run(&withdrawal->loop, UV_RUN_DEFAULT);
	uv_loop_close(&withdrawal->loop);
	free(withdrawal->question.answer);
	free(withdrawal->question.text);
	free(withdrawal);
}

static void on_timeout(uv_timer_t *timer)
{
	/* It is not active any more. */
}

/* Until the reply, the end of the call, or the timeout. */
static void await_reply(struct node_withdrawal *withdrawal, unsigned timeout_ms)
{
	uv_timer_t timer;
	uv_timer_init(&withdrawal->loop, &timer);
	uv_timer_start(&timer, on_timeout, timeout_ms, 0);
	while (!withdrawal->question.text && !withdrawal->question.answer && uv_is_active((uv_handle_t *)&timer))
		uv_run(&withdrawal->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(&withdrawal->loop, UV_RUN_NOWAIT);
}

int node_client_withdraw(const char *socket_path, const char *const *uuids, size_t count, const char *reason,
			 unsigned timeout_ms, struct node_withdrawal **ret, struct gs_error *err)
{
	*ret = NULL;
	if (access(socket_path, F_OK) < 0)
		return 0;
	char *request = withdraw_request(uuids, count, reason);
	if (!request)
		return gs_fail(err, GS_ERROR_INPUT, 0, "a UUID or the reason is not UTF-8");
	struct node_withdrawal *withdrawal = gs_calloc(1, sizeof *withdrawal);
	struct question *question = &withdrawal->question;
	question->status = RPC_DEADLINE_EXCEEDED;
	int failed = uv_loop_init(&withdrawal->loop);
	if (failed || rpc_client_new(&withdrawal->loop, socket_path, &withdrawal->client, err) < 0) {
		if (failed)
			gs_fail(err, GS_ERROR_SYSTEM, -failed, "cannot make an event loop: %s", uv_strerror(failed));
		else
			uv_loop_close(&withdrawal->loop);
		free(withdrawal);
		free(request);
		return -1;
	}
	rpc_client_start(withdrawal->client, NODE_WITHDRAW_METHOD, (const uint8_t *)request, strlen(request), 0,
			 on_message, on_done, question);
	await_reply(withdrawal, timeout_ms);
	free(request);
	if (question->answer && !question->text) {
		*ret = withdrawal;
		return 0;
	}
	/* A killed daemon left its socket behind: no process listens. */
	bool nobody = question->status == RPC_UNAVAILABLE && gs_socket_try(socket_path, SOCK_STREAM) == ECONNREFUSED;
	if (!nobody)
		explain(question, socket_path, err);
	free_withdrawal(withdrawal);
	return nobody ? 0 : -1;
}

void node_client_restore(struct node_withdrawal *withdrawal)
{
	if (withdrawal)
		free_withdrawal(withdrawal);
}
