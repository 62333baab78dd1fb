#include "strategy/mps_daemons.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "strategy/mps_control.h"

enum {
	START_MS = 2000, /* from the end of `-d` to a PID file */
	START_LOOK_MS = 10,
	COMMAND_MS = 10000, /* the daemon answers at once, or never */
	RETRY_FIRST_MS = 100,
	RETRY_MOST_MS = 30000,
	STABLE_MS = 60000,         /* after that long without a death the next one is not one more of a series */
	FAULT_LOOK_MS = 250,       /* while a server is in FAULT */
	FAULT_DEADLINE_MS = 30000, /* for its clients to go by themselves; then the server is ended */
	LOOK_DELAY_MS = 100,       /* events come in bursts */
	SLOW_LOOK_MS = 60000,      /* a fault whose events were missed */
	QUIT_SECONDS = 30,         /* for clients of a daemon that is no longer wanted */
	FAULTS_MAX = 5,            /* within FAULT_WINDOW_MS: then it is left alone for QUARANTINE_MS */
	FAULT_WINDOW_MS = 600000,
	QUARANTINE_MS = 600000,
	SERVERS_MAX = 64,
	UNANSWERED_MAX = 2, /* questions in a row: then it is ended and started again */
};

/* What a daemon is being asked right now. */
enum step {
	STEP_NONE,
	STEP_MODE,     /* waits for the compute mode */
	STEP_START,    /* nvidia-cuda-mps-control -d */
	STEP_SETTINGS, /* defaults, and the answer that proves it is there */
	STEP_SERVERS,  /* get_server_list, for STEP_APPLY or STEP_STATES */
	STEP_APPLY,    /* settings of servers that run */
	STEP_STATES,   /* get_server_status of each */
	STEP_END_SERVERS,
	STEP_QUIT,
	STEP_RESTORE, /* waits for the compute mode as it was */
};

struct daemon {
	struct daemon *next;
	struct gs_mps_daemons *all;
	struct gs_mps_spec spec;
	char *pipe_directory, *log_directory, *control_socket;
	enum gs_mps_state state;
	char reason[512];
	bool wanted;
	bool settings_due, look_due, mode_taken;
	bool tries_multi_user, multi_user;
	enum step step, after_servers;
	struct mps_run *run;
	struct death *death; /* of its process; NULL: it does not run */
	pid_t pid;
	uv_timer_t timer;
	uv_fs_event_t log_event, pipe_event;
	unsigned handles;
	int servers[SERVERS_MAX];
	size_t server_count;
	unsigned retry_ms, starts, faults, unanswered;
	uint64_t started_ms;                 /* when `-d` ended well, while its process is not known; 0: it is */
	uint64_t ready_ms;                   /* since when; of the loop's clock */
	uint64_t fault_ms;                   /* when the server was first seen in FAULT; 0: it is not */
	uint64_t fault_times_ms[FAULTS_MAX]; /* the last ones, as a ring */
};

/* A watch on one process, of its own because libuv closes handles later. */
struct death {
	uv_poll_t poll;
	int pidfd;
	struct daemon *daemon;
};

struct gs_mps_daemons {
	uv_loop_t *loop;
	struct gs_mps_options options;
	char *root, *program, *cgroups;
	struct daemon *first;
	bool no_multi_user; /* the program does not know -M */
	bool freeing;
	void (*done)(void *user);
	void *done_user;
};

static void proceed(struct daemon *daemon);
static void on_timer(uv_timer_t *timer);
static void look_soon(struct daemon *daemon);
static void on_run_done(void *user, int exit_status, const char *output, const struct gs_error *err);

/* --- states --- */

const char *gs_mps_state_name(enum gs_mps_state state)
{
	static const char *const names[] = {[GS_MPS_STARTING] = "Starting",
					    [GS_MPS_READY] = "Ready",
					    [GS_MPS_FAULT] = "Fault",
					    [GS_MPS_FAILED] = "Failed",
					    [GS_MPS_QUARANTINED] = "Quarantined",
					    [GS_MPS_STOPPING] = "Stopping"};
	return names[state];
}

