#include "mps/mps_daemons.h"

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

/* One that an earlier process started: it runs, or its servers may. */
static void add_known(struct gs_mps_daemons *all, const struct gs_mps_known *known)
{
	enum { UUID_LENGTH = 40 }; /* "GPU-" and 36 characters; what follows is a share's number */
	struct gs_mps_spec spec = {0};
	snprintf(spec.key, sizeof spec.key, "%s", known->key);
	snprintf(spec.device, sizeof spec.device, "%.*s", UUID_LENGTH, known->key);
	memcpy(spec.gpu, spec.device, sizeof spec.gpu);
	spec.exclusive = strlen(known->key) == UUID_LENGTH && strncmp(known->key, "GPU-", 4) == 0;
	struct mps_daemon *daemon = mps_daemon_add(all, known->root, &spec);
	daemon->facts.mode_taken = spec.exclusive;
	daemon->known = known->identity;
	int pidfd = mps_open_identity(&known->identity);
	if (pidfd >= 0)
		mps_daemon_adopt(daemon, known->identity.pid, pidfd);
}

struct gs_mps_daemons *gs_mps_new(uv_loop_t *loop, const struct gs_mps_options *options)
{
	struct gs_mps_daemons *all = gs_calloc(1, sizeof *all);
	all->loop = loop;
	all->options = *options;
	all->root = gs_mps_root(options->root);
	all->program = gs_strdup(options->program);
	all->cgroups = options->cgroups ? gs_strdup(options->cgroups) : NULL;
	for (size_t i = 0; i < options->known_count; i++)
		add_known(all, &options->known[i]);
	return all;
}

static bool same_settings(const struct gs_mps_spec *a, const struct gs_mps_spec *b)
{
	return a->thread_percentage == b->thread_percentage && a->memory_bytes == b->memory_bytes &&
	       a->priority == b->priority;
}

static void change(struct mps_daemon *daemon, const struct gs_mps_spec *spec)
{
	bool again = !daemon->facts.wanted;
	daemon->facts.wanted = true;
	if (!same_settings(&daemon->spec, spec))
		daemon->facts.settings_due = true;
	daemon->spec = *spec;
	if ((again || daemon->facts.settings_due) && daemon->facts.state != GS_MPS_FAILED)
		mps_daemon_wake(daemon);
}

void gs_mps_want(struct gs_mps_daemons *daemons, const struct gs_mps_spec *specs, size_t count)
{
	for (struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next) {
		bool wanted = false;
		for (size_t i = 0; i < count; i++)
			wanted |= !daemon->elsewhere && strcmp(daemon->spec.key, specs[i].key) == 0;
		if (wanted || !daemon->facts.wanted)
			continue;
		daemon->facts.wanted = false;
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
		if (daemon->facts.state == GS_MPS_READY)
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
			return daemon->facts.state == GS_MPS_READY;
	return false;
}

bool gs_mps_holds(const struct gs_mps_daemons *daemons, const char *device, const char *gpu)
{
	for (const struct mps_daemon *daemon = daemons->first; daemon; daemon = daemon->next)
		if (!daemon->facts.wanted && !mps_daemon_is_going(daemon) &&
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
	return (struct gs_mps_status){.spec = &daemon->spec,
				      .state = daemon->facts.state,
				      .pid = (int)daemon->pid,
				      .reason = daemon->reason,
				      .multi_user = daemon->multi_user,
				      .wanted = daemon->facts.wanted,
				      .servers = daemon->servers,
				      .server_count = daemon->server_count,
				      .starts = daemon->starts,
				      .faults = daemon->facts.faults,
				      .pipe_directory = daemon->pipe_directory};
}

json_t *gs_mps_status_json(const struct gs_mps_status *status)
{
	json_t *servers = json_array();
	for (size_t i = 0; i < status->server_count; i++)
		json_array_append_new(servers, json_integer(status->servers[i]));
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:i, s:b, s:o}", "id",
			 status->spec->key, "device", status->spec->device, "gpu", status->spec->gpu, "state",
			 gs_mps_state_name(status->state), "reason", status->reason, "pipeDirectory",
			 status->pipe_directory, "pid", status->pid, "starts", (int)status->starts, "faults",
			 (int)status->faults, "activeThreadPercentage", (int)status->spec->thread_percentage,
			 "memoryLimitBytes", (json_int_t)status->spec->memory_bytes, "priority",
			 (int)status->spec->priority, "multiUser", (int)status->multi_user, "servers", servers);
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
