#include "node/mig_manager.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "mig/mig_named.h"
#include "node/others.h"
#include "node/withdraw.h"

#define MIG_MANAGER "gpushare-mig" /* as the field's manager */

enum {
	RETRY_FIRST_MS = 2000,
	RETRY_MOST_MS = 30000,
	FAILURES_MAX = 5, /* in a row, until the state is failed */
	/* Nothing is published before the API server has said whether there is a label, and its first attempt is over; but no
	 * longer than this. */
	LABEL_WAIT_MS = 10 * 1000,
	ATTEMPT_WAIT_MS = 120 * 1000,
};

/* And as mig-manager writes them into the label. */
enum state { STATE_NONE, STATE_PENDING, STATE_WAITING /* for a restart */, STATE_SUCCESS, STATE_FAILED };
static const char *const state_names[] = {"", "pending", "pending", "success", "failed"};

struct mig_manager {
	struct node *node;
	char *wanted; /* NULL: nothing */
	enum state state;
	char *reason; /* "" without one */
	struct mig_manager_counts counts;

	struct gs_mig_change change;
	struct gs_mig_by_name by_name;
	char *name;   /* of the configuration that the change is about: `wanted`, or what it was */
	bool working; /* an attempt is under way, or the kubelet is being asked for it */
	bool again;   /* something else is wanted by now */
	unsigned failures;
	unsigned retries; /* in a row */
	uv_timer_t retry;

	struct withdrawal *withdrawal; /* of change.withdrawn */

	bool seen;        /* the GPUs were read; nothing is attempted before */
	bool label_known; /* the API server has said whether there is one */
	bool holds;       /* that anything is published: a pod on a whole GPU would be in MIG's way */
	bool done;        /* holds until the GPUs were looked at, since they have changed */
	uv_timer_t patience;
};

/* --- at the start --- */

static void let_go(struct mig_manager *manager)
{
	if (!manager->holds)
		return;
	manager->holds = false;
	uv_timer_stop(&manager->patience);
	if (manager->seen && !manager->node->stopping)
		node_republish(manager->node);
}

static void on_patience_over(uv_timer_t *timer)
{
	struct mig_manager *manager = timer->data;
	gs_log(GS_LOG_WARNING,
	       manager->label_known
		       ? "the MIG configuration takes long; publishing what is not withdrawn for it"
		       : "the API server does not say whether this node has a MIG configuration; publishing without it",
	       GS_STR("label", MIG_CONFIG_LABEL));
	let_go(manager);
}

static void be_patient(struct mig_manager *manager)
{
	if (manager->holds && manager->seen)
		uv_timer_start(&manager->patience, on_patience_over,
			       manager->label_known ? ATTEMPT_WAIT_MS : LABEL_WAIT_MS, 0);
}

static bool any_can_do_mig(const struct node *node)
{
	for (uint32_t i = 0; i < node->inventory.gpu_count; i++)
		if (node->inventory.gpus[i].mig_capable)
			return true;
	return false;
}

bool mig_manager_holds(const struct node *node)
{
	return node->mig && node->mig->holds && any_can_do_mig(node);
}

/* --- label and log --- */

/* Nothing is wanted any more: neither the label nor the condition says anything. */
static void forget_state(struct node *node)
{
	const struct cluster_metadata nothing = {0};
	cluster_set_metadata(node->cluster, MIG_MANAGER, &nothing);
	cluster_clear_condition(node->cluster, "GPUShareMIG");
}

static void tell(struct mig_manager *manager, enum state state, const char *reason)
{
	struct node *node = manager->node;
	if (state == manager->state && strcmp(reason, manager->reason) == 0)
		return;
	bool other = state != manager->state;
	manager->state = state;
	manager->counts.successes += other && state == STATE_SUCCESS;
	manager->counts.failures += other && state == STATE_FAILED;
	free(manager->reason);
	manager->reason = gs_strdup(reason);
	const struct cluster_pair label = {MIG_STATE_LABEL, state_names[state]};
	const struct cluster_metadata metadata = {.labels = &label, .label_count = 1};
	cluster_set_metadata(node->cluster, MIG_MANAGER, &metadata);
	static const char *const reasons[] = {"", "MIGConfigPending", "MIGConfigNeedsRestart", "MIGConfigApplied",
					      "MIGConfigFailed"};
	GS_AUTO_FREE char *message =
		gs_printf("MIG configuration \"%s\": %s", manager->wanted, *reason ? reason : "being applied");
	cluster_set_condition(node->cluster, "GPUShareMIG", state == STATE_SUCCESS, reasons[state], message);
	if (state != STATE_PENDING || *reason)
		cluster_event(node->cluster, state != STATE_SUCCESS, reasons[state], "ApplyMIGConfig", message);
	gs_log(state == STATE_FAILED               ? GS_LOG_ERROR
	       : *reason && state != STATE_SUCCESS ? GS_LOG_WARNING
						   : GS_LOG_INFO,
	       other ? "MIG by label" : "MIG by label, still", GS_STR("config", manager->wanted),
	       GS_STR("state", state_names[state]), GS_STR("reason", reason));
}