static void enter(struct daemon *daemon, enum gs_mps_state state, const char *reason)
{
	bool same = daemon->state == state && strcmp(daemon->reason, reason) == 0;
	bool matters = (daemon->state == GS_MPS_READY) != (state == GS_MPS_READY) || !same;
	daemon->state = state;
	if (!same) {
		snprintf(daemon->reason, sizeof daemon->reason, "%s", reason);
		bool bad = state == GS_MPS_FAILED || state == GS_MPS_FAULT || state == GS_MPS_QUARANTINED;
		gs_log(bad ? GS_LOG_WARNING : GS_LOG_INFO, "MPS", GS_STR("device", daemon->spec.key),
		       GS_STR("state", gs_mps_state_name(state)), GS_STR("reason", daemon->reason));
	}
	if (matters && !daemon->all->freeing)
		daemon->all->options.changed(daemon->all->options.user);
}

static uint64_t now_ms(const struct daemon *daemon)
{
	return uv_now(daemon->all->loop);
}

/* Nothing is done for it any more; its memory goes with its handles. */
static bool is_going(const struct daemon *daemon)
{
	return uv_is_closing((const uv_handle_t *)&daemon->timer);
}

static void wait_for(struct daemon *daemon, unsigned delay_ms)
{
	uv_timer_start(&daemon->timer, on_timer, delay_ms, 0);
}

/* It failed: again after a pause that grows. */
static void fail(struct daemon *daemon, const char *reason)
{
	daemon->step = STEP_NONE;
	daemon->started_ms = 0;
	enter(daemon, GS_MPS_FAILED, reason);
	wait_for(daemon, daemon->retry_ms);
	daemon->retry_ms = daemon->retry_ms * 2 < RETRY_MOST_MS ? daemon->retry_ms * 2 : RETRY_MOST_MS;
}

/* --- running the program --- */

static void run(struct daemon *daemon, enum step step, const char *const *options, const char *input)
{
	const struct mps_run_setup setup = {
		.program = daemon->all->program,
		.options = options,
		.input = input,
		.pipe_directory = daemon->pipe_directory,
		.log_directory = daemon->log_directory,
		.visible_device = daemon->spec.device,
		.timeout_ms = step == STEP_QUIT ? (QUIT_SECONDS + 5) * 1000 : COMMAND_MS,
	};
	struct gs_error err;
	daemon->step = step;
	daemon->run = mps_run_start(daemon->all->loop, &setup, on_run_done, daemon, &err);
	if (!daemon->run)
		fail(daemon, err.text);
}

static void run_commands(struct daemon *daemon, enum step step, struct gs_strbuf *commands)
{
	GS_AUTO_FREE char *input = gs_strbuf_take(commands);
	run(daemon, step, NULL, input);
}

/* --- life and death --- */

static void on_death_closed(uv_handle_t *handle)
{
	struct death *death = handle->data;
	close(death->pidfd);
	free(death);
}

static void forget_process(struct daemon *daemon)
{
	if (daemon->death)
		uv_close((uv_handle_t *)&daemon->death->poll, on_death_closed);
	daemon->death = NULL;
	daemon->pid = 0;
}

static void cancel_run(struct daemon *daemon)
{
	if (daemon->run)
		mps_run_cancel(daemon->run);
	daemon->run = NULL;
}

static void on_death(uv_poll_t *poll, int status, int events)
{
	struct daemon *daemon = ((struct death *)poll->data)->daemon;
	forget_process(daemon);
	daemon->unanswered = 0;
	uv_fs_event_stop(&daemon->pipe_event);
	if (daemon->step == STEP_QUIT) /* its front end says how it went */
		return;
	cancel_run(daemon);
	if (daemon->ready_ms && now_ms(daemon) - daemon->ready_ms >= STABLE_MS)
		daemon->retry_ms = RETRY_FIRST_MS;
	daemon->ready_ms = daemon->fault_ms = 0;
	fail(daemon, "its control daemon died; starting it again");
}

