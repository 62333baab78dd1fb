/* A simulated node with clients of every kind on it, for tests of what other programs see there:
 *
 *     busy_node DIR SPEC [GPU:KIND:MIB:PERCENT]... -- COMMAND...
 *
 * Each client is a process that holds MIB on GPU and keeps it PERCENT busy; KIND is compute, graphics or mps. COMMAND
 * runs once all have been at it for a second and finds their pids in CLIENT_PIDS, in order. Exits with its status. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "sim/spec.h"
#include "sim/state.h"

enum { PERIOD_NS = 50000000 };

struct client {
	unsigned gpu;
	enum sim_client_kind kind;
	unsigned long mib;
	unsigned percent;
};

static void fail(const char *what, const struct gs_error *err)
{
	fprintf(stderr, "busy_node: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
	exit(125);
}

static struct client parse(const char *text)
{
	struct client client = {0};
	char kind[16];
	if (sscanf(text, "%u:%15[a-z]:%lu:%u", &client.gpu, kind, &client.mib, &client.percent) != 4)
		fail("a client is GPU:KIND:MIB:PERCENT", NULL);
	client.kind = strcmp(kind, "graphics") == 0 ? SIM_CLIENT_GRAPHICS
		      : strcmp(kind, "mps") == 0    ? SIM_CLIENT_MPS
						    : SIM_CLIENT_COMPUTE;
	return client;
}

static void wait_ns(uint64_t nanoseconds)
{
	nanosleep(&(struct timespec){.tv_sec = (time_t)(nanoseconds / 1000000000),
				     .tv_nsec = (long)(nanoseconds % 1000000000)},
		  NULL);
}

/* Never returns; the parent's death ends it. */
static void be(const struct client *client, const char *dir, int ready)
{
	struct gs_error err;
	struct sim_node *node;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sim_node_open(dir, &node, &err) < 0)
		fail(dir, &err);
	int slot = sim_client_attach(node, client->gpu, client->kind, &err);
	if (slot < 0)
		fail("cannot attach", &err);
	if (sim_client_allocate(node, slot, (uint64_t)client->mib << 20) < 0)
		fail("not enough memory", NULL);
	if (write(ready, "", 1) != 1)
		exit(125);
	for (uint64_t next = sim_now_ns();; next += PERIOD_NS) {
		if (client->percent)
			sim_client_submit(node, slot, next, (uint64_t)PERIOD_NS * client->percent / 100);
		uint64_t now = sim_now_ns();
		if (next + PERIOD_NS > now)
			wait_ns(next + PERIOD_NS - now);
	}
}

int main(int argc, char **argv)
{
	struct gs_error err;
	struct sim_spec spec = {0};
	struct sim_node *node;
	if (argc < 5)
		fail("usage: busy_node DIR SPEC [GPU:KIND:MIB:PERCENT]... -- COMMAND...", NULL);
	const char *version = getenv("BUSY_NODE_DRIVER");
	if (sim_spec_parse(argv[2], &spec, &err) < 0 ||
	    (version && sim_spec_set_driver_version(version, &spec, &err) < 0) ||
	    sim_node_create(argv[1], &spec, &node, &err) < 0)
		fail("cannot create the node", &err);
	setenv("GPUSHARE_SIM", argv[1], 1);

	int pipes[2], i = 3, clients = 0;
	pid_t children[64];
	GS_AUTO_STRBUF struct gs_strbuf pids = {0};
	if (pipe(pipes) < 0)
		fail("pipe", NULL);
	for (; i < argc && strcmp(argv[i], "--") != 0 && clients < 64; i++) {
		struct client client = parse(argv[i]);
		pid_t pid = fork();
		if (pid == 0)
			be(&client, argv[1], pipes[1]);
		children[clients++] = pid;
		gs_strbuf_printf(&pids, "%s%d", clients > 1 ? " " : "", (int)pid);
	}
	close(pipes[1]);
	for (int k = 0; k < clients; k++) {
		char byte;
		if (read(pipes[0], &byte, 1) != 1)
			fail("a client did not start", NULL);
	}
	if (clients) {
		setenv("CLIENT_PIDS", pids.data, 1);
		wait_ns(1500000000);
	}
	pid_t command = fork();
	if (command == 0) {
		execvp(argv[i + 1], argv + i + 1);
		perror(argv[i + 1]);
		_exit(127);
	}
	int status = 0;
	while (waitpid(command, &status, 0) < 0 && errno == EINTR)
		;
	for (int k = 0; k < clients; k++) {
		kill(children[k], SIGKILL);
		waitpid(children[k], NULL, 0);
	}
	sim_node_close(node);
	sim_node_remove(argv[1], NULL);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
