#include "mps/mps_end.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "mps/mps_control.h"
#include "mps/mps_process.h"
#include "mps/mps_record.h"

enum { SLACK_SECONDS = 5, KILLED_MS = 2000 };

static void on_quit(void *user, int exit_status, const char *output, const struct gs_error *err)
{
	/* Whether it has gone is seen at its pidfd. */
}

/* The processes that are to end: control daemons and servers. */
struct victims {
	const char *root;
	int pidfds[1024];
	pid_t pids[1024];
	size_t count;
	size_t daemons; /* of them */
};

static void add_victim(struct victims *victims, pid_t pid, int pidfd)
{
	if (victims->count >= GS_ARRAY_LENGTH(victims->pidfds)) {
		close(pidfd);
		return;
	}
	victims->pids[victims->count] = pid;
	victims->pidfds[victims->count++] = pidfd;
}

/* Those of a daemon that can be asked end with it; the others are ended with the rest. */
static void add_servers(struct victims *victims, const char *pipe_directory)
{
	struct mps_pidfds servers = {0};
	mps_find_orphans(pipe_directory, 0, NULL, 0, &servers);
	for (size_t i = 0; i < servers.count; i++)
		add_victim(victims, 0, servers.items[i]);
}

static void add_daemon(void *user, const char *pipe_directory, pid_t pid, int pidfd)
{
	struct victims *victims = user;
	size_t length = strlen(victims->root);
	bool is_new = strncmp(pipe_directory, victims->root, length) == 0 && pipe_directory[length] == '/';
	for (size_t i = 0; i < victims->count; i++)
		is_new &= victims->pids[i] != pid;
	if (!is_new) {
		close(pidfd);
		return;
	}
	victims->daemons++;
	add_victim(victims, pid, pidfd);
	add_servers(victims, pipe_directory);
}

/* Takes what runs for one folder below the root, and asks its daemon to quit. */
static void ask_to_quit(uv_loop_t *loop, const char *folder, const char *program, unsigned grace_seconds,
			struct victims *victims)
{
	GS_AUTO_FREE char *command = gs_printf("quit -t %u\n", grace_seconds);
	GS_AUTO_FREE char *pipes = gs_printf("%s/pipe", folder);
	GS_AUTO_FREE char *logs = gs_printf("%s/log", folder);
	pid_t pid;
	int pidfd = mps_find_daemon(pipes, &pid);
	if (pidfd < 0) {
		add_servers(victims, pipes);
		return;
	}
	add_daemon(victims, pipes, pid, pidfd);
	const struct mps_run_setup setup = {.program = program,
					    .input = command,
					    .pipe_directory = pipes,
					    .log_directory = logs,
					    .timeout_ms = (grace_seconds + SLACK_SECONDS) * 1000};
	mps_run_start(loop, &setup, on_quit, NULL, NULL);
}

/* Whoever is left when the time is over is killed. */
static void end_victims(struct victims *victims, uint64_t deadline_ns)
{
	for (size_t i = 0; i < victims->count; i++) {
		struct pollfd ended = {.fd = victims->pidfds[i], .events = POLLIN};
		uint64_t now = uv_hrtime();
		if (poll(&ended, 1, now < deadline_ns ? (int)((deadline_ns - now) / 1000000) : 0) == 0) {
			mps_kill(victims->pidfds[i]);
			poll(&ended, 1, KILLED_MS);
		}
		close(victims->pidfds[i]);
	}
}

/* How many control daemons there were. */
static size_t end_daemons(const char *root, const char *program, unsigned grace_seconds)
{
	uv_loop_t loop;
	uint64_t deadline_ns = uv_hrtime() + (uint64_t)grace_seconds * 1000000000;
	struct victims victims = {.root = root};
	DIR *directory = opendir(root);
	struct dirent *entry;
	if (!directory)
		return 0;
	uv_loop_init(&loop);
	while ((entry = readdir(directory))) {
		GS_AUTO_FREE char *folder = gs_printf("%s/%s", root, entry->d_name);
		if (entry->d_name[0] != '.')
			ask_to_quit(&loop, folder, program, grace_seconds, &victims);
	}
	closedir(directory);
	mps_search_daemons(add_daemon, &victims); /* those that nobody can ask */
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	end_victims(&victims, deadline_ns);
	return victims.daemons;
}

static int restore_modes(const char *state_dir, const struct gs_nvml *nvml, size_t *restored, struct gs_error *err)
{
	struct gs_mps_record record;
	struct gs_error problem = {0};
	int result = 0;
	gs_mps_record_open(&record, state_dir, &problem);
	if (problem.source != GS_ERROR_NONE) {
		*err = problem;
		result = -1;
	}
	const char *gpu;
	json_t *mode;
	void *next;
	json_object_foreach_safe(record.modes, next, gpu, mode)
	{
		GS_AUTO_FREE char *name = gs_strdup(gpu); /* the key goes with its entry */
		if (!nvml)
			result = gs_fail(err, GS_ERROR_SYSTEM, ENODEV,
					 "the compute mode of %s can't be restored without the NVIDIA driver", name);
		else if (gs_mps_restore(&record, nvml, name, err) < 0)
			result = gs_error_prefix(err, "the compute mode of %s is not restored", name);
		else
			++*restored;
	}
	if (!json_object_size(record.modes))
		unlink(record.path);
	gs_mps_record_free(&record);
	return result;
}

/* What the last node daemon used, when that is another root. */
static char *recorded_root(const char *root, const char *state_dir)
{
	struct gs_mps_record record;
	gs_mps_record_open(&record, state_dir, NULL);
	char *recorded = record.root && strcmp(record.root, root) != 0 ? gs_strdup(record.root) : NULL;
	gs_mps_record_free(&record);
	return recorded;
}

int gs_mps_end(const char *root, const char *state_dir, const char *program, unsigned grace_seconds,
	       const struct gs_nvml *nvml, struct gs_mps_ended *ended, struct gs_error *err)
{
	GS_AUTO_FREE char *given = gs_mps_root(root);
	GS_AUTO_FREE char *other = recorded_root(given, state_dir);
	*ended = (struct gs_mps_ended){.daemons = end_daemons(given, program, grace_seconds)};
	if (other)
		ended->daemons += end_daemons(other, program, grace_seconds);
	return restore_modes(state_dir, nvml, &ended->modes, err);
}