/* Whether it runs; if so it is watched from now on. */
static bool find_process(struct daemon *daemon)
{
	if (daemon->death)
		return true;
	int pidfd = mps_find_daemon(daemon->pipe_directory, &daemon->pid);
	if (pidfd < 0)
		return false;
	struct death *death = gs_malloc(sizeof *death);
	*death = (struct death){.pidfd = pidfd, .daemon = daemon};
	if (uv_poll_init(daemon->all->loop, &death->poll, pidfd) < 0) {
		close(pidfd);
		free(death);
		return false;
	}
	death->poll.data = death;
	uv_poll_start(&death->poll, UV_READABLE, on_death);
	daemon->death = death;
	daemon->multi_user = mps_is_multi_user(daemon->pid);
	daemon->started_ms = 0;
	return true;
}

/* --- one step after the other --- */

static void start_process(struct daemon *daemon)
{
	struct gs_error err;
	/* Clients of every user connect there; logs are the daemon's own. */
	if (gs_make_directories(daemon->pipe_directory, 0755, &err) < 0 ||
	    gs_make_directories(daemon->log_directory, 0755, &err) < 0) {
		fail(daemon, err.text);
		return;
	}
	/* Drivers that know no -M (R550 and older) take it for a command line without options and look for a daemon. */
	static const char *const options[] = {"-d", NULL}, *const for_all_users[] = {"-d", "-M", NULL};
	daemon->starts++;
	daemon->tries_multi_user = daemon->spec.multi_user && !daemon->all->no_multi_user;
	run(daemon, STEP_START, daemon->tries_multi_user ? for_all_users : options, NULL);
}

static uint64_t whole_mib(uint64_t bytes)
{
	return bytes >> 20;
}

/* The defaults are for servers to come. Its answers prove that the daemon is there and took them. */
static void set_defaults(struct daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	gs_strbuf_printf(&commands, "set_default_active_thread_percentage %u\n", daemon->spec.thread_percentage);
	gs_strbuf_printf(&commands, "set_default_device_pinned_mem_limit 0 %" PRIu64 "M\n",
			 whole_mib(daemon->spec.memory_bytes));
	gs_strbuf_printf(&commands, "set_default_client_priority %u\n", daemon->spec.priority);
	gs_strbuf_printf(&commands, "get_default_active_thread_percentage\n");
	daemon->settings_due = false;
	run_commands(daemon, STEP_SETTINGS, &commands);
}

/* Servers that run get the settings too; their clients keep what they came with. */
static void set_servers(struct daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	for (size_t i = 0; i < daemon->server_count; i++) {
		gs_strbuf_printf(&commands, "set_active_thread_percentage %d %u\n", daemon->servers[i],
				 daemon->spec.thread_percentage);
		gs_strbuf_printf(&commands, "set_device_pinned_mem_limit %d 0 %" PRIu64 "M\n", daemon->servers[i],
				 whole_mib(daemon->spec.memory_bytes));
	}
	run_commands(daemon, STEP_APPLY, &commands);
}

static void ask_states(struct daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	for (size_t i = 0; i < daemon->server_count; i++)
		gs_strbuf_printf(&commands, "get_server_status %d\n", daemon->servers[i]);
	run_commands(daemon, STEP_STATES, &commands);
}

static void end_servers(struct daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	for (size_t i = 0; i < daemon->server_count; i++)
		gs_strbuf_printf(&commands, "shutdown_server %d -f\n", daemon->servers[i]);
	gs_log(GS_LOG_WARNING, "MPS: ending a server in FAULT whose clients did not go",
	       GS_STR("device", daemon->spec.key));
	daemon->fault_ms = now_ms(daemon);
	run_commands(daemon, STEP_END_SERVERS, &commands);
}

static void list_servers(struct daemon *daemon, enum step then)
{
	daemon->after_servers = then;
	run(daemon, STEP_SERVERS, NULL, "get_server_list\n");
}

