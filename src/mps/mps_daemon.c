#include "mps/mps_daemon.h"

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
#include "mps/mps_answer.h"

enum {
	START_MS = 2000, /* from the end of `-d` to a control socket */
	START_LOOK_MS = 10,
	START_SEARCH_MS = 500, /* then it is looked for among all processes, should its socket not tell who it is */
	COMMAND_MS = 10000,    /* the daemon answers at once, or never */
	RETRY_FIRST_MS = 100,
	RETRY_MOST_MS = 30000,
	STABLE_MS = 60000,         /* after that long without a death the next one is not one more of a series */
	FAULT_LOOK_MS = 250,       /* while a server is in FAULT */
	FAULT_DEADLINE_MS = 30000, /* for its clients to go by themselves; then the server is ended */
	LOOK_DELAY_MS = 100,       /* events come in bursts */
	LOOK_EACH_MS = 300,        /* and some come all the time */
	SLOW_LOOK_MS = 60000,      /* a fault whose events were missed, settings that somebody changed */
	QUIT_SECONDS = 30,         /* for clients of a daemon that is no longer wanted */
	FAULT_WINDOW_MS = 600000,
	QUARANTINE_MS = 600000,
	DRAIN_LOOK_MS = 250,
	UNANSWERED_MAX = 2, /* questions in a row, over this time: then it is ended and started again */
	UNANSWERED_MS = 3000,
};

/* A watch on one process, of its own because libuv closes handles later. */
struct mps_death {
	uv_poll_t poll;
	int pidfd;
	struct mps_daemon *daemon;
};

static void proceed(struct mps_daemon *daemon);
static void on_timer(uv_timer_t *timer);
static void on_run_done(void *user, int exit_status, const char *output, const struct gs_error *err);

/* --- states --- */

const char *gs_mps_state_name(enum gs_mps_state state)
{
	static const char *const names[] = {[GS_MPS_STARTING] = "Starting",
					    [GS_MPS_READY] = "Ready",
					    [GS_MPS_FAULT] = "Fault",
					    [GS_MPS_FAILED] = "Failed",
					    [GS_MPS_QUARANTINED] = "Quarantined",
					    [GS_MPS_DRAINING] = "Draining",
					    [GS_MPS_STOPPING] = "Stopping"};
	return names[state];
}

static void enter(struct mps_daemon *daemon, enum gs_mps_state state, const char *reason)
{
	bool same = daemon->state == state && strcmp(daemon->reason, reason) == 0;
	bool matters = (daemon->state == GS_MPS_READY) != (state == GS_MPS_READY) || !same;
	daemon->state = state;
	if (!same) {
		snprintf(daemon->reason, sizeof daemon->reason, "%s", reason);
		bool bad = state == GS_MPS_FAILED || state == GS_MPS_FAULT || state == GS_MPS_QUARANTINED ||
			   state == GS_MPS_DRAINING;
		gs_log(bad ? GS_LOG_WARNING : GS_LOG_INFO, "MPS", GS_STR("device", daemon->spec.key),
		       GS_STR("state", gs_mps_state_name(state)), GS_STR("reason", daemon->reason));
	}
	if (matters && !daemon->all->freeing)
		daemon->all->options.changed(daemon->all->options.user);
}

static uint64_t now_ms(const struct mps_daemon *daemon)
{
	return uv_now(daemon->all->loop);
}

bool mps_daemon_is_going(const struct mps_daemon *daemon)
{
	return uv_is_closing((const uv_handle_t *)&daemon->timer);
}

static void wait_for(struct mps_daemon *daemon, unsigned delay_ms)
{
	uv_timer_start(&daemon->timer, on_timer, delay_ms, 0);
}

/* It failed: again after a pause that grows. */
static void fail(struct mps_daemon *daemon, const char *reason)
{
	daemon->step = MPS_STEP_NONE;
	daemon->started_ms = 0;
	enter(daemon, GS_MPS_FAILED, reason);
	wait_for(daemon, daemon->retry_ms);
	daemon->retry_ms = daemon->retry_ms * 2 < RETRY_MOST_MS ? daemon->retry_ms * 2 : RETRY_MOST_MS;
}

/* --- running the program --- */

