#include "mps/mps_end.h"

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
#include "base/driver_root.h"
#include "base/file.h"
#include "gpu/hangs.h"
#include "mps/mps_control.h"
#include "mps/mps_daemons.h"
#include "mps/mps_process.h"
#include "mps/mps_record.h"

enum { SLACK_SECONDS = 5, KILLED_MS = 2000 };

static void on_quit(void *user, int exit_status, const char *output, const struct gs_error *err)
{
	/* Whether it has gone is seen at its pidfd. */
}

/* The processes that are to end: control daemons and servers. */
struct victims {
	int pidfds[1024];
	pid_t pids[1024];
	size_t count;
	size_t daemons; /* of them */
};

/* False: it is one already, or there are too many. */
static bool add_victim(struct victims *victims, pid_t pid, int pidfd)
{
	bool is_new = victims->count < GS_ARRAY_LENGTH(victims->pidfds);
	for (size_t i = 0; pid && i < victims->count; i++)
		is_new &= victims->pids[i] != pid;
	if (!is_new) {
		close(pidfd);
		return false;
	}
	victims->daemons += pid != 0;
	victims->pids[victims->count] = pid;
	victims->pidfds[victims->count++] = pidfd;
	return true;
}

/* Those of a daemon that can be asked end with it; the others are ended with the rest. */
static void add_servers(struct victims *victims, const char *root, const char *key)
{
	struct mps_pidfds servers = {0};
	mps_find_orphans(root, key, 0, NULL, 0, &servers);
	for (size_t i = 0; i < servers.count; i++)
		add_victim(victims, 0, servers.items[i]);
}

/* How all of them are ended. */
struct ending {
	uv_loop_t loop;
	const char *program;
	unsigned grace_seconds;
	struct victims victims;
};

static void ask_to_quit(struct ending *ending, const char *pipes, const char *logs)
{
	GS_AUTO_FREE char *command = gs_printf("quit -t %u\n", ending->grace_seconds);
	const struct mps_run_setup setup = {.program = ending->program,
					    .input = command,
					    .pipe_directory = pipes,
					    .log_directory = logs,
					    .timeout_ms = (ending->grace_seconds + SLACK_SECONDS) * 1000};
	mps_run_start(&ending->loop, &setup, on_quit, NULL, NULL);
}

/* Takes what runs for one folder below the root, and asks its daemon to quit. `identity` (may be NULL) is the daemon on
 * record. */
static void end_folder(struct ending *ending, const char *root, const char *key, const struct mps_identity *identity)
{
	GS_AUTO_FREE char *pipes = gs_printf("%s/%s/pipe", root, key);
	GS_AUTO_FREE char *logs = gs_printf("%s/%s/log", root, key);
	pid_t pid;
	int pidfd = mps_find_daemon(pipes, identity, &pid);
	if (pidfd >= 0 && add_victim(&ending->victims, pid, pidfd))
		ask_to_quit(ending, pipes, logs);
	add_servers(&ending->victims, root, key);
}

/* A process that is left when the time is over is killed. */
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

/* Control daemons below the root that are in no record. */
static void end_unrecorded(struct ending *ending, const char *root)
{
	DIR *directory = opendir(root);
	struct dirent *entry;
	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.' && strlen(entry->d_name) < GS_MPS_KEY_SIZE)
			end_folder(ending, root, entry->d_name, NULL);
	if (directory)
		closedir(directory);
}

/* A node daemon with another state directory may have the root: what runs there is its own. */
static int lock_root(const char *root, int *lock, struct gs_error *err)
{
	*lock = gs_try_lock_directory(root, err);
	if (*lock >= 0 || err->code != EWOULDBLOCK)
		return 0;
	return gs_fail(err, GS_ERROR_SYSTEM, EWOULDBLOCK,
		       "another gpushare node uses %s; its MPS control daemons are left alone", root);
}

/* How many control daemons there were. */
static size_t end_daemons(struct ending *ending, const char *root, const struct gs_mps_record *record)
{
	uint64_t deadline_ns = uv_hrtime() + (uint64_t)ending->grace_seconds * 1000000000;
	size_t count;
	struct gs_mps_known *known = gs_mps_record_known(record, &count);
	uv_loop_init(&ending->loop);
	for (size_t i = 0; i < count; i++)
		end_folder(ending, known[i].root, known[i].key, &known[i].identity);
	gs_mps_known_free(known, count);
	/* A daemon that ended right after it had started one has no record of it yet, and the root was its own. */
	if (!record->found || (record->root && strcmp(record->root, root) == 0))
		end_unrecorded(ending, root);
	uv_run(&ending->loop, UV_RUN_DEFAULT);
	uv_loop_close(&ending->loop);
	end_victims(&ending->victims, deadline_ns);
	return ending->victims.daemons;
}

static int restore_modes(struct gs_mps_record *record, const struct gs_nvml *nvml, size_t *restored,
			 struct gs_error *err)
{
	int result = 0;
	const char *gpu;
	json_t *mode;
	void *next;
	json_object_foreach_safe(record->modes, next, gpu, mode)
	{
		GS_AUTO_FREE char *name = gs_strdup(gpu); /* the key goes with its entry */
		if (!nvml)
			result = gs_fail(err, GS_ERROR_SYSTEM, ENODEV,
					 "the compute mode of %s can't be restored without the NVIDIA driver", name);
		else {
			int done = gs_mps_restore(record, nvml, name, err);
			if (done < 0)
				result = gs_error_prefix(err, "the compute mode of %s is not restored", name);
			*restored += done == 0;
		}
	}
	if (!json_object_size(record->modes))
		unlink(record->path);
	return result;
}

char *gs_mps_recorded_root(const char *state_dir)
{
	struct gs_mps_record record;
	gs_mps_record_open(&record, state_dir, NULL);
	char *recorded = record.root ? gs_strdup(record.root) : NULL;
	gs_mps_record_free(&record);
	return recorded;
}

int gs_mps_end(const char *root, const char *state_dir, const char *const *driver_roots, unsigned grace_seconds,
	       struct gs_mps_ended *ended, struct gs_error *err)
{
	GS_AUTO_FREE char *given = gs_mps_root(root), *program = gs_driver_command(driver_roots, MPS_CONTROL_PROGRAM);
	GS_AUTO_CLOSE int lock = -1;
	struct ending ending = {.program = program, .grace_seconds = grace_seconds};
	struct gs_mps_record record;
	struct gs_nvml *nvml = NULL;
	struct gs_error problem = {0}, no_driver;
	*ended = (struct gs_mps_ended){0};
	signal(SIGPIPE, SIG_IGN); /* a control program that finds no daemon ends before it has read its command */
	gs_mps_record_open(&record, state_dir, &problem);
	int result =
		problem.source == GS_ERROR_NONE ? 0 : gs_fail(err, problem.source, problem.code, "%s", problem.text);
	if (lock_root(given, &lock, err) < 0) {
		gs_mps_record_free(&record);
		return -1;
	}
	ended->daemons = end_daemons(&ending, given, &record);
	if (gs_hangs_open(driver_roots, &nvml, &no_driver) < 0)
		nvml = NULL;
	if (restore_modes(&record, nvml, &ended->modes, err) < 0)
		result = -1;
	if (nvml)
		gs_hangs_close(nvml);
	gs_mps_record_free(&record);
	return result;
}