static void quit(struct daemon *daemon)
{
	GS_AUTO_FREE char *command = gs_printf("quit -t %d\n", QUIT_SECONDS);
	enter(daemon, GS_MPS_STOPPING, "MPS is no longer wanted here; its last clients are being waited for");
	run(daemon, STEP_QUIT, NULL, command);
}

static void on_pipe(uv_fs_event_t *event, const char *name, int events, int status)
{
	struct daemon *daemon = event->data;
	if (access(daemon->control_socket, F_OK) == 0)
		return;
	uv_fs_event_stop(event);
	look_soon(daemon);
}

/* Anew each time it is ready: the directory may be another one by then. */
static void watch_pipes(struct daemon *daemon)
{
	if (!uv_is_active((uv_handle_t *)&daemon->pipe_event))
		uv_fs_event_start(&daemon->pipe_event, on_pipe, daemon->pipe_directory, 0);
}

static void become_ready(struct daemon *daemon)
{
	if (!daemon->ready_ms)
		daemon->ready_ms = now_ms(daemon);
	daemon->unanswered = 0;
	watch_pipes(daemon);
	daemon->step = STEP_NONE;
	wait_for(daemon, SLOW_LOOK_MS);
	enter(daemon, GS_MPS_READY, "");
}

/* --- faults --- */

/* Whether this fault is one of a series that is too fast. */
static bool is_in_a_loop(struct daemon *daemon)
{
	uint64_t oldest = daemon->fault_times_ms[daemon->faults % FAULTS_MAX];
	daemon->fault_times_ms[daemon->faults % FAULTS_MAX] = now_ms(daemon);
	daemon->faults++;
	return daemon->faults > FAULTS_MAX && now_ms(daemon) - oldest < FAULT_WINDOW_MS;
}

static void take_fault(struct daemon *daemon)
{
	if (!daemon->fault_ms) {
		daemon->fault_ms = now_ms(daemon);
		if (is_in_a_loop(daemon)) {
			char reason[160];
			snprintf(reason, sizeof reason,
				 "%d faults of clients within %d minutes; no more shares are given out for %d minutes",
				 FAULTS_MAX + 1, FAULT_WINDOW_MS / 60000, QUARANTINE_MS / 60000);
			daemon->step = STEP_NONE;
			enter(daemon, GS_MPS_QUARANTINED, reason);
			wait_for(daemon, QUARANTINE_MS);
			return;
		}
	}
	daemon->step = STEP_NONE;
	enter(daemon, GS_MPS_FAULT,
	      "a client's work failed, and with it that of every client on this device; it takes no new ones until "
	      "those "
	      "are gone");
	wait_for(daemon, FAULT_LOOK_MS);
}

static void take_states(struct daemon *daemon, const char *output)
{
	if (strstr(output, "FAULT")) {
		bool late = daemon->fault_ms && now_ms(daemon) - daemon->fault_ms >= FAULT_DEADLINE_MS;
		if (late)
			end_servers(daemon);
		else
			take_fault(daemon);
		return;
	}
	daemon->fault_ms = 0;
	become_ready(daemon);
}

/* --- answers --- */

static void take_servers(struct daemon *daemon, const char *output)
{
	daemon->server_count = 0;
	for (const char *at = output; *at && daemon->server_count < SERVERS_MAX;) {
		char *end;
		long pid = strtol(at, &end, 10);
		if (end == at)
			break;
		if (pid > 0 && pid <= INT32_MAX)
			daemon->servers[daemon->server_count++] = (int)pid;
		at = end + strspn(end, " \r\n");
	}
	if (!daemon->server_count) {
		daemon->fault_ms = 0;
		become_ready(daemon);
	} else if (daemon->after_servers == STEP_APPLY) {
		set_servers(daemon);
	} else {
		ask_states(daemon);
	}
}