static void run(struct mps_daemon *daemon, enum mps_step step, const char *const *options, const char *input)
{
	const struct mps_run_setup setup = {
		.program = daemon->all->program,
		.options = options,
		.input = input,
		.pipe_directory = daemon->pipe_directory,
		.log_directory = daemon->log_directory,
		.visible_device = daemon->spec.device,
		.timeout_ms = step == MPS_STEP_QUIT ? (QUIT_SECONDS + 5) * 1000 : COMMAND_MS,
	};
	struct gs_error err;
	daemon->step = step;
	daemon->run = mps_run_start(daemon->all->loop, &setup, on_run_done, daemon, &err);
	if (!daemon->run)
		fail(daemon, err.text);
}

static void run_commands(struct mps_daemon *daemon, enum mps_step step, struct gs_strbuf *commands)
{
	GS_AUTO_FREE char *input = gs_strbuf_take(commands);
	run(daemon, step, NULL, input);
}

/* --- life and death --- */

static uint64_t quarantine_left_ms(const struct mps_daemon *daemon)
{
	uint64_t now = now_ms(daemon);
	return daemon->quarantine_ends_ms > now ? daemon->quarantine_ends_ms - now : 0;
}

static void on_death_closed(uv_handle_t *handle)
{
	struct mps_death *death = handle->data;
	close(death->pidfd);
	free(death);
}

static void forget_process(struct mps_daemon *daemon)
{
	if (daemon->death)
		uv_close((uv_handle_t *)&daemon->death->poll, on_death_closed);
	daemon->death = NULL;
	daemon->pid = 0;
}

static void cancel_run(struct mps_daemon *daemon)
{
	if (daemon->run)
		mps_run_cancel(daemon->run);
	daemon->run = NULL;
}

static void on_death(uv_poll_t *poll, int status, int events)
{
	struct mps_daemon *daemon = ((struct mps_death *)poll->data)->daemon;
	forget_process(daemon);
	daemon->unanswered = 0;
	daemon->server_count = 0;
	daemon->orphans_due = true;
	uv_fs_event_stop(&daemon->pipe_event);
	if (daemon->step == MPS_STEP_QUIT) /* its front end says how it went */
		return;
	cancel_run(daemon);
	if (daemon->ready_ms && now_ms(daemon) - daemon->ready_ms >= STABLE_MS)
		daemon->retry_ms = RETRY_FIRST_MS;
	daemon->orphan_fault_ms = daemon->fault_ms;
	daemon->ready_ms = daemon->fault_ms = 0;
	if (quarantine_left_ms(daemon)) { /* it is not needed before that is over */
		daemon->step = MPS_STEP_NONE;
		return;
	}
	fail(daemon, "its control daemon died; starting it again");
}

void mps_daemon_adopt(struct mps_daemon *daemon, pid_t pid, int pidfd)
{
	struct mps_death *death = gs_malloc(sizeof *death);
	*death = (struct mps_death){.pidfd = pidfd, .daemon = daemon};
	if (uv_poll_init(daemon->all->loop, &death->poll, pidfd) < 0) {
		close(pidfd);
		free(death);
		return;
	}
	death->poll.data = death;
	uv_poll_start(&death->poll, UV_READABLE, on_death);
	daemon->death = death;
	daemon->pid = pid;
	daemon->multi_user = mps_is_multi_user(pid);
	daemon->started_ms = 0;
	struct mps_identity now = mps_identify(pid);
	if (now.pid == daemon->known.pid && now.start == daemon->known.start)
		return;
	daemon->known = now;
	daemon->all->options.keep(daemon->all->options.user, daemon->directory, &now);
}

/* Whether it runs; if so it is watched from now on. */
static bool find_process(struct mps_daemon *daemon)
{
	pid_t pid;
	int pidfd = daemon->death ? -1 : mps_find_daemon(daemon->pipe_directory, &daemon->known, &pid);
	if (pidfd >= 0)
		mps_daemon_adopt(daemon, pid, pidfd);
	return daemon->death;
}

static void adopt_if_its(void *user, const char *key, pid_t pid, int pidfd)
{
	struct mps_daemon *daemon = user;
	if (!daemon->death && strcmp(key, daemon->spec.key) == 0)
		mps_daemon_adopt(daemon, pid, pidfd);
	else
		close(pidfd);
}

/* --- one step after the other --- */

