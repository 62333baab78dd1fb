/* What the node daemon has given to containers, for commands that only look: one that changes something asks for a
 * withdrawal, which tells it too. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/json.h"
#include "cli/mig.h"
#include "rpc/rpc.h"

enum {
	STATUS_TIMEOUT_MS = 10000,
	/* As the daemon has it: where the kubelet tells which pod holds what, and where it does not. */
	NEW_SECONDS = 10,
	PROMISE_SECONDS = 120,
};

/* Seconds since then; -1: never, or that is no time. */
static long long age_of(const char *timestamp)
{
	struct tm when = {0};
	if (sscanf(timestamp, "%4d-%2d-%2dT%2d:%2d:%2d", &when.tm_year, &when.tm_mon, &when.tm_mday, &when.tm_hour,
		   &when.tm_min, &when.tm_sec) != 6)
		return -1;
	when.tm_year -= 1900;
	when.tm_mon -= 1;
	long long age = (long long)time(NULL) - (long long)timegm(&when);
	return age > 0 ? age : 0;
}

/* Who was given a share on which no process is seen; NULL: nobody. The caller frees it. */
static char *holder_of(const json_t *share)
{
	const json_t *pods = json_object_get(share, "pods"), *pod = json_array_get(pods, 0);
	const char *resource = gs_json_text(share, "resource");
	if (json_array_size(json_object_get(share, "holders")))
		return NULL;
	if (pod)
		return gs_printf("pod %s/%s, which was given %s", gs_json_text(pod, "namespace"),
				 gs_json_text(pod, "name"), resource);
	long long age = age_of(gs_json_text(share, "lastAllocated"));
	if (age < 0 || age > (json_is_array(pods) ? NEW_SECONDS : PROMISE_SECONDS))
		return NULL;
	return gs_printf("a container that was given %s %lld s ago", resource, age);
}

static bool runs_on(const struct gs_mig_board *board, uint32_t instance, uint32_t compute)
{
	for (size_t i = 0; i < board->process_count; i++)
		if (board->processes[i].instance == instance && board->processes[i].compute == compute)
			return true;
	return false;
}

/* Whether a process is known to run on the MIG device, which tells more than who was given it. */
static bool has_process(const struct mig_call *call, const char *device)
{
	for (size_t i = 0; i < call->boards.count; i++) {
		const struct gs_mig_board *board = &call->boards.items[i];
		for (size_t j = 0; j < board->layout.count; j++) {
			const struct gs_mig_instance *instance = &board->layout.instances[j];
			for (size_t k = 0; k < instance->compute_count; k++)
				if (strcmp(board->uuids[j][k], device) == 0)
					return runs_on(board, instance->id, instance->compute[k].id);
		}
	}
	return false;
}

static void add_promised(struct mig_call *call, const char *device, const char *who)
{
	if (has_process(call, device) || gs_mig_mark_busy(&call->boards, device, who))
		return;
	/* A GPU as a whole, or an instance that another tool has removed. */
	for (size_t i = 0; i < call->boards.count; i++)
		if (strcmp(call->boards.items[i].uuid, device) == 0 && !call->promised[i])
			call->promised[i] = gs_strdup(who);
}

void mig_forget_promised(struct mig_call *call)
{
	for (size_t i = 0; i < GS_GPUS_MAX; i++) {
		free(call->promised[i]);
		call->promised[i] = NULL;
	}
}

void mig_mark_promised(struct mig_call *call)
{
	struct gs_error err;
	mig_forget_promised(call);
	GS_AUTO_FREE char *text = node_client_status(mig_option(call, "socket"), STATUS_TIMEOUT_MS, &err);
	if (!text) {
		if (err.code != RPC_UNAVAILABLE) /* which is to say: no daemon runs here */
			fprintf(stderr, "gpushare %s: what containers were given is not known: %s\n",
				call->command->name, err.text);
		return;
	}
	json_t *status = json_loads(text, 0, NULL), *gpus = json_object_get(status, "gpus");
	for (size_t i = 0; i < json_array_size(gpus); i++) {
		const json_t *shares = json_object_get(json_array_get(gpus, i), "shares");
		for (size_t k = 0; k < json_array_size(shares); k++) {
			const json_t *share = json_array_get(shares, k);
			GS_AUTO_FREE char *who = holder_of(share);
			if (who)
				add_promised(call, gs_json_text(share, "device"), who);
		}
	}
	json_decref(status);
}

enum mig_outcome mig_check_promised(const struct mig_call *call, const struct gs_mig_task *tasks,
				    struct gs_strbuf *reason)
{
	for (size_t i = 0; i < call->boards.count; i++) {
		const struct gs_mig_board *board = &call->boards.items[i];
		if (!call->promised[i] || call->left[i] || tasks[i].enabled == board->enabled)
			continue;
		gs_strbuf_printf(reason, "%s is in use by %s; nothing was changed", board->uuid, call->promised[i]);
		return MIG_BLOCKED;
	}
	return MIG_DONE;
}
