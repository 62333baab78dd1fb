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

enum { COMMAND_MS = 10000 }; /* a control daemon answers at once, or never */

/* A watch on one process, of its own because libuv closes handles later. */
struct mps_death {
	uv_poll_t poll;
	int pidfd;
	struct mps_daemon *daemon;
};

static void proceed(struct mps_daemon *daemon);
static void carry_out(struct mps_daemon *daemon, const struct mps_next *next);
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
	bool same = daemon->facts.state == state && strcmp(daemon->reason, reason) == 0;
	bool matters = (daemon->facts.state == GS_MPS_READY) != (state == GS_MPS_READY) || !same;
	daemon->facts.state = state;
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
	enter(daemon, GS_MPS_FAILED, reason);
	wait_for(daemon, mps_note_failure(&daemon->facts));
}

static const char not_wanted[] = "MPS is no longer wanted here; its last clients are being waited for";

/* Why a daemon that waits is not ready; `text` is used where it says how long. */
static const char *reason_of(enum gs_mps_state state, char text[160])
{
	switch (state) {
	case GS_MPS_DRAINING:
		return "its control daemon died, and clients that it had still run on the device; it takes new ones "
		       "when those have ended";
	case GS_MPS_FAULT:
		return "a client's work failed, and with it that of every client on this device; it takes no new ones "
		       "until those are gone";
	case GS_MPS_STOPPING:
		return not_wanted;
	case GS_MPS_QUARANTINED:
		snprintf(text, 160,
			 "%d faults of clients within %d minutes; no more shares are given out for %d minutes",
			 MPS_FAULTS_MAX + 1, MPS_FAULT_WINDOW_MS / 60000, MPS_QUARANTINE_MS / 60000);
		return text;
	default:
		return "";
	}
}

