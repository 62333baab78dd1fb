/* Common to all commands of `gpushare mig`: finds the GPUs that the user named, and changes them. */
#include <errno.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/quantity.h"
#include "cli/json.h"
#include "cli/mig.h"
#include "gpu/hangs.h"

enum { DAEMON_TIMEOUT_MS = 10000 };

static const char proc[] = "/proc";

const char *mig_option(const struct mig_call *call, const char *name)
{
	return gs_option_value(call->arguments, name);
}

__attribute__((format(printf, 2, 0))) static void complain(const struct mig_call *call, const char *format,
							   va_list args)
{
	fprintf(stderr, "gpushare %s: ", call->arguments->command->name);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

int mig_fail(const struct mig_call *call, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	complain(call, format, args);
	va_end(args);
	return GS_EXIT_FAILURE;
}

int mig_misuse(const struct mig_call *call, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	complain(call, format, args);
	va_end(args);
	return GS_EXIT_USAGE;
}

enum mig_outcome mig_outcome_of(int code)
{
	return code == GS_EXIT_OK ? MIG_DONE : code == GS_EXIT_USAGE ? MIG_MISUSED : MIG_FAILED;
}

int mig_call_open(const struct gs_arguments *arguments, struct mig_call *call)
{
	struct gs_error err;
	*call = (struct mig_call){.arguments = arguments};
	int json = gs_wants_json(arguments);
	if (json < 0)
		return GS_EXIT_USAGE;
	call->json = json;
	bool changes = mig_option(call, "state-dir") && !mig_option(call, "dry-run");
	if (changes && geteuid() != 0)
		return mig_fail(call, "MIG layouts can be changed only by root: try again with sudo");
	const char *host = getenv("NVIDIA_DRIVER_ROOT"), *here = getenv("CONTAINER_DRIVER_ROOT");
	const char *const roots[] = {here ? here : "/driver-root", host ? host : "/", NULL};
	if (gs_hangs_open(roots, &call->nvml, &err) < 0)
		return mig_fail(call, "%s", err.text);
	gs_mig_smi_find(roots, &call->change.smi);
	return GS_EXIT_OK;
}

void mig_call_close(struct mig_call *call)
{
	node_client_restore(call->withdrawal);
	gs_mig_change_free(&call->change);
	gs_hangs_close(call->nvml);
}

/* Which GPUs
 * ---- */

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

struct bus_id {
	unsigned domain, bus, device, function;
};

/* "00000000:07:00.0" as NVML writes it, "0000:07:00.0" or "07:00.0" as lspci does. */
static bool read_bus_id(const char *text, struct bus_id *id)
{
	int used = 0;
	*id = (struct bus_id){0};
	if (strspn(text, "0123456789abcdefABCDEF:.") != strlen(text))
		return false;
	if (sscanf(text, "%8x:%2x:%2x.%1x%n", &id->domain, &id->bus, &id->device, &id->function, &used) == 4)
		return !text[used];
	id->domain = 0;
	return sscanf(text, "%2x:%2x.%1x%n", &id->bus, &id->device, &id->function, &used) == 3 && !text[used];
}

static bool same_bus_id(const char *a, const char *b)
{
	struct bus_id x, y;
	return read_bus_id(a, &x) && read_bus_id(b, &y) && memcmp(&x, &y, sizeof x) == 0;
}

static bool is_gpu(const struct gs_mig_board *board, size_t index, const char *name)
{
	if (is_number(name))
		return strlen(name) < 9 && strtoul(name, NULL, 10) == index;
	return strcmp(name, board->uuid) == 0 || strcasecmp(name, board->pci_bus_id) == 0 ||
	       same_bus_id(name, board->pci_bus_id);
}

static int find_gpu(const struct mig_call *call, const char *name)
{
	for (size_t i = 0; i < call->change.boards.count; i++)
		if (is_gpu(&call->change.boards.items[i], i, name))
			return (int)i;
	return -1;
}

static int no_such_gpu(const struct mig_call *call, const char *name)
{
	GS_AUTO_STRBUF struct gs_strbuf known = {0};
	struct bus_id id;
	if (!*name)
		return mig_misuse(call, "-i: an entry is empty; name GPUs by index or UUID, with commas: -i 0,1");
	if (is_number(name))
		return mig_fail(call, "-i %s: there is no GPU %s; this node has %zu, numbered from 0", name, name,
				call->change.boards.count);
	if (strncmp(name, "GPU-", 4) != 0 && !read_bus_id(name, &id))
		return mig_misuse(call, "-i %s: that is no index (0), UUID (GPU-...) or PCI bus id (07:00.0)", name);
	for (size_t i = 0; i < call->change.boards.count && i < 8; i++)
		gs_strbuf_printf(&known, "%s%s", i ? ", " : "", call->change.boards.items[i].uuid);
	return mig_fail(call, "-i %s: no GPU of this node has this UUID or bus id; it has %s%s", name,
			known.length ? known.data : "none", call->change.boards.count > 8 ? ", ..." : "");
}

static int choose(struct mig_call *call, const char *list)
{
	memset(call->chosen, 0, sizeof call->chosen);
	bool all = !list || strcmp(list, "all") == 0;
	for (size_t i = 0; all && i < call->change.boards.count; i++)
		call->chosen[i] = true;
	for (const char *at = all ? NULL : list; at;) {
		const char *comma = strchr(at, ',');
		GS_AUTO_FREE char *name = comma ? gs_strndup(at, (size_t)(comma - at)) : gs_strdup(at);
		int gpu = find_gpu(call, name);
		if (gpu < 0)
			return no_such_gpu(call, name);
		if (call->chosen[gpu])
			return mig_misuse(call, "-i: GPU %d is named twice", gpu);
		call->chosen[gpu] = true;
		at = comma ? comma + 1 : NULL;
	}
	return GS_EXIT_OK;
}

int mig_read(struct mig_call *call)
{
	struct gs_error err;
	gs_mig_boards_free(&call->change.boards);
	if (gs_mig_read(call->nvml, proc, &call->change.boards, &err) < 0)
		return mig_fail(call, "%s", err.text);
	return choose(call, mig_option(call, "gpu"));
}

int mig_narrow(struct mig_call *call, bool enabled)
{
	const char *named = mig_option(call, "gpu");
	size_t found = 0;
	for (size_t i = 0; i < call->change.boards.count; i++) {
		struct gs_mig_board *board = &call->change.boards.items[i];
		if (!call->chosen[i])
			continue;
		if (named && board->problem[0])
			return mig_fail(call, "GPU %zu can't be read: %s", i, board->problem);
		if (named && !board->capable && strcmp(named, "all") != 0)
			return mig_fail(call, "GPU %zu (%s) can't do MIG", i, board->name);
		call->chosen[i] = board->capable && (named || board->enabled || !enabled);
		found += call->chosen[i];
	}
	for (size_t i = 0; i < call->change.boards.count && !found; i++)
		if (call->change.boards.items[i].problem[0])
			return mig_fail(call, "GPU %zu can't be read: %s", i, call->change.boards.items[i].problem);
	if (!found)
		return mig_fail(call,
				enabled ? "no GPU of this node has MIG on; turn it on with gpushare mig enable -i 0"
					: "no GPU of this node can do MIG");
	if (found > 1 && !named)
		return mig_misuse(call, "%zu GPUs of this node could be meant; say which with -i 0, or -i all", found);
	return GS_EXIT_OK;
}

/* Changing them
 * ---- */

void mig_print_tasks(const struct mig_call *call, const struct gs_mig_task *tasks, bool done)
{
	GS_AUTO_STRBUF struct gs_strbuf text = {0};
	json_t *list = json_array();
	for (size_t i = 0; i < call->change.boards.count; i++) {
		if (gs_mig_task_is_done(&tasks[i]))
			continue;
		mig_table_task(&tasks[i], done, &text);
		json_array_append_new(list, mig_json_task(&tasks[i]));
	}
	if (call->json)
		gs_json_print(GS_STEAL(list));
	else
		fputs(text.length       ? text.data
		      : call->unmatched ? "nothing to do on the GPUs that the configuration names\n"
					: "nothing to do: every GPU is as wanted\n",
		      stdout);
	json_decref(list);
}

enum mig_outcome mig_read_list(const struct mig_call *call, const struct gs_mig_board *board, const char *list,
			       struct gs_mig_wish *wish)
{
	struct gs_error err;
	if (gs_mig_parse_list(&board->gpu, list, wish, &err) == 0)
		return MIG_DONE;
	if (err.code == EINVAL)
		return mig_outcome_of(mig_misuse(call, "%s; nothing was changed", err.text));
	return mig_outcome_of(mig_fail(call, "GPU %u: %s; nothing was changed", board->index, err.text));
}

static int reset_gpu(const struct gs_mig_board *board, void *user, struct gs_error *err)
{
	fflush(stdout);
	return gs_mig_reset_by_smi(board, user, err);
}

/* Has the daemon withhold the devices that the change names now, instead of those that it named before. Where no daemon
 * runs, no device is handed out. */
static int withdraw(struct mig_call *call, struct gs_error *err)
{
	const struct gs_mig_change *change = &call->change;
	struct node_withdrawal *withdrawal;
	if (!change->withdrawn.count)
		return 0;
	GS_AUTO_FREE char *reason = gs_printf("gpushare %s is changing the MIG layout", call->arguments->command->name);
	if (node_client_withdraw(mig_option(call, "socket"), (const char *const *)change->withdrawn.items,
				 change->withdrawn.count, reason, DAEMON_TIMEOUT_MS, &withdrawal, err) < 0)
		return -1;
	/* Takes the new one first, so that a device in both is never handed out in between. */
	node_client_restore(call->withdrawal);
	call->withdrawal = withdrawal;
	return 0;
}

void mig_ask_allocated(struct mig_call *call)
{
	struct node_promises promises;
	struct gs_error err;
	gs_mig_change_forget_allocated(&call->change);
	if (node_client_allocations(mig_option(call, "socket"), DAEMON_TIMEOUT_MS, &promises, &err) < 0)
		fprintf(stderr, "gpushare %s: what containers were given is not known: %s\n",
			call->arguments->command->name, err.text);
	for (size_t i = 0; i < promises.count; i++)
		gs_mig_change_allocated(&call->change, promises.items[i].device, promises.items[i].who);
	node_promises_free(&promises);
}

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = number;
}

