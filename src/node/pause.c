#include "node/pause.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "node/node_internal.h"

#define PAUSED   "paused-for-"
#define VARIABLE "GPUSHARE_PAUSED"

enum { COMMAND_BYTES_MAX = 1024 * 1024, ALL_CLOSE_ON_EXEC = 4 /* CLOSE_RANGE_CLOEXEC */ };

static void on_label(void *user, const char *value)
{
	struct node *node = user;
	bool wanted = value && strncmp(value, PAUSED, strlen(PAUSED)) == 0;
	if (node->stopping || wanted == gpus_paused(node->gpus))
		return;
	if (!wanted) {
		gs_log(GS_LOG_INFO, "the GPU operator's pause is over", GS_STR("label", value ? value : ""));
		gpus_resume(node->gpus);
		return;
	}
	gs_log(GS_LOG_WARNING, "the GPU operator wants the driver for itself; nothing is given out until it is done",
	       GS_STR("label", value));
	node->pause = gs_printf("the GPU operator wants it for itself (label " NODE_PAUSE_LABEL "=%.63s)", value);
	node_stop(node);
}

void node_pause_join(struct node *node)
{
	cluster_watch_label(node->cluster, NODE_PAUSE_LABEL, on_label, node);
}

void node_execute_again(const char *pause)
{
	size_t length;
	struct gs_error err;
	GS_AUTO_FREE char *words = gs_read_file("/proc/self/cmdline", COMMAND_BYTES_MAX, &length, &err);
	GS_VEC(char *) arguments = {0};
	for (size_t at = 0; words && at < length; at += strlen(words + at) + 1)
		*GS_VEC_PUSH(&arguments) = words + at;
	*GS_VEC_PUSH(&arguments) = NULL;
	if (pause)
		setenv(VARIABLE, pause, 1);
	else
		unsetenv(VARIABLE);
	syscall(SYS_close_range, 3U, ~0U, ALL_CLOSE_ON_EXEC);
	execv("/proc/self/exe", arguments.items);
	gs_log(GS_LOG_ERROR, "cannot begin anew; ending, so that this is started again");
	GS_VEC_FREE(&arguments);
}

char *node_pause_reason(void)
{
	const char *reason = getenv(VARIABLE);
	char *copy = reason ? gs_strdup(reason) : NULL;
	unsetenv(VARIABLE);
	return copy;
}