/* Nothing is to be done before the time is over. */
static void rest(struct mps_daemon *daemon, const struct mps_next *next)
{
	char text[160];
	daemon->step = MPS_STEP_NONE;
	wait_for(daemon, next->wait_ms);
	if (next->state != daemon->facts.state)
		enter(daemon, next->state, reason_of(next->state, text));
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
		.timeout_ms = step == MPS_STEP_QUIT ? (MPS_QUIT_SECONDS + 5) * 1000 : COMMAND_MS,
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
	daemon->facts.runs = false;
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
	daemon->server_count = 0;
	daemon->orphans_due = true;
	uv_fs_event_stop(&daemon->pipe_event);
	if (daemon->step == MPS_STEP_QUIT) /* its front end says how it went */
		return;
	cancel_run(daemon);
	if (!mps_note_death(&daemon->facts, now_ms(daemon))) {
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
	daemon->facts.runs = true;
	daemon->pid = pid;
	daemon->multi_user = mps_is_multi_user(pid);
	daemon->facts.started_ms = 0;
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
			 "another directory with flags.mpsRoot",
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
	daemon->facts.settings_due = false;
	daemon->facts.set_ms = now_ms(daemon);
	/* Found here, for a device that the config does not fit: it stays as it is. */
	if (!daemon->spec.thread_percentage) {
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
	run_commands(daemon, MPS_STEP_END_SERVERS, &commands);
}

static void quit(struct mps_daemon *daemon)
{
	GS_AUTO_FREE char *command = gs_printf("quit -t %d\n", MPS_QUIT_SECONDS);
	daemon->facts.quit_ms = now_ms(daemon);
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

/* --- answers --- */

/* It answered, and none of its servers is in FAULT. */
static void become_ready(struct mps_daemon *daemon)
{
	daemon->facts.orphans = mps_pidfds_alive(&daemon->orphans);
	struct mps_next next = mps_note_well(&daemon->facts, now_ms(daemon));
	watch_pipes(daemon);
	carry_out(daemon, &next);
}

static void take_states(struct mps_daemon *daemon, const char *output)
{
	if (!mps_answer_has_fault(output)) {
		become_ready(daemon);
		return;
	}
	struct mps_next next = mps_note_fault(&daemon->facts, now_ms(daemon));
	carry_out(daemon, &next);
}

static void take_servers(struct mps_daemon *daemon, const char *output)
{
	daemon->server_count = mps_answer_servers(output, daemon->servers, MPS_SERVERS_MAX);
	if (daemon->orphans_due && daemon->spec.exclusive)
		mps_find_orphans(daemon->root, daemon->spec.key, daemon->pid, daemon->servers, daemon->server_count,
				 &daemon->orphans);
	daemon->orphans_due = false;
	if (!daemon->server_count) {
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
	/* The start failed because one runs already: another program started it first, or its control socket was
	 * removed. */
	if (!find_process(daemon) && exit_status != 0)
		mps_search_daemons(daemon->root, adopt_if_its, daemon);
	if (daemon->death) {
		release(daemon);
		set_defaults(daemon);
		return;
	}
	if (exit_status == 0) { /* its control socket comes a moment later */
		daemon->facts.started_ms = now_ms(daemon);
		daemon->step = MPS_STEP_NONE;
		proceed(daemon);
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
		/* Its pipe directory was deleted, say. Servers go on without it. */
		if (mps_note_silence(&daemon->facts, now_ms(daemon))) {
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
		wait_for(daemon, MPS_FAULT_LOOK_MS);
	}
	/* Requests that came meanwhile. */
	if (daemon->step == MPS_STEP_NONE &&
	    (daemon->facts.settings_due || daemon->look_due || !daemon->facts.wanted) &&
	    daemon->facts.state != GS_MPS_FAILED)
		proceed(daemon);
}

/* --- the end of one --- */

static bool is_mode_used(const struct gs_mps_daemons *all, const struct mps_daemon *except, const char *gpu)
{
	for (const struct mps_daemon *daemon = all->first; daemon; daemon = daemon->next)
		if (daemon != except &&
		    (daemon->facts.mode_taken || (daemon->facts.wanted && daemon->spec.exclusive)) &&
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

/* Nothing is left to be done for it. */
static void give_up(struct mps_daemon *daemon)
{
	struct gs_mps_daemons *all = daemon->all;
	const struct mps_identity none = {0};
	if (daemon->known.pid)
		all->options.keep(all->options.user, daemon->directory, &none);
	mps_daemon_delete(daemon);
	all->options.changed(all->options.user);
}

/* The daemon is gone: the GPU gets its compute mode back, unless a new daemon wants it already. */
static void finish_quit(struct mps_daemon *daemon)
{
	if (daemon->death) { /* it could not be asked: its pipe directory was deleted, say */
		mps_kill(daemon->death->pidfd);
		daemon->orphans_due = true;
	}
	forget_process(daemon);
	daemon->server_count = 0;
	daemon->step = MPS_STEP_NONE;
	if (!daemon->facts.wanted) {
		if (daemon->orphans_due)
			mps_find_orphans(daemon->root, daemon->spec.key, 0, NULL, 0, &daemon->orphans);
		daemon->orphans_due = false;
	}
	daemon->facts.orphans = mps_pidfds_alive(&daemon->orphans);
	daemon->facts.mode_used = is_mode_used(daemon->all, daemon, daemon->spec.gpu);
	struct mps_next next = mps_next_end(&daemon->facts, now_ms(daemon));
	carry_out(daemon, &next);
}

/* --- what to do next --- */

/* Among all processes: its socket does not tell who it is. */
static void search(struct mps_daemon *daemon, unsigned wait_ms)
{
	mps_search_daemons(daemon->root, adopt_if_its, daemon);
	if (daemon->death)
		wait_for(daemon, 0);
	else if (wait_ms)
		wait_for(daemon, wait_ms);
	else
		fail(daemon, "nvidia-cuda-mps-control -d ended well and left no daemon behind");
}

static void ask_mode(struct mps_daemon *daemon, enum mps_step step)
{
	daemon->step = step;
	daemon->all->options.set_mode(daemon->all->options.user, daemon->spec.gpu, step == MPS_STEP_MODE);
}

static void carry_out(struct mps_daemon *daemon, const struct mps_next *next)
{
	switch (next->action) {
	case MPS_END_ORPHANS:
		mps_pidfds_kill(&daemon->orphans);
		rest(daemon, next);
		break;
	case MPS_WAIT:
		rest(daemon, next);
		break;
	case MPS_TAKE_MODE:
		ask_mode(daemon, MPS_STEP_MODE);
		break;
	case MPS_START:
		start_process(daemon);
		break;
	case MPS_SEARCH:
		search(daemon, next->wait_ms);
		break;
	case MPS_SET_DEFAULTS:
		if (daemon->starts && daemon->facts.state != GS_MPS_READY)
			release(daemon);
		set_defaults(daemon);
		break;
	case MPS_LOOK:
		daemon->look_due = false;
		daemon->facts.looked_ms = now_ms(daemon);
		list_servers(daemon, MPS_STEP_STATES);
		break;
	case MPS_END_SERVERS:
		end_servers(daemon);
		break;
	case MPS_QUIT:
		quit(daemon);
		break;
	case MPS_FINISH:
		finish_quit(daemon);
		break;
	case MPS_BEGIN_AGAIN:
		enter(daemon, next->state, "");
		proceed(daemon);
		break;
	case MPS_RESTORE_MODE:
		ask_mode(daemon, MPS_STEP_RESTORE);
		break;
	case MPS_FORGET:
		give_up(daemon);
		break;
	}
}

static void proceed(struct mps_daemon *daemon)
{
	if (daemon->step != MPS_STEP_NONE || mps_daemon_is_going(daemon))
		return;
	uv_timer_stop(&daemon->timer);
	find_process(daemon);
	daemon->facts.exclusive = daemon->spec.exclusive;
	daemon->facts.orphans = daemon->facts.state == GS_MPS_DRAINING && mps_pidfds_alive(&daemon->orphans);
	struct mps_next next = mps_next(&daemon->facts, now_ms(daemon));
	carry_out(daemon, &next);
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
	if (comes || daemon->facts.state != GS_MPS_READY || daemon->step != MPS_STEP_NONE)
		return;
	wait_for(daemon, mps_look_delay(&daemon->facts, now_ms(daemon)));
}

/* The servers' log tells of clients that came, went and failed; no decision relies on it. */
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
	daemon->facts.wanted = true;
	daemon->elsewhere = strcmp(root, all->root) != 0;
	daemon->orphans_due = access(daemon->pipe_directory, F_OK) == 0;
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
		daemon->facts.mode_taken = !err;
		if (err)
			fail(daemon, err->text);
		else
			proceed(daemon);
	} else if (daemon->step == MPS_STEP_RESTORE) {
		daemon->step = MPS_STEP_NONE;
		daemon->facts.mode_taken = false; /* one that could not be restored is its owner's to see to */
		finish_quit(daemon);
	}
}