json_t *mig_manager_json(const struct node *node)
{
	const struct mig_manager *manager = node->mig;
	if (!manager || !manager->wanted)
		return json_null();
	return json_pack("{s:s, s:s, s:s}", "config", manager->wanted, "state", state_names[manager->state], "reason",
			 manager->reason);
}

bool mig_manager_get_counts(const struct node *node, struct mig_manager_counts *counts)
{
	if (!node->mig)
		return false;
	*counts = node->mig->counts;
	return true;
}

const char *mig_manager_problem(const struct node *node)
{
	const struct mig_manager *manager = node->mig;
	if (mig_manager_holds(node) && !manager->label_known)
		return "the API server has not said yet whether the node has the label " MIG_CONFIG_LABEL
		       "; until it does, but for 10 s at most, nothing is published";
	bool problem = manager && *manager->reason && manager->state != STATE_NONE && manager->state != STATE_SUCCESS;
	return problem ? manager->reason : NULL;
}

/* --- withdrawing --- */

static void release(struct mig_manager *manager)
{
	if (manager->withdrawal)
		node_unwithdraw(manager->node, manager->withdrawal);
	manager->withdrawal = NULL;
	gs_mig_change_withdraw_nothing(&manager->change);
}

/* Withholds the devices that the change names now, instead of those that it named before. */
static void withdraw(struct mig_manager *manager)
{
	struct withdrawal *before = manager->withdrawal;
	const struct gs_mig_change *change = &manager->change;
	manager->withdrawal = NULL;
	if (change->withdrawn.count) {
		GS_AUTO_FREE char *reason = gs_printf("the MIG layout changes to \"%s\"", manager->wanted);
		manager->withdrawal = node_withdraw(manager->node, (const char *const *)change->withdrawn.items,
						    change->withdrawn.count, reason);
	}
	if (before)
		node_unwithdraw(manager->node, before);
}

/* --- attempts --- */

static void attempt(struct mig_manager *manager);

static void on_retry(uv_timer_t *timer)
{
	attempt(timer->data);
}

static void retry_later(struct mig_manager *manager)
{
	uv_timer_start(&manager->retry, on_retry, gs_backoff_ms(RETRY_FIRST_MS, RETRY_MOST_MS, manager->retries++), 0);
}

/* A pod or a process is in the way, or the machine must restart first. The devices stay withheld, so that no new pod
 * takes the places that others will leave. */
static void on_blocked(struct mig_manager *manager)
{
	struct gs_mig_change *change = &manager->change;
	manager->failures = 0; /* in a row */
	gs_mig_change_withdraw_only(change);
	withdraw(manager);
	tell(manager, change->outcome == GS_MIG_CHANGE_WAITS ? STATE_WAITING : STATE_PENDING, change->text);
	let_go(manager);
	retry_later(manager);
}

static void on_done(struct mig_manager *manager)
{
	GS_AUTO_FREE char *summary = gs_mig_by_name_summary(&manager->change, &manager->by_name);
	manager->done = true;
	release(manager);
	gpus_rescan(manager->node->gpus);
	tell(manager, STATE_SUCCESS, summary);
}

static void settle(struct mig_manager *manager)
{
	struct gs_mig_change *change = &manager->change;
	switch (change->outcome) {
	case GS_MIG_CHANGE_DONE:
		on_done(manager);
		break;
	case GS_MIG_CHANGE_NEEDS:
		gs_mig_change_withdraw_more(change);
		withdraw(manager);
		attempt(manager);
		break;
	case GS_MIG_CHANGE_WAITS:
		gpus_rescan(manager->node->gpus); /* the others may be done */
		on_blocked(manager);
		break;
	case GS_MIG_CHANGE_BLOCKED:
		on_blocked(manager);
		break;
	case GS_MIG_CHANGE_FAILED:
		/* The devices that go stay withheld until the next attempt: a pod on one would be in the way. */
		let_go(manager);
		if (++manager->failures >= FAILURES_MAX) {
			release(manager);
			tell(manager, STATE_FAILED, change->text);
			break;
		}
		tell(manager, STATE_PENDING, change->text);
		retry_later(manager);
		break;
	case GS_MIG_CHANGE_REFUSED:
		release(manager);
		let_go(manager);
		tell(manager, STATE_FAILED, change->text);
		break;
	}
}

/* On the loop's thread. */
static void on_attempted(void *user)
{
	struct mig_manager *manager = user;
	manager->working = false;
	if (manager->node->stopping)
		return;
	if (manager->again)
		attempt(manager);
	else
		settle(manager);
}

static void run_change(const struct gs_nvml *nvml, void *user)
{
	struct mig_manager *manager = user;
	gs_mig_change_run(&manager->change, nvml);
}

static void add_promise(void *user, const char *device, const char *share, const char *who)
{
	gs_mig_change_allocated(user, device, who);
}

