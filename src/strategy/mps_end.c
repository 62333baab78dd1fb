#include "strategy/mps_end.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "strategy/mps_control.h"
#include "strategy/mps_record.h"

enum { SLACK_SECONDS = 5, KILLED_MS = 2000 };
#define PROGRAM "nvidia-cuda-mps-control"

static void on_quit(void *user, int exit_status, const char *output, const struct gs_error *err)
{
	/* Whether it has gone is seen at its pidfd. */
}

/* `quit -t` of all daemons at once, then whoever is left is killed. */
static size_t end_daemons(const char *root, const char *program, unsigned grace_seconds)
{
	uv_loop_t loop;
	GS_AUTO_FREE char *command = gs_printf("quit -t %u\n", grace_seconds);
	int pidfds[1024];
	pid_t pid;
	size_t count = 0;
	DIR *directory = opendir(root);
	struct dirent *entry;
	if (!directory)
		return 0;
	uv_loop_init(&loop);
	while ((entry = readdir(directory)) && count < GS_ARRAY_LENGTH(pidfds)) {
		GS_AUTO_FREE char *pipes = gs_printf("%s/%s/pipe", root, entry->d_name);
		GS_AUTO_FREE char *logs = gs_printf("%s/%s/log", root, entry->d_name);
		int pidfd = entry->d_name[0] == '.' ? -1 : mps_find_daemon(pipes, &pid);
		if (pidfd < 0)
			continue;
		pidfds[count++] = pidfd;
		const struct mps_run_setup setup = {.program = program,
						    .input = command,
						    .pipe_directory = pipes,
						    .log_directory = logs,
						    .timeout_ms = (grace_seconds + SLACK_SECONDS) * 1000};
		mps_run_start(&loop, &setup, on_quit, NULL, NULL);
	}
	closedir(directory);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	for (size_t i = 0; i < count; i++) {
		struct pollfd ended = {.fd = pidfds[i], .events = POLLIN};
		if (poll(&ended, 1, 0) == 0) {
			mps_kill(pidfds[i]);
			poll(&ended, 1, KILLED_MS);
		}
		close(pidfds[i]);
	}
	return count;
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

int gs_mps_end(const char *root, const char *state_dir, const char *program, unsigned grace_seconds,
	       const struct gs_nvml *nvml, struct gs_mps_ended *ended, struct gs_error *err)
{
	*ended = (struct gs_mps_ended){.daemons = end_daemons(root, program, grace_seconds)};
	return restore_modes(state_dir, nvml, &ended->modes, err);
}

static bool is_on_path(const char *name)
{
	const char *path = getenv("PATH");
	GS_AUTO_FREE char *copy = gs_strdup(path ? path : "");
	char *rest = copy, *directory;
	while ((directory = strsep(&rest, ":"))) {
		GS_AUTO_FREE char *full = gs_printf("%s/%s", *directory ? directory : ".", name);
		if (access(full, X_OK) == 0)
			return true;
	}
	return false;
}

char *gs_mps_find_program(const char *const *roots)
{
	if (is_on_path(PROGRAM))
		return gs_strdup(PROGRAM);
	for (; *roots; roots++) {
		char *path = gs_printf("%s/usr/bin/" PROGRAM, *roots);
		if (access(path, X_OK) == 0)
			return path;
		free(path);
	}
	return gs_strdup(PROGRAM);
}