/* Each set command answers with what holds now, as the question does: all must be as wanted. */
static bool took_settings(const struct daemon *daemon, const char *output)
{
	char wanted[16];
	snprintf(wanted, sizeof wanted, "%u.0\n", daemon->spec.thread_percentage);
	size_t length = strlen(output), tail = strlen(wanted);
	return length >= tail && strcmp(output + length - tail, wanted) == 0;
}

/* The first line of what the program said, for a reason. */
static const char *first_line(const char *output, char *line, size_t size)
{
	size_t length = strcspn(output, "\n");
	snprintf(line, size, "%.*s", (int)(length < size ? length : size - 1), output);
	return *line ? line : "it said nothing";
}

/* Lets it outlive the container that this process runs in. Its servers come later, and where it is then. */
static void release(struct daemon *daemon)
{
	struct gs_error err = {0};
	const char *cgroups = daemon->all->cgroups;
	if (!cgroups)
		return;
	mps_leave_cgroups(daemon->pid, cgroups, &err);
	if (err.source != GS_ERROR_NONE)
		gs_log(GS_LOG_WARNING, "MPS: a control daemon may end with this container, and its clients with it",
		       GS_STR("error", err.text));
}

static void take_start(struct daemon *daemon, int exit_status, const char *output)
{
	char line[200], reason[300];
	/* Status 1 with one that runs already: somebody was faster. */
	if (find_process(daemon)) {
		release(daemon);
		set_defaults(daemon);
		return;
	}
	if (exit_status == 0) { /* its PID file comes a moment later */
		daemon->started_ms = now_ms(daemon);
		daemon->step = STEP_NONE;
		wait_for(daemon, START_LOOK_MS);
		return;
	}
	if (daemon->tries_multi_user) {
		daemon->all->no_multi_user = true;
		daemon->starts--;
		start_process(daemon);
		return;
	}
	snprintf(reason, sizeof reason, "nvidia-cuda-mps-control -d ended with status %d: %s", exit_status,
		 first_line(output, line, sizeof line));
	fail(daemon, reason);
}

static void finish_quit(struct daemon *daemon);

static void on_run_done(void *user, int exit_status, const char *output, const struct gs_error *err)
{
	struct daemon *daemon = user;
	enum step step = daemon->step;
	char line[200], reason[300];
	daemon->run = NULL;
	if (step == STEP_QUIT) {
		finish_quit(daemon);
	} else if (step == STEP_START) {
		take_start(daemon, exit_status, err ? err->text : output);
	} else if (err || exit_status != 0) {
		snprintf(reason, sizeof reason, "its control daemon does not answer: %s",
			 err ? err->text : first_line(output, line, sizeof line));
		fail(daemon, reason);
		/* It lives and nobody can reach it: its pipe directory was deleted, say. Servers go on without it. */
		if (daemon->death && ++daemon->unanswered >= UNANSWERED_MAX)
			mps_kill(daemon->death->pidfd);
	} else if (step == STEP_SETTINGS && !took_settings(daemon, output)) {
		snprintf(reason, sizeof reason, "its control daemon did not take the settings; it answered: %s",
			 first_line(output, line, sizeof line));
		fail(daemon, reason);
	} else if (step == STEP_SETTINGS) {
		list_servers(daemon, STEP_APPLY);
	} else if (step == STEP_SERVERS) {
		take_servers(daemon, output);
	} else if (step == STEP_APPLY) {
		ask_states(daemon);
	} else if (step == STEP_STATES) {
		take_states(daemon, output);
	} else { /* STEP_END_SERVERS */
		daemon->step = STEP_NONE;
		wait_for(daemon, FAULT_LOOK_MS);
	}
	/* What was asked for meanwhile. */
	if (daemon->step == STEP_NONE && (daemon->settings_due || daemon->look_due || !daemon->wanted) &&
	    daemon->state != GS_MPS_FAILED)
		proceed(daemon);
}

/* --- the end of one --- */

