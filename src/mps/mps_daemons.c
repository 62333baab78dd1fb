#include "mps/mps_daemons.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "mps/mps_daemon.h"
#include "mps/mps_process.h"
#include "mps/mps_record.h"

static struct mps_daemon *find_below(struct gs_mps_daemons *all, const char *key, bool elsewhere)
{
	for (struct mps_daemon *daemon = all->first; daemon; daemon = daemon->next)
		if (strcmp(daemon->spec.key, key) == 0 && daemon->elsewhere == elsewhere &&
		    !mps_daemon_is_going(daemon))
			return daemon;
	return NULL;
}

static struct mps_daemon *find(struct gs_mps_daemons *all, const char *key)
{
	return find_below(all, key, false);
}

/* The folder below the root that a pipe directory is in, owned by the caller; NULL: it is not below the root. */
static char *key_of(const char *root, const char *pipe_directory)
{
	size_t length = strlen(root);
	if (strncmp(pipe_directory, root, length) != 0 || pipe_directory[length] != '/')
		return NULL;
	const char *key = pipe_directory + length + 1;
	size_t key_length = strcspn(key, "/");
	if (!key_length || key_length >= GS_MPS_KEY_SIZE || strcmp(key + key_length, "/pipe") != 0)
		return NULL;
	return gs_printf("%.*s", (int)key_length, key);
}

/* What an earlier process started is looked for below this root. */
struct leftovers {
	struct gs_mps_daemons *all;
	const char *root;
};

/* A device's folder with processes of its own; `key` is its name. */
static struct mps_daemon *add_leftover(const struct leftovers *left, const char *key)
{
	enum { UUID_LENGTH = 40 }; /* "GPU-" and 36 characters; what follows is a share's number */
	struct gs_mps_spec spec = {0};
	snprintf(spec.key, sizeof spec.key, "%s", key);
	snprintf(spec.device, sizeof spec.device, "%.*s", UUID_LENGTH, key);
	memcpy(spec.gpu, spec.device, sizeof spec.gpu);
	spec.exclusive = strlen(key) == UUID_LENGTH && strncmp(key, "GPU-", 4) == 0;
	struct mps_daemon *daemon = mps_daemon_add(left->all, left->root, &spec);
	daemon->mode_taken = spec.exclusive;
	return daemon;
}

static struct mps_daemon *find_leftover(const struct leftovers *left, const char *key)
{
	return find_below(left->all, key, strcmp(left->root, left->all->root) != 0);
}

/* One that no PID file names: either that could not be written, or its folder was deleted, and another daemon may have it. */
static void add_unnamed(void *user, const char *pipe_directory, pid_t pid, int pidfd)
{
	const struct leftovers *left = user;
	GS_AUTO_FREE char *key = key_of(left->root, pipe_directory);
	const struct mps_daemon *named = key ? find_leftover(left, key) : NULL;
	if (key && !named) {
		mps_daemon_adopt(add_leftover(left, key), pid, pidfd);
		return;
	}
	if (named && named->pid != pid)
		mps_kill(pidfd); /* nobody can reach it any more */
	close(pidfd);
}

/* A server whose control daemon died. */
static void add_orphaned(void *user, const char *pipe_directory, pid_t pid, int pidfd)
{
	const struct leftovers *left = user;
	GS_AUTO_FREE char *key = key_of(left->root, pipe_directory);
	close(pidfd);
	if (key && !find_leftover(left, key))
		add_leftover(left, key);
}

static void add_leftovers(struct gs_mps_daemons *all, const char *root)
{
	struct leftovers left = {all, root};
	DIR *directory = opendir(root);
	struct dirent *entry;
	if (!directory)
		return;
	while ((entry = readdir(directory))) {
		GS_AUTO_FREE char *pipe_directory = gs_printf("%s/%s/pipe", root, entry->d_name);
		pid_t pid;
		bool is_key = entry->d_name[0] != '.' && strlen(entry->d_name) < GS_MPS_KEY_SIZE;
		int pidfd = is_key ? mps_find_daemon(pipe_directory, &pid) : -1;
		if (pidfd >= 0)
			mps_daemon_adopt(add_leftover(&left, entry->d_name), pid, pidfd);
	}
	closedir(directory);
	mps_search_daemons(add_unnamed, &left);
	mps_search_servers(add_orphaned, &left);
}

struct gs_mps_daemons *gs_mps_new(uv_loop_t *loop, const struct gs_mps_options *options)
{
	struct gs_mps_daemons *all = gs_calloc(1, sizeof *all);
	all->loop = loop;
	all->options = *options;
	all->root = gs_mps_root(options->root);
	all->program = gs_strdup(options->program);
	all->cgroups = options->cgroups ? gs_strdup(options->cgroups) : NULL;
	add_leftovers(all, all->root);
	if (options->old_root && strcmp(options->old_root, all->root) != 0)
		add_leftovers(all, options->old_root);
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
			wanted |= !daemon->elsewhere && strcmp(daemon->spec.key, specs[i].key) == 0;
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
			mps_daemon_wake(mps_daemon_add(daemons, daemons->root, &specs[i]));
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
		*reason = *daemon->reason ? daemon->reason : "its MPS control daemon is being started";
		return false;
	}
	if (!found)
		*reason = "its MPS control daemon is being started";
	return found;
}

bool gs_mps_is_share_ready(const struct gs_mps_daemons *daemons, const char *key)
{
	for (const struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		if (strcmp(daemon->spec.key, key) == 0 && !daemon->elsewhere && !mps_daemon_is_going(daemon))
			return daemon->state == GS_MPS_READY;
	return false;
}

bool gs_mps_holds(const struct gs_mps_daemons *daemons, const char *device, const char *gpu)
{
	for (const struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		if (!daemon->wanted && !mps_daemon_is_going(daemon) &&
		    (strcmp(daemon->spec.device, device) == 0 ||
		     (daemon->spec.exclusive && strcmp(daemon->spec.gpu, gpu) == 0)))
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