static void start_process(struct mps_daemon *daemon)
{
	struct gs_error err;
	/* Clients of every user connect there; logs are the daemon's own. */
	if (gs_make_directories(daemon->pipe_directory, 0755, &err) < 0 ||
	    gs_make_directories(daemon->log_directory, 0755, &err) < 0) {
		fail(daemon, err.text);
		return;
	}
	GS_AUTO_FREE char *closed = gs_find_closed_directory(daemon->pipe_directory);
	if (closed) {
		char reason[512];
		snprintf(reason, sizeof reason,
			 "MPS works for all users below %s, and only some can enter %s; run chmod o+x %s, or name "
			 "another "
			 "directory with flags.mpsRoot",
			 daemon->root, closed, closed);
		fail(daemon, reason);
		return;
	}
	/* Drivers that know no -M (R550 and older) take it for a command line without options and look for a daemon. */
	static const char *const options[] = {"-d", NULL}, *const for_all_users[] = {"-d", "-M", NULL};
	daemon->starts++;
	daemon->tries_multi_user = daemon->spec.multi_user && !daemon->all->no_multi_user;
	run(daemon, MPS_STEP_START, daemon->tries_multi_user ? for_all_users : options, NULL);
}

static void list_servers(struct mps_daemon *daemon, enum mps_step then)
{
	daemon->after_servers = then;
	run(daemon, MPS_STEP_SERVERS, NULL, "get_server_list\n");
}

/* The defaults are for servers to come. Its answers prove that the daemon is there and took them. */
static void set_defaults(struct mps_daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	daemon->settings_due = false;
	daemon->set_ms = now_ms(daemon);
	if (!daemon->spec
		     .thread_percentage) { /* found here, for a device that the config does not fit: it stays as it is */
		list_servers(daemon, MPS_STEP_STATES);
		return;
	}
	gs_strbuf_printf(&commands, "set_default_active_thread_percentage %u\n", daemon->spec.thread_percentage);
	if (daemon->spec.memory_bytes >> 20) /* else the driver does not tell what there is */
		gs_strbuf_printf(&commands, "set_default_device_pinned_mem_limit 0 %" PRIu64 "M\n",
				 daemon->spec.memory_bytes >> 20);
	gs_strbuf_printf(&commands, "set_default_client_priority %u\n", daemon->spec.priority);
	gs_strbuf_printf(&commands, "get_default_active_thread_percentage\n");
	run_commands(daemon, MPS_STEP_SETTINGS, &commands);
}

/* Servers that run get the settings too; their clients keep what they came with. */
static void set_servers(struct mps_daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	for (size_t i = 0; i < daemon->server_count; i++) {
		gs_strbuf_printf(&commands, "set_active_thread_percentage %d %u\n", daemon->servers[i],
				 daemon->spec.thread_percentage);
		if (daemon->spec.memory_bytes >> 20)
			gs_strbuf_printf(&commands, "set_device_pinned_mem_limit %d 0 %" PRIu64 "M\n",
					 daemon->servers[i], daemon->spec.memory_bytes >> 20);
	}
	run_commands(daemon, MPS_STEP_APPLY, &commands);
}

static void ask_states(struct mps_daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	for (size_t i = 0; i < daemon->server_count; i++)
		gs_strbuf_printf(&commands, "get_server_status %d\n", daemon->servers[i]);
	run_commands(daemon, MPS_STEP_STATES, &commands);
}

static void end_servers(struct mps_daemon *daemon)
{
	GS_AUTO_STRBUF struct gs_strbuf commands = {0};
	for (size_t i = 0; i < daemon->server_count; i++)
		gs_strbuf_printf(&commands, "shutdown_server %d -f\n", daemon->servers[i]);
	gs_log(GS_LOG_WARNING, "MPS: ending a server in FAULT whose clients did not go",
	       GS_STR("device", daemon->spec.key));
	daemon->fault_ms = now_ms(daemon);
	run_commands(daemon, MPS_STEP_END_SERVERS, &commands);
}

static const char not_wanted[] = "MPS is no longer wanted here; its last clients are being waited for";

static void quit(struct mps_daemon *daemon)
{
	GS_AUTO_FREE char *command = gs_printf("quit -t %d\n", QUIT_SECONDS);
	daemon->quit_ms = now_ms(daemon);
	enter(daemon, GS_MPS_STOPPING, not_wanted);
	run(daemon, MPS_STEP_QUIT, NULL, command);
}