/* A change that is under way is not left half done by Ctrl-C: it stops before the next step and is undone. */
static void mind_signals(bool mind)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	static struct sigaction before[GS_ARRAY_LENGTH(numbers)];
	const struct sigaction ours = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	for (size_t i = 0; i < GS_ARRAY_LENGTH(numbers); i++) {
		if (!mind) {
			sigaction(numbers[i], &before[i], NULL);
			continue;
		}
		sigaction(numbers[i], NULL, &before[i]);
		if (before[i].sa_handler != SIG_IGN) /* as by nohup */
			sigaction(numbers[i], &ours, NULL);
	}
}

/* For the engine: the error was printed already, or `reason` has it. */
static enum gs_mig_outcome plan(struct gs_mig_change *change, void *user)
{
	struct mig_call *call = user;
	GS_AUTO_STRBUF struct gs_strbuf reason = {0};
	enum mig_outcome outcome = mig_outcome_of(choose(call, mig_option(call, "gpu")));
	if (outcome == MIG_DONE)
		outcome = call->planner(call, change->tasks, &reason);
	if (outcome == MIG_DONE)
		return GS_MIG_CHANGE_DONE;
	if (reason.length)
		return gs_mig_change_stop(change, GS_MIG_CHANGE_BLOCKED, "%s", reason.data);
	call->misused = outcome == MIG_MISUSED;
	return change->text ? change->outcome : GS_MIG_CHANGE_REFUSED;
}

