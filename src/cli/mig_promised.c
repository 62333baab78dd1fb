/* What the node daemon has given to containers. It is asked, never guessed: the daemon alone knows which pod holds what, and
 * how long an allocation counts that no pod shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/mig.h"

enum { ALLOCATIONS_TIMEOUT_MS = 10000 };

/* A GPU as a whole, or an instance that another tool has removed. */
static void promise_gpu(struct mig_call *call, const struct node_promised *promised)
{
	for (size_t i = 0; i < call->boards.count; i++)
		if (strcmp(call->boards.items[i].uuid, promised->device) == 0 && !call->promised[i])
			call->promised[i] = gs_strdup(promised->who);
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
	struct node_promises promises;
	struct gs_error err;
	mig_forget_promised(call);
	if (node_client_allocations(mig_option(call, "socket"), ALLOCATIONS_TIMEOUT_MS, &promises, &err) < 0)
		fprintf(stderr, "gpushare %s: what containers were given is not known: %s\n", call->command->name,
			err.text);
	for (size_t i = 0; i < promises.count; i++) {
		promise_gpu(call, &promises.items[i]);
		gs_mig_mark_busy(&call->boards, promises.items[i].device, promises.items[i].who);
	}
	node_promises_free(&promises);
}

enum mig_outcome mig_check_promised(struct mig_call *call, const struct gs_mig_task *tasks, struct gs_strbuf *reason)
{
	for (size_t i = 0; i < call->boards.count; i++) {
		const struct gs_mig_board *board = &call->boards.items[i];
		if (!call->promised[i] || call->left[i] || tasks[i].enabled == board->enabled)
			continue;
		gs_strbuf_printf(reason, "%s is in use by %s; nothing was changed", board->uuid, call->promised[i]);
		mig_note_gpu(call, board);
		return MIG_BLOCKED;
	}
	return MIG_DONE;
}