static void on_pipe(uv_fs_event_t *event, const char *name, int events, int status)
{
	struct mps_daemon *daemon = event->data;
	if (access(daemon->control_socket, F_OK) == 0)
		return;
	uv_fs_event_stop(event);
	mps_daemon_look(daemon);
}

/* Anew each time it is ready: the directory may be another one by then. */
static void watch_pipes(struct mps_daemon *daemon)
{
	if (!uv_is_active((uv_handle_t *)&daemon->pipe_event))
		uv_fs_event_start(&daemon->pipe_event, on_pipe, daemon->pipe_directory, 0);
}

/* Somebody may have changed them, by the socket that clients have. */
static bool are_settings_old(const struct mps_daemon *daemon)
{
	return now_ms(daemon) - daemon->set_ms >= SLOW_LOOK_MS;
}

/* Whether servers of a control daemon that died still have the GPU. Those of one that was in FAULT have a deadline too. */
static bool orphans_hold(struct mps_daemon *daemon)
{
	if (!mps_pidfds_alive(&daemon->orphans)) {
		daemon->orphan_fault_ms = 0;
		return false;
	}
	if (daemon->orphan_fault_ms && now_ms(daemon) - daemon->orphan_fault_ms >= FAULT_DEADLINE_MS)
		mps_pidfds_kill(&daemon->orphans);
	return true;
}

/* A server outlives its control daemon while it has clients, and as long as it has the GPU no other one can have it. */
static void become_ready(struct mps_daemon *daemon)
{
	if (!daemon->ready_ms)
		daemon->ready_ms = now_ms(daemon);
	daemon->unanswered = 0;
	watch_pipes(daemon);
	daemon->step = MPS_STEP_NONE;
	if (orphans_hold(daemon)) {
		wait_for(daemon, DRAIN_LOOK_MS);
		enter(daemon, GS_MPS_DRAINING,
		      "its control daemon died, and clients that it had still run on the device; it takes new ones "
		      "when those have ended");
		return;
	}
	wait_for(daemon, are_settings_old(daemon) ? 0 : (unsigned)(daemon->set_ms + SLOW_LOOK_MS - now_ms(daemon)));
	enter(daemon, GS_MPS_READY, "");
}

/* --- faults --- */

/* Whether this fault is one of a series that is too fast. */
static bool is_in_a_loop(struct mps_daemon *daemon)
{
	uint64_t oldest = daemon->fault_times_ms[daemon->faults % MPS_FAULTS_MAX];
	daemon->fault_times_ms[daemon->faults % MPS_FAULTS_MAX] = now_ms(daemon);
	daemon->faults++;
	return daemon->faults > MPS_FAULTS_MAX && now_ms(daemon) - oldest < FAULT_WINDOW_MS;
}

static void take_fault(struct mps_daemon *daemon)
{
	if (!daemon->fault_ms) {
		daemon->fault_ms = now_ms(daemon);
		if (is_in_a_loop(daemon)) {
			char reason[160];
			snprintf(reason, sizeof reason,
				 "%d faults of clients within %d minutes; no more shares are given out for %d minutes",
				 MPS_FAULTS_MAX + 1, FAULT_WINDOW_MS / 60000, QUARANTINE_MS / 60000);
			daemon->step = MPS_STEP_NONE;
			daemon->quarantine_ends_ms = now_ms(daemon) + QUARANTINE_MS;
			wait_for(daemon, QUARANTINE_MS);
			enter(daemon, GS_MPS_QUARANTINED, reason);
			return;
		}
	}
	daemon->step = MPS_STEP_NONE;
	enter(daemon, GS_MPS_FAULT,
	      "a client's work failed, and with it that of every client on this device; it takes no new ones until "
	      "those "
	      "are gone");
	wait_for(daemon, FAULT_LOOK_MS);
}

