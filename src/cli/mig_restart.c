/* gpushare mig enable and disable --at-restart: modes that wait for the machine's next restart. */
#include "cli/mig.h"
#include "mig/mig_instance.h"

static int set_mode(const struct mig_call *call, size_t gpu, bool enabled, struct gs_error *err)
{
	struct gs_mig_board now;
	nvmlDevice_t device;
	nvmlReturn_t activation;
	char label[32];
	const struct gs_mig_board *board = &call->boards.items[gpu];
	if (gs_mig_read_one(call->nvml, board->uuid, &device, &now, err) < 0 ||
	    gs_mig_set_mode(call->nvml, device, enabled, &activation, err) < 0)
		return gs_error_prefix(err, "%s", gs_mig_board_label(board, label));
	return 0;
}

/* The first `count` GPUs. */
static void take_back(struct mig_call *call, size_t count)
{
	struct gs_error err;
	for (size_t i = 0; i < count; i++) {
		bool before = call->boards.items[i].enabled; /* pending too, or there had been nothing to do */
		if (!call->left[i])
			continue;
		if (set_mode(call, i, before, &err) < 0)
			mig_fail(call, "%s; it keeps MIG %s for the next restart", err.text, before ? "off" : "on");
		call->boards.items[i].pending = before;
	}
}

int mig_leave_modes(struct mig_call *call, const struct gs_mig_task *tasks, struct gs_error *err)
{
	for (size_t i = 0; i < call->boards.count; i++) {
		if (!call->left[i])
			continue;
		if (set_mode(call, i, tasks[i].enabled, err) < 0) {
			take_back(call, i);
			return -1;
		}
		/* So that there is nothing left to do for gs_mig_apply, which has nobody on the GPU. */
		call->boards.items[i].pending = tasks[i].enabled;
	}
	return 0;
}

void mig_unleave_modes(struct mig_call *call)
{
	take_back(call, call->boards.count);
}

void mig_see_what_waits(const struct mig_call *call, struct gs_mig_task *tasks)
{
	for (size_t i = 0; i < call->boards.count; i++) {
		struct gs_mig_board now;
		nvmlDevice_t device;
		struct gs_error err;
		if (tasks[i].when_restarted &&
		    gs_mig_read_one(call->nvml, call->boards.items[i].uuid, &device, &now, &err) == 0)
			tasks[i].when_restarted = now.enabled != tasks[i].enabled;
	}
}