static bool is_mode_used(const struct gs_mps_daemons *all, const struct daemon *except, const char *gpu)
{
	for (const struct daemon *daemon = all->first; daemon; daemon = daemon->next)
		if (daemon != except && daemon->mode_taken && strcmp(daemon->spec.gpu, gpu) == 0)
			return true;
	return false;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct daemon *daemon = handle->data;
	if (--daemon->handles > 0)
		return;
	struct gs_mps_daemons *all = daemon->all;
	for (struct daemon **at = &all->first; *at; at = &(*at)->next)
		if (*at == daemon) {
			*at = daemon->next;
			break;
		}
	free(daemon->pipe_directory);
	free(daemon->log_directory);
	free(daemon->control_socket);
	free(daemon);
	if (!all->freeing || all->first)
		return;
	void (*done)(void *) = all->done;
	void *user = all->done_user;
	free(all->root);
	free(all->program);
	free(all->cgroups);
	free(all);
	if (done)
		done(user);
}

static void delete (struct daemon *daemon)
{
	if (is_going(daemon))
		return;
	cancel_run(daemon);
	forget_process(daemon);
	uv_close((uv_handle_t *)&daemon->timer, on_handle_closed);
	uv_close((uv_handle_t *)&daemon->log_event, on_handle_closed);
	uv_close((uv_handle_t *)&daemon->pipe_event, on_handle_closed);
}

/* The daemon is gone: the GPU gets its compute mode back, unless a new daemon wants it already. */
static void finish_quit(struct daemon *daemon)
{
	forget_process(daemon);
	daemon->step = STEP_NONE;
	if (daemon->wanted) { /* the config changed its mind */
		enter(daemon, GS_MPS_STARTING, "");
		proceed(daemon);
		return;
	}
	bool restore = daemon->mode_taken && !is_mode_used(daemon->all, daemon, daemon->spec.gpu);
	if (!restore) {
		struct gs_mps_daemons *all = daemon->all;
		delete (daemon);
		all->options.changed(all->options.user);
		return;
	}
	daemon->step = STEP_RESTORE;
	daemon->all->options.set_mode(daemon->all->options.user, daemon->spec.gpu, false);
}

/* --- what to do next --- */

static void proceed(struct daemon *daemon)
{
	if (daemon->step != STEP_NONE || daemon->all->freeing)
		return;
	uv_timer_stop(&daemon->timer);
	bool runs = find_process(daemon);
	if (!daemon->wanted) {
		if (runs)
			quit(daemon);
		else
			finish_quit(daemon);
	} else if (daemon->state == GS_MPS_QUARANTINED && daemon->fault_ms) {
		daemon->fault_ms = 0; /* the time is over */
		list_servers(daemon, STEP_STATES);
	} else if (daemon->spec.exclusive && !daemon->mode_taken) {
		daemon->step = STEP_MODE;
		daemon->all->options.set_mode(daemon->all->options.user, daemon->spec.gpu, true);
	} else if (!runs && daemon->started_ms) {
		if (now_ms(daemon) - daemon->started_ms < START_MS)
			wait_for(daemon, START_LOOK_MS);
		else
			fail(daemon, "nvidia-cuda-mps-control -d ended well and left no daemon behind");
	} else if (!runs) {
		start_process(daemon);
	} else if (daemon->settings_due || !daemon->ready_ms) {
		if (daemon->starts)
			release(daemon);
		set_defaults(daemon);
	} else {
		daemon->look_due = false;
		list_servers(daemon, STEP_STATES);
	}
}

static void on_timer(uv_timer_t *timer)
{
	proceed(timer->data);
}

static void look_soon(struct daemon *daemon)
{
	daemon->look_due = true;
	if (daemon->state == GS_MPS_READY && daemon->step == STEP_NONE)
		wait_for(daemon, LOOK_DELAY_MS);
}

/* The servers' log tells of clients that came, went and failed; what it says is not relied on. */
static void on_log(uv_fs_event_t *event, const char *name, int events, int status)
{
	if (!name || strcmp(name, "server.log") == 0)
		look_soon(event->data);
}

/* --- from outside --- */