/* Attempts until no further device has to be withheld. */
static int attempt(struct mig_call *call, struct gs_error *err)
{
	struct gs_mig_change *change = &call->change;
	do {
		mig_ask_allocated(call);
		mind_signals(true);
		gs_mig_change_run(change, call->nvml);
		mind_signals(false);
		if (interrupted && !change->touched)
			raise(interrupted);
		if (change->recovered)
			fprintf(stderr, "gpushare %s: %s\n", call->arguments->command->name, change->recovered);
		if (change->outcome != GS_MIG_CHANGE_NEEDS)
			return 0;
		gs_mig_change_withdraw_more(change);
	} while (withdraw(call, err) == 0);
	return -1;
}

static double seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Says what came of it; an exit code. */
static int conclude(struct mig_call *call)
{
	const struct gs_mig_change *change = &call->change;
	if (change->outcome == GS_MIG_CHANGE_DONE || change->outcome == GS_MIG_CHANGE_WAITS) {
		mig_print_tasks(call, change->tasks, !change->dry_run);
		return GS_EXIT_OK;
	}
	if (change->text)
		mig_fail(call, "%s%s", change->text, change->touched ? "" : "; nothing was changed");
	return call->misused ? GS_EXIT_USAGE : GS_EXIT_FAILURE;
}

int mig_change(struct mig_call *call, mig_planner *planner, bool dry_run)
{
	const char *wait = dry_run ? NULL : mig_option(call, "wait");
	int64_t wait_ns = 0;
	struct gs_error err;
	GS_AUTO_FREE char *said = NULL;
	if (wait && (gs_parse_duration(wait, &wait_ns, &err) < 0 || wait_ns < 0)) {
		mig_fail(call, "--wait %s: write a duration, such as 90s or 10m", wait);
		return GS_EXIT_USAGE;
	}
	struct gs_mig_change *change = &call->change;
	call->planner = planner;
	change->plan = plan;
	change->user = call;
	change->dry_run = dry_run;
	change->state_dir = mig_option(call, "state-dir");
	change->proc = proc;
	change->reset = mig_option(call, "reset") ? reset_gpu : NULL;
	change->interrupted = &interrupted;
	for (double end = seconds_now() + (double)wait_ns / 1e9;;) {
		struct timespec pause = {.tv_nsec = 500 * 1000 * 1000};
		if (attempt(call, &err) < 0)
			return mig_fail(call, "%s; nothing was changed", err.text);
		if (change->outcome != GS_MIG_CHANGE_BLOCKED)
			return conclude(call);
		const char *unchanged = change->touched ? "" : "; nothing was changed";
		if (seconds_now() >= end)
			return mig_fail(call, "%s%s%s", change->text, unchanged,
					wait      ? " (waited in vain)"
					: dry_run ? ""
						  : "; --wait DURATION waits for it");
		if (!said || strcmp(said, change->text) != 0)
			fprintf(stderr, "gpushare %s: waiting: %s%s\n", call->arguments->command->name, change->text,
				unchanged);
		/* No new pod may take the instances that the present users will leave. */
		gs_mig_change_withdraw_only(change);
		if (withdraw(call, &err) < 0)
			return mig_fail(call, "%s; nothing was changed", err.text);
		free(said);
		said = GS_STEAL(change->text);
		nanosleep(&pause, NULL);
	}
}