static void start_attempt(struct node *node, struct withdrawal *withdrawal, void *user)
{
	struct mig_manager *manager = user;
	struct gs_mig_change *change = &manager->change;
	if (node->stopping)
		return;
	if (manager->again) {
		manager->working = false;
		attempt(manager);
		return;
	}
	if (!manager->name || strcmp(manager->name, manager->wanted) != 0) {
		free(manager->name);
		manager->name = gs_strdup(manager->wanted);
		free(change->refused);
		change->refused = NULL;
	}
	manager->by_name.name = manager->name;
	manager->by_name.config_path = node->options->mig_config_path;
	change->plan = gs_mig_plan_by_name;
	change->user = &manager->by_name;
	change->state_dir = node->options->state_dir;
	change->proc = "/proc";
	change->reset = gs_mig_reset_by_smi;
	const char *const roots[] = {node->config.flags.plugin.container_driver_root,
				     node->config.flags.nvidia_driver_root, NULL};
	gs_mig_smi_find(roots, &change->smi);
	/* The allocations of all devices, not only of those that are withheld now. A plan that knew only these would
	 * avoid allocated instances among them by destroying allocated ones elsewhere. */
	gs_mig_change_forget_allocated(change);
	node_promises(node, NULL, add_promise, change);
	gpus_work(node->gpus, GPUS_LANE_MIG, run_change, on_attempted, manager);
}

static void attempt(struct mig_manager *manager)
{
	if (manager->working) {
		manager->again = true;
		return;
	}
	uv_timer_stop(&manager->retry);
	manager->again = false;
	if (!manager->wanted) {
		release(manager);
		manager->state = STATE_NONE;
		forget_state(manager->node);
		let_go(manager);
		return;
	}
	if (node_others_hold(manager->node)) { /* whose layout it is; mig_manager_resume goes on */
		release(manager);
		return;
	}
	if (manager->state != STATE_PENDING && manager->state != STATE_WAITING)
		tell(manager, STATE_PENDING, "");
	manager->working = true;
	node_withdrawal_settle(manager->node, NULL, start_attempt, manager);
}

bool mig_manager_busy(const struct node *node)
{
	return node->mig && node->mig->working;
}

/* --- the label --- */

void mig_manager_resume(struct node *node)
{
	if (node->mig && !node->mig->seen)
		mig_manager_seen(node);
	else if (node->mig && node->mig->wanted && node->mig->state != STATE_SUCCESS &&
		 node->mig->state != STATE_FAILED)
		attempt(node->mig);
}

/* The label's value; NULL: the node has none, and its GPUs stay as they are. */
static void mig_manager_want(struct node *node, const char *name)
{
	struct mig_manager *manager = node->mig;
	if (!manager || node->stopping || !node->gpus)
		return;
	if (manager->wanted ? name && strcmp(name, manager->wanted) == 0 : !name)
		return;
	free(manager->wanted);
	manager->wanted = name ? gs_strdup(name) : NULL;
	manager->failures = manager->retries = 0;
	manager->state = STATE_NONE; /* so that the same state again is told for the new configuration */
	if (manager->seen || !name)
		attempt(manager);
	else if (!node_others_reason(node))
		tell(manager, STATE_PENDING, "the NVIDIA driver is not there yet");
}

static void on_label(void *user, const char *value)
{
	struct node *node = user;
	node->mig->label_known = true;
	be_patient(node->mig);
	if (value && *value) {
		mig_manager_want(node, value);
	} else if (node->mig->wanted) {
		mig_manager_want(node, NULL);
	} else {
		forget_state(node); /* what an earlier daemon said of a label that went while it was away */
		let_go(node->mig);
	}
}

void mig_manager_seen(struct node *node)
{
	struct mig_manager *manager = node->mig;
	if (!manager || manager->seen || node->stopping)
		return;
	manager->seen = true;
	be_patient(manager);
	if (manager->wanted)
		attempt(manager);
}

void mig_manager_looked(struct node *node)
{
	if (node->mig && node->mig->done)
		let_go(node->mig);
}

void mig_manager_start(struct node *node)
{
	if (!node->cluster)
		return;
	if (!node->options->mig_manager) {
		forget_state(node);
		return;
	}
	struct mig_manager *manager = gs_calloc(1, sizeof *manager);
	manager->node = node;
	manager->reason = gs_strdup("");
	uv_timer_init(&node->loop, &manager->retry);
	manager->retry.data = manager;
	uv_timer_init(&node->loop, &manager->patience);
	manager->patience.data = manager;
	manager->holds = true;
	node->mig = manager;
	cluster_watch_label(node->cluster, MIG_CONFIG_LABEL, on_label, node);
}

void mig_manager_stop(struct node *node)
{
	if (!node->mig)
		return;
	uv_close((uv_handle_t *)&node->mig->retry, NULL);
	uv_close((uv_handle_t *)&node->mig->patience, NULL);
}

void mig_manager_free(struct node *node)
{
	struct mig_manager *manager = node->mig;
	if (!manager)
		return;
	gs_mig_change_free(&manager->change);
	free(manager->by_name.notes);
	free(manager->name);
	free(manager->wanted);
	free(manager->reason);
	free(manager);
	node->mig = NULL;
}