static struct daemon *find(struct gs_mps_daemons *all, const char *key)
{
	for (struct daemon *daemon = all->first; daemon; daemon = daemon->next)
		if (strcmp(daemon->spec.key, key) == 0 && !is_going(daemon))
			return daemon;
	return NULL;
}

static struct daemon *add(struct gs_mps_daemons *all, const struct gs_mps_spec *spec)
{
	struct daemon *daemon = gs_calloc(1, sizeof *daemon);
	daemon->all = all;
	daemon->spec = *spec;
	daemon->pipe_directory = gs_printf("%s/%s/pipe", all->root, spec->key);
	daemon->control_socket = gs_printf("%s/control", daemon->pipe_directory);
	daemon->log_directory = gs_printf("%s/%s/log", all->root, spec->key);
	daemon->wanted = true;
	daemon->retry_ms = RETRY_FIRST_MS;
	uv_timer_init(all->loop, &daemon->timer);
	uv_fs_event_init(all->loop, &daemon->log_event);
	uv_fs_event_init(all->loop, &daemon->pipe_event);
	daemon->timer.data = daemon->log_event.data = daemon->pipe_event.data = daemon;
	daemon->handles = 3;
	struct daemon **end = &all->first;
	while (*end)
		end = &(*end)->next;
	*end = daemon;
	if (gs_make_directories(daemon->log_directory, 0755, NULL) == 0)
		uv_fs_event_start(&daemon->log_event, on_log, daemon->log_directory, 0);
	return daemon;
}

/* A daemon that an earlier process started; `key` is its folder. */
static void add_leftover(struct gs_mps_daemons *all, const char *key)
{
	enum { UUID_LENGTH = 40 }; /* "GPU-" and 36 characters; what follows is a share's number */
	GS_AUTO_FREE char *pipe_directory = gs_printf("%s/%s/pipe", all->root, key);
	struct gs_mps_spec spec = {0};
	pid_t pid;
	int pidfd = mps_find_daemon(pipe_directory, &pid);
	if (pidfd < 0)
		return;
	close(pidfd);
	snprintf(spec.key, sizeof spec.key, "%s", key);
	snprintf(spec.device, sizeof spec.device, "%.*s", UUID_LENGTH, key);
	memcpy(spec.gpu, spec.device, sizeof spec.gpu);
	spec.exclusive = strlen(key) == UUID_LENGTH && strncmp(key, "GPU-", 4) == 0;
	add(all, &spec)->mode_taken = spec.exclusive;
}

static void add_leftovers(struct gs_mps_daemons *all)
{
	DIR *directory = opendir(all->root);
	struct dirent *entry;
	while (directory && (entry = readdir(directory)))
		if (entry->d_name[0] != '.' && strlen(entry->d_name) < GS_MPS_KEY_SIZE)
			add_leftover(all, entry->d_name);
	if (directory)
		closedir(directory);
}

struct gs_mps_daemons *gs_mps_new(uv_loop_t *loop, const struct gs_mps_options *options)
{
	struct gs_mps_daemons *all = gs_calloc(1, sizeof *all);
	all->loop = loop;
	all->options = *options;
	all->root = gs_strdup(options->root);
	all->program = gs_strdup(options->program);
	all->cgroups = options->cgroups ? gs_strdup(options->cgroups) : NULL;
	add_leftovers(all);
	return all;
}

static bool same_settings(const struct gs_mps_spec *a, const struct gs_mps_spec *b)
{
	return a->thread_percentage == b->thread_percentage && a->memory_bytes == b->memory_bytes &&
	       a->priority == b->priority;
}

static void change(struct daemon *daemon, const struct gs_mps_spec *spec)
{
	bool again = !daemon->wanted;
	daemon->wanted = true;
	if (!same_settings(&daemon->spec, spec))
		daemon->settings_due = true;
	daemon->spec = *spec;
	if (daemon->step == STEP_NONE && (again || daemon->settings_due) && daemon->state != GS_MPS_FAILED)
		wait_for(daemon, 0);
}

