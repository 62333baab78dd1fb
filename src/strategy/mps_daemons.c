#include "strategy/mps_daemons.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "strategy/mps_daemon.h"
#include "strategy/mps_process.h"

static struct mps_daemon *find(struct gs_mps_daemons *all, const char *key)
{
	for (struct mps_daemon *daemon = all->first; daemon; daemon = daemon->next)
		if (strcmp(daemon->spec.key, key) == 0 && !mps_daemon_is_going(daemon))
			return daemon;
	return NULL;
}

/* The folder below the root that a pipe directory is in, owned by the caller; NULL: it is not below the root. */
static char *key_of(const struct gs_mps_daemons *all, const char *pipe_directory)
{
	size_t length = strlen(all->root);
	if (strncmp(pipe_directory, all->root, length) != 0 || pipe_directory[length] != '/')
		return NULL;
	const char *key = pipe_directory + length + 1;
	size_t key_length = strcspn(key, "/");
	if (!key_length || key_length >= GS_MPS_KEY_SIZE || strcmp(key + key_length, "/pipe") != 0)
		return NULL;
	return gs_printf("%.*s", (int)key_length, key);
}

/* A daemon that an earlier process started; `key` is its folder. Takes over the descriptor. */
static void add_leftover(struct gs_mps_daemons *all, const char *key, pid_t pid, int pidfd)
{
	enum { UUID_LENGTH = 40 }; /* "GPU-" and 36 characters; what follows is a share's number */
	struct gs_mps_spec spec = {0};
	snprintf(spec.key, sizeof spec.key, "%s", key);
	snprintf(spec.device, sizeof spec.device, "%.*s", UUID_LENGTH, key);
	memcpy(spec.gpu, spec.device, sizeof spec.gpu);
	spec.exclusive = strlen(key) == UUID_LENGTH && strncmp(key, "GPU-", 4) == 0;
	struct mps_daemon *daemon = mps_daemon_add(all, &spec);
	daemon->mode_taken = spec.exclusive;
	mps_daemon_adopt(daemon, pid, pidfd);
}

/* One that no PID file names: either that could not be written, or its folder was deleted, and another daemon may have it. */
static void add_unnamed(void *user, const char *pipe_directory, pid_t pid, int pidfd)
{
	struct gs_mps_daemons *all = user;
	GS_AUTO_FREE char *key = key_of(all, pipe_directory);
	const struct mps_daemon *named = key ? find(all, key) : NULL;
	if (key && !named) {
		add_leftover(all, key, pid, pidfd);
		return;
	}
	if (named && named->pid != pid)
		mps_kill(pidfd); /* nobody can reach it any more */
	close(pidfd);
}

static void add_leftovers(struct gs_mps_daemons *all)
{
	DIR *directory = opendir(all->root);
	struct dirent *entry;
	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		GS_AUTO_FREE char *pipe_directory = gs_printf("%s/%s/pipe", all->root, entry->d_name);
		pid_t pid;
		bool is_key = entry->d_name[0] != '.' && strlen(entry->d_name) < GS_MPS_KEY_SIZE;
		int pidfd = is_key ? mps_find_daemon(pipe_directory, &pid) : -1;
		if (pidfd >= 0)
			add_leftover(all, entry->d_name, pid, pidfd);
	}
	closedir(directory);
	mps_search_daemons(add_unnamed, all);
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

static void change(struct mps_daemon *daemon, const struct gs_mps_spec *spec)
{
	bool again = !daemon->wanted;
	daemon->wanted = true;
	if (!same_settings(&daemon->spec, spec))
		daemon->settings_due = true;
	daemon->spec = *spec;
	if ((again || daemon->settings_due) && daemon->state != GS_MPS_FAILED)
		mps_daemon_wake(daemon);
}

void gs_mps_want(struct gs_mps_daemons *daemons, const struct gs_mps_spec *specs, size_t count)
{
	for (struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next) {
		bool wanted = false;
		for (size_t i = 0; i < count; i++)
			wanted |= strcmp(daemon->spec.key, specs[i].key) == 0;
		if (wanted || !daemon->wanted)
			continue;
		daemon->wanted = false;
		mps_daemon_wake(daemon);
	}
	for (size_t i = 0; i < count; i++) {
		struct mps_daemon *daemon = find(daemons, specs[i].key);
		if (daemon)
			change(daemon, &specs[i]);
		else
			mps_daemon_wake(mps_daemon_add(daemons, &specs[i]));
	}
}

void gs_mps_mode_set(struct gs_mps_daemons *daemons, const char *gpu, const struct gs_error *err)
{
	for (struct mps_daemon *daemon = daemons->first, *next; daemon; daemon = next) {
		next = daemon->next;
		if (strcmp(daemon->spec.gpu, gpu) != 0 || mps_daemon_is_going(daemon))
			continue;
		mps_daemon_mode_set(daemon, err);
	}
}

void gs_mps_look(struct gs_mps_daemons *daemons, const char *gpu)
{
	for (struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		if (strcmp(daemon->spec.gpu, gpu) == 0)
			mps_daemon_look(daemon);
}

bool gs_mps_is_ready(const struct gs_mps_daemons *daemons, const char *device, const char **reason)
{
	bool found = false;
	*reason = "";
	for (const struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next) {
		if (strcmp(daemon->spec.device, device) != 0 || mps_daemon_is_going(daemon))
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
	for (const struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		if (!daemon->wanted && !mps_daemon_is_going(daemon) && strcmp(daemon->spec.gpu, gpu) == 0)
			return true;
	return false;
}

size_t gs_mps_count(const struct gs_mps_daemons *daemons)
{
	size_t count = 0;
	for (const struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		count++;
	return count;
}

struct gs_mps_status gs_mps_status(const struct gs_mps_daemons *daemons, size_t which)
{
	const struct mps_daemon *daemon = daemons->first;
	while (which-- > 0)
		daemon = daemon->next;
	return (struct gs_mps_status){.spec = daemon->spec,
				      .state = daemon->state,
				      .pid = (int)daemon->pid,
				      .reason = daemon->reason,
				      .multi_user = daemon->multi_user,
				      .servers = daemon->servers,
				      .server_count = daemon->server_count,
				      .starts = daemon->starts,
				      .faults = daemon->faults,
				      .pipe_directory = daemon->pipe_directory};
}

void mps_daemons_finish(struct gs_mps_daemons *all)
{
	void (*done)(void *) = all->done;
	void *user = all->done_user;
	free(all->root);
	free(all->program);
	free(all->cgroups);
	free(all);
	if (done)
		done(user);
}

void gs_mps_free(struct gs_mps_daemons *daemons, void (*done)(void *user), void *user)
{
	daemons->freeing = true;
	daemons->done = done;
	daemons->done_user = user;
	if (!daemons->first) {
		mps_daemons_finish(daemons);
		return;
	}
	for (struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		mps_daemon_delete(daemon);
}
