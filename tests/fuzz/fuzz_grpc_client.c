/* A client whose server answers with anything: the input is all that the server sends before it hangs up.
 *
 * The first byte says what the callbacks do meanwhile. Goes over a real socket, for the client's connection is part of
 * what is tested. Every call must end exactly once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "rpc/rpc.h"

enum { CANCELS = 1, FREES = 2, STARTS_ANOTHER = 4, CALLS = 3 };

static char path[64];
static struct rpc_client *client;
static uint8_t mood;
static struct {
	struct rpc_client_call *call;
	bool open;
} calls[CALLS + 1];

static void start(size_t index);

static void end(size_t index)
{
	if (!calls[index].open)
		abort();
	calls[index].open = false;
}

static void on_message(void *user, const uint8_t *message, size_t length)
{
	size_t index = (size_t)user;

	if (length && message[length - 1] == 'c' && (mood & CANCELS)) {
		end(index);
		rpc_client_cancel(calls[index].call);
	} else if (length && message[length - 1] == 'f' && (mood & FREES)) {
		rpc_client_free(GS_STEAL(client));
	}
}

static void on_done(void *user, enum rpc_status status, const char *text)
{
	if (strlen(text) > 100000 || (int)status < 0 || status > RPC_UNAUTHENTICATED)
		abort();
	end((size_t)user);
	if (client && (mood & STARTS_ANOTHER) && !calls[CALLS].open && !calls[CALLS].call)
		start(CALLS);
}

static void start(size_t index)
{
	calls[index].call =
		rpc_client_start(client, "/t/E", (const uint8_t *)"hello", 5, 0, on_message, on_done, (void *)index);
	calls[index].open = calls[index].call != NULL;
}

static void remove_socket(void)
{
	unlink(path);
}

static int listener(void)
{
	static int fd = -1;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (fd >= 0)
		return fd;
	snprintf(path, sizeof path, "/tmp/fuzz_grpc_client.%d", (int)getpid());
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 10) < 0)
		abort();
	atexit(remove_socket);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uv_loop_t loop;
	struct gs_error error;
	int server = listener();

	if (size == 0)
		return 0;
	mood = data[0];
	memset(calls, 0, sizeof calls);
	if (uv_loop_init(&loop) < 0 || rpc_client_new(&loop, path, &client, &error) < 0)
		abort();
	for (size_t i = 0; i < CALLS; i++)
		start(i);
	for (int turn = 0; turn < 20; turn++) {
		uv_run(&loop, UV_RUN_NOWAIT);
		GS_AUTO_CLOSE int peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
		if (peer >= 0 && send(peer, data + 1, size - 1, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			uv_run(&loop, UV_RUN_NOWAIT);
	}
	rpc_client_free(client);
	uv_run(&loop, UV_RUN_DEFAULT);
	for (size_t i = 0; i <= CALLS; i++) {
		if (calls[i].open)
			abort();
	}
	if (uv_loop_close(&loop) < 0)
		abort();
	return 0;
}
