#include "node/client.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "node/node.h"
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

char *node_client_status(const char *socket_path, unsigned timeout_ms, struct gs_error *err)
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
	rpc_client_start(client, NODE_STATUS_METHOD, NULL, 0, timeout_ms, on_message, on_done, &question);
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