static void take_states(struct mps_daemon *daemon, const char *output)
{
	if (mps_answer_has_fault(output)) {
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

static void take_servers(struct mps_daemon *daemon, const char *output)
{
	daemon->server_count = mps_answer_servers(output, daemon->servers, MPS_SERVERS_MAX);
	if (daemon->orphans_due && daemon->spec.exclusive)
		mps_find_orphans(daemon->root, daemon->spec.key, daemon->pid, daemon->servers, daemon->server_count,
				 &daemon->orphans);
	daemon->orphans_due = false;
	if (!daemon->server_count) {
		daemon->fault_ms = 0;
		become_ready(daemon);
	} else if (daemon->after_servers == MPS_STEP_APPLY) {
		set_servers(daemon);
	} else {
		ask_states(daemon);
	}
}

static bool took_settings(const struct mps_daemon *daemon, const char *output)
{
	return mps_answer_has_percentage(output, daemon->spec.thread_percentage);
}

/* Lets it outlive the container that this process runs in. Its servers come later, and where it is then. Only one that is in
 * this container is let out of it: never a process of another one. */
static void release(struct mps_daemon *daemon)
{
	struct gs_error err = {0};
	const char *cgroups = daemon->all->cgroups;
	if (!cgroups || !mps_is_beside_us(daemon->pid) || mps_has_ended(daemon->death->pidfd))
		return;
	mps_leave_cgroups(daemon->pid, cgroups, &err);
	if (err.source != GS_ERROR_NONE)
		gs_log(GS_LOG_WARNING, "MPS: a control daemon may end with this container, and its clients with it",
		       GS_STR("error", err.text));
}

static void take_start(struct mps_daemon *daemon, int exit_status, const char *output)
{
	char line[200], reason[300];
	/* It failed where one runs already: somebody was faster, or its control socket was removed. */
	if (!find_process(daemon) && exit_status != 0)
		mps_search_daemons(daemon->root, adopt_if_its, daemon);
	if (daemon->death) {
		release(daemon);
		set_defaults(daemon);
		return;
	}
	if (exit_status == 0) { /* its control socket comes a moment later */
		daemon->started_ms = now_ms(daemon);
		daemon->step = MPS_STEP_NONE;
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
		 mps_answer_line(output, line, sizeof line));
	fail(daemon, reason);
}

static void finish_quit(struct mps_daemon *daemon);

static void on_run_done(void *user, int exit_status, const char *output, const struct gs_error *err)
{
	struct mps_daemon *daemon = user;
	enum mps_step step = daemon->step;
	char line[200], reason[300];
	daemon->run = NULL;
	if (step == MPS_STEP_QUIT) {
		finish_quit(daemon);
	} else if (step == MPS_STEP_START) {
		take_start(daemon, exit_status, err ? err->text : output);
	} else if (err || exit_status != 0) {
		snprintf(reason, sizeof reason, "its control daemon does not answer: %s",
			 err ? err->text : mps_answer_line(output, line, sizeof line));
		fail(daemon, reason);
		/* It lives and nobody can reach it: its pipe directory was deleted, say. Servers go on without it. */
		if (!daemon->unanswered++)
			daemon->unanswered_ms = now_ms(daemon);
		if (daemon->death && daemon->unanswered >= UNANSWERED_MAX &&
		    now_ms(daemon) - daemon->unanswered_ms >= UNANSWERED_MS) {
			gs_log(GS_LOG_WARNING, "MPS: ending a control daemon that nobody can reach",
			       GS_STR("device", daemon->spec.key));
			mps_kill(daemon->death->pidfd);
		}
	} else if (step == MPS_STEP_SETTINGS && !took_settings(daemon, output)) {
		snprintf(reason, sizeof reason, "its control daemon did not take the settings; it answered: %s",
			 mps_answer_line(output, line, sizeof line));
		fail(daemon, reason);
	} else if (step == MPS_STEP_SETTINGS) {
		list_servers(daemon, MPS_STEP_APPLY);
	} else if (step == MPS_STEP_SERVERS) {
		take_servers(daemon, output);
	} else if (step == MPS_STEP_APPLY) {
		ask_states(daemon);
	} else if (step == MPS_STEP_STATES) {
		take_states(daemon, output);
	} else { /* MPS_STEP_END_SERVERS */
		daemon->step = MPS_STEP_NONE;
		wait_for(daemon, FAULT_LOOK_MS);
	}
	/* What was asked for meanwhile. */
	if (daemon->step == MPS_STEP_NONE && (daemon->settings_due || daemon->look_due || !daemon->wanted) &&
	    daemon->state != GS_MPS_FAILED)
		proceed(daemon);
}

/* --- the end of one --- */

static bool is_mode_used(const struct gs_mps_daemons *all, const struct mps_daemon *except, const char *gpu)
{
	for (const struct mps_daemon *daemon = all->first; daemon; daemon = daemon->next)
		if (daemon != except && (daemon->mode_taken || (daemon->wanted && daemon->spec.exclusive)) &&
		    strcmp(daemon->spec.gpu, gpu) == 0)
			return true;
	return false;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct mps_daemon *daemon = handle->data;
	if (--daemon->handles > 0)
		return;
	struct gs_mps_daemons *all = daemon->all;
	for (struct mps_daemon **at = &all->first; *at; at = &(*at)->next)
		if (*at == daemon) {
			*at = daemon->next;
			break;
		}
	mps_pidfds_close(&daemon->orphans);
	free(daemon->root);
	free(daemon->directory);
	free(daemon->pipe_directory);
	free(daemon->log_directory);
	free(daemon->control_socket);
	free(daemon);
	if (all->freeing && !all->first)
		mps_daemons_finish(all);
}

void mps_daemon_delete(struct mps_daemon *daemon)
{
	if (mps_daemon_is_going(daemon))
		return;
	cancel_run(daemon);
	forget_process(daemon);
	uv_close((uv_handle_t *)&daemon->timer, on_handle_closed);
	uv_close((uv_handle_t *)&daemon->log_event, on_handle_closed);
	uv_close((uv_handle_t *)&daemon->pipe_event, on_handle_closed);
}

/* Whether servers that its control daemon left behind still have clients: those have as long as it would have given them. */
static bool await_orphans(struct mps_daemon *daemon)
{
	if (daemon->orphans_due)
		mps_find_orphans(daemon->root, daemon->spec.key, 0, NULL, 0, &daemon->orphans);
	daemon->orphans_due = false;
	if (!mps_pidfds_alive(&daemon->orphans))
		return false;
	if (!daemon->quit_ms)
		daemon->quit_ms = now_ms(daemon);
	if (now_ms(daemon) - daemon->quit_ms >= QUIT_SECONDS * 1000)
		mps_pidfds_kill(&daemon->orphans);
	enter(daemon, GS_MPS_STOPPING, not_wanted);
	wait_for(daemon, DRAIN_LOOK_MS);
	return true;
}

/* The daemon is gone: the GPU gets its compute mode back, unless a new daemon wants it already. */
static void finish_quit(struct mps_daemon *daemon)
{
	if (daemon->death) { /* it could not be asked: its pipe directory was deleted, say */
		mps_kill(daemon->death->pidfd);
		daemon->orphans_due = true;
	}
	forget_process(daemon);
	daemon->ready_ms = daemon->fault_ms = 0;
	daemon->unanswered = 0;
	daemon->server_count = 0;
	daemon->step = MPS_STEP_NONE;
	if (!daemon->wanted && await_orphans(daemon))
		return;
	daemon->quit_ms = 0;
	if (daemon->wanted) { /* the config changed its mind */
		enter(daemon, GS_MPS_STARTING, "");
		proceed(daemon);
		return;
	}
	bool restore = daemon->mode_taken && !is_mode_used(daemon->all, daemon, daemon->spec.gpu);
	if (!restore) {
		struct gs_mps_daemons *all = daemon->all;
		const struct mps_identity none = {0};
		if (daemon->known.pid)
			all->options.keep(all->options.user, daemon->directory, &none);
		mps_daemon_delete(daemon);
		all->options.changed(all->options.user);
		return;
	}
	daemon->step = MPS_STEP_RESTORE;
	daemon->all->options.set_mode(daemon->all->options.user, daemon->spec.gpu, false);
}

/* --- what to do next --- */

/* `-d` ended well: its daemon is about to listen. */
static void await_process(struct mps_daemon *daemon)
{
	uint64_t waited_ms = now_ms(daemon) - daemon->started_ms;
	if (waited_ms >= START_SEARCH_MS)
		mps_search_daemons(daemon->root, adopt_if_its, daemon);
	if (daemon->death)
		wait_for(daemon, 0);
	else if (waited_ms < START_MS)
		wait_for(daemon, waited_ms < START_SEARCH_MS ? START_LOOK_MS : START_SEARCH_MS);
	else
		fail(daemon, "nvidia-cuda-mps-control -d ended well and left no daemon behind");
}

static void proceed(struct mps_daemon *daemon)
{
	uint64_t quarantine_ms = quarantine_left_ms(daemon);
	if (daemon->step != MPS_STEP_NONE || mps_daemon_is_going(daemon))
		return;
	uv_timer_stop(&daemon->timer);
	bool runs = find_process(daemon);
	if (!daemon->wanted) {
		if (runs)
			quit(daemon);
		else
			finish_quit(daemon);
	} else if (quarantine_ms) {
		wait_for(daemon, quarantine_ms);
	} else if (daemon->spec.exclusive && !daemon->mode_taken) {
		daemon->step = MPS_STEP_MODE;
		daemon->all->options.set_mode(daemon->all->options.user, daemon->spec.gpu, true);
	} else if (!runs && daemon->started_ms) {
		await_process(daemon);
	} else if (!runs) {
		start_process(daemon);
	} else if (daemon->settings_due || !daemon->ready_ms) {
		if (daemon->starts)
			release(daemon);
		set_defaults(daemon);
	} else if (daemon->state == GS_MPS_DRAINING && orphans_hold(daemon)) {
		wait_for(daemon, DRAIN_LOOK_MS);
	} else if (daemon->state == GS_MPS_READY && are_settings_old(daemon)) {
		set_defaults(daemon);
	} else {
		daemon->look_due = false;
		daemon->looked_ms = now_ms(daemon);
		list_servers(daemon, MPS_STEP_STATES);
	}
}

static void on_timer(uv_timer_t *timer)
{
	proceed(timer->data);
}

void mps_daemon_look(struct mps_daemon *daemon)
{
	bool comes = daemon->look_due;
	daemon->look_due = true;
	/* One that is due is not put off by what comes meanwhile. */
	if (comes || daemon->state != GS_MPS_READY || daemon->step != MPS_STEP_NONE)
		return;
	uint64_t soon = now_ms(daemon) + LOOK_DELAY_MS, next = daemon->looked_ms + LOOK_EACH_MS;
	wait_for(daemon, (unsigned)((next > soon ? next : soon) - now_ms(daemon)));
}

/* The servers' log tells of clients that came, went and failed; what it says is not relied on. */
static void on_log(uv_fs_event_t *event, const char *name, int events, int status)
{
	if (!name || strcmp(name, "server.log") == 0)
		mps_daemon_look(event->data);
}

struct mps_daemon *mps_daemon_add(struct gs_mps_daemons *all, const char *root, const struct gs_mps_spec *spec)
{
	struct mps_daemon *daemon = gs_calloc(1, sizeof *daemon);
	daemon->all = all;
	daemon->spec = *spec;
	daemon->root = gs_strdup(root);
	daemon->directory = gs_printf("%s/%s", root, spec->key);
	daemon->pipe_directory = gs_printf("%s/pipe", daemon->directory);
	daemon->control_socket = gs_printf("%s/control", daemon->pipe_directory);
	daemon->log_directory = gs_printf("%s/log", daemon->directory);
	daemon->wanted = true;
	daemon->elsewhere = strcmp(root, all->root) != 0;
	daemon->orphans_due = access(daemon->pipe_directory, F_OK) == 0;
	daemon->retry_ms = RETRY_FIRST_MS;
	uv_timer_init(all->loop, &daemon->timer);
	uv_fs_event_init(all->loop, &daemon->log_event);
	uv_fs_event_init(all->loop, &daemon->pipe_event);
	daemon->timer.data = daemon->log_event.data = daemon->pipe_event.data = daemon;
	daemon->handles = 3;
	struct mps_daemon **end = &all->first;
	while (*end)
		end = &(*end)->next;
	*end = daemon;
	if (gs_make_directories(daemon->log_directory, 0755, NULL) == 0)
		uv_fs_event_start(&daemon->log_event, on_log, daemon->log_directory, 0);
	return daemon;
}

void mps_daemon_wake(struct mps_daemon *daemon)
{
	if (daemon->step == MPS_STEP_NONE)
		wait_for(daemon, 0);
}

void mps_daemon_mode_set(struct mps_daemon *daemon, const struct gs_error *err)
{
	if (daemon->step == MPS_STEP_MODE) {
		daemon->step = MPS_STEP_NONE;
		daemon->mode_taken = !err;
		if (err)
			fail(daemon, err->text);
		else
			proceed(daemon);
	} else if (daemon->step == MPS_STEP_RESTORE) {
		daemon->step = MPS_STEP_NONE;
		daemon->mode_taken = false; /* one that could not be restored is its owner's to see to */
		finish_quit(daemon);
	}
}