void gs_mps_want(struct gs_mps_daemons *daemons, const struct gs_mps_spec *specs, size_t count)
{
	for (struct daemon *daemon = daemons->first; daemon; daemon = daemon->next) {
		bool wanted = false;
		for (size_t i = 0; i < count; i++)
			wanted |= strcmp(daemon->spec.key, specs[i].key) == 0;
		if (wanted || !daemon->wanted)
			continue;
		daemon->wanted = false;
		if (daemon->step == STEP_NONE)
			wait_for(daemon, 0);
	}
	for (size_t i = 0; i < count; i++) {
		struct daemon *daemon = find(daemons, specs[i].key);
		if (daemon)
			change(daemon, &specs[i]);
		else
			wait_for(add(daemons, &specs[i]), 0);
	}
}

void gs_mps_mode_set(struct gs_mps_daemons *daemons, const char *gpu, const struct gs_error *err)
{
	for (struct daemon *daemon = daemons->first, *next; daemon; daemon = next) {
		next = daemon->next;
		if (strcmp(daemon->spec.gpu, gpu) != 0 || is_going(daemon))
			continue;
		if (daemon->step == STEP_MODE) {
			daemon->step = STEP_NONE;
			daemon->mode_taken = !err;
			if (err)
				fail(daemon, err->text);
			else
				proceed(daemon);
		} else if (daemon->step == STEP_RESTORE) {
			daemon->step = STEP_NONE;
			daemon->mode_taken = false;
			if (err)
				gs_log(GS_LOG_WARNING, "MPS: the compute mode could not be restored",
				       GS_STR("gpu", gpu), GS_STR("error", err->text));
			finish_quit(daemon);
		}
	}
}

void gs_mps_look(struct gs_mps_daemons *daemons, const char *gpu)
{
	for (struct daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		if (strcmp(daemon->spec.gpu, gpu) == 0)
			look_soon(daemon);
}

bool gs_mps_is_ready(const struct gs_mps_daemons *daemons, const char *device, const char **reason)
{
	bool found = false;
	*reason = "";
	for (const struct daemon *daemon = daemons->first; daemon; daemon = daemon->next) {
		if (strcmp(daemon->spec.device, device) != 0 || is_going(daemon))
			continue;
		found = true;
		if (daemon->state == GS_MPS_READY)
			continue;
		/* A share's own server fails alone, and recovers when the share's clients are gone. */
		if (daemon->state == GS_MPS_FAULT && strcmp(daemon->spec.key, daemon->spec.device) != 0)
			continue;
		*reason = *daemon->reason ? daemon->reason : "its MPS control daemon is being started";
		return false;
	}
	if (!found)
		*reason = "its MPS control daemon is being started";
	return found;
}

bool gs_mps_holds(const struct gs_mps_daemons *daemons, const char *gpu)
{
	for (const struct daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		if (!daemon->wanted && !is_going(daemon) && strcmp(daemon->spec.gpu, gpu) == 0)
			return true;
	return false;
}

size_t gs_mps_count(const struct gs_mps_daemons *daemons)
{
	size_t count = 0;
	for (const struct daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		count++;
	return count;
}

struct gs_mps_status gs_mps_status(const struct gs_mps_daemons *daemons, size_t which)
{
	const struct daemon *daemon = daemons->first;
	while (which-- > 0)
		daemon = daemon->next;
	return (struct gs_mps_status){.spec = daemon->spec,
				      .state = daemon->state,
				      .pid = (int)daemon->pid,
				      .reason = daemon->reason,
				      .multi_user = daemon->multi_user,
				      .starts = daemon->starts,
				      .faults = daemon->faults,
				      .pipe_directory = daemon->pipe_directory};
}

void gs_mps_free(struct gs_mps_daemons *daemons, void (*done)(void *user), void *user)
{
	daemons->freeing = true;
	daemons->done = done;
	daemons->done_user = user;
	if (!daemons->first) {
		free(daemons->root);
		free(daemons->program);
		free(daemons->cgroups);
		free(daemons);
		if (done)
			done(user);
		return;
	}
	for (struct daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		delete (daemon);
}
