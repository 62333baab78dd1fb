/* gpushare sim inject: plays faults on a simulated node, as NVML would report them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/suggest.h"
#include "cli/command.h"
#include "sim/tools/commands.h"
#include "gpushare/cuda.h"
#include "sim/mig.h"
#include "sim/models.h"
#include "sim/state.h"

/* NVML's event bits and recovery actions. */
enum { EVENT_SINGLE_BIT_ECC = 0x1, EVENT_DOUBLE_BIT_ECC = 0x2, EVENT_XID_CRITICAL = 0x8 };
enum { RECOVER_NONE = 0, RECOVER_RESET = 1, RECOVER_REBOOT = 2 };
enum { XID_DOUBLE_BIT_ECC = 48, XID_ROW_REMAP_FAILURE = 64, XID_FALLEN_OFF_BUS = 79, XID_MAX = 9999 };
enum { TEMPERATURE_MAX = 150, FAULTS_MAX = 64 };

/* One fault of the command line, ready to be played. */
struct fault {
	const struct kind *kind;
	uint64_t number; /* the value: an XID, degrees, a model's position, an NVML code */
	uint32_t count;
	char function[SIM_FUNCTION_NAME_SIZE];
	const struct sim_mig_name *instance; /* NULL: --gpu names a whole GPU */
	bool on_gpu;                         /* --gpu names one */
};

struct kind {
	const char *name;
	const char *value; /* what follows '=' ("plug" takes the next word too); NULL: nothing does */
	bool needs_gpu;
	int (*parse)(const char *value, struct fault *fault, struct gs_error *err); /* NULL: without value */
	int (*play)(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err);
};

static int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *number)
{
	size_t digits = strspn(text, "0123456789");
	errno = 0;
	unsigned long long value = strtoull(text, NULL, 10);
	if (digits == 0 || text[digits] || errno || value < low || value > high)
		return -1;
	*number = value;
	return 0;
}

/* What NVIDIA's XID catalogue asks an operator to do at once; NVML reports it as the recovery action. */
static uint32_t recovery_of_xid(uint64_t xid)
{
	switch (xid) {
	case 46:
	case 48:
	case 62:
	case 64:
	case 95:
	case 119:
	case 120:
	case 140:
		return RECOVER_RESET;
	case XID_FALLEN_OFF_BUS:
		return RECOVER_REBOOT;
	default:
		return RECOVER_NONE;
	}
}

static void set_xid(struct sim_gpu *gpu, void *user)
{
	uint64_t xid = *(const uint64_t *)user;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	gpu->last_xid = xid;
	gpu->last_xid_time_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
	if (recovery_of_xid(xid) > gpu->recovery_action)
		gpu->recovery_action = recovery_of_xid(xid);
	if (xid == XID_FALLEN_OFF_BUS)
		gpu->lost = 1;
}

static void post_xid(struct sim_node *node, uint32_t gpu, const struct sim_mig_name *instance, uint64_t xid)
{
	sim_gpu_update(node, gpu, set_xid, &xid);
	sim_event_post_instance(node, gpu, instance ? instance->gpu_instance : SIM_MIG_NONE,
				instance ? instance->compute_instance : SIM_MIG_NONE, EVENT_XID_CRITICAL, xid);
}

static int parse_xid(const char *value, struct fault *fault, struct gs_error *err)
{
	if (parse_number(value, 1, XID_MAX, &fault->number) == 0)
		return 0;
	return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' is no XID; write a number from 1 to %d, as xid=79", value,
		       XID_MAX);
}

static int play_xid(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	post_xid(node, gpu, fault->instance, fault->number);
	return 0;
}

static void set_lost(struct sim_gpu *gpu, void *user)
{
	gpu->lost = 1;
	gpu->recovery_action = RECOVER_REBOOT;
}

static int play_lost(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	sim_gpu_update(node, gpu, set_lost, NULL);
	return 0;
}

/* As after a reset: what the InfoROM keeps (aggregate counters, remapped rows) stays. */
static void set_recovered(struct sim_gpu *gpu, void *user)
{
	gpu->lost = gpu->hangs = 0;
	gpu->recovery_action = RECOVER_NONE;
	gpu->ecc_double_volatile = 0;
	gpu->ecc_single_volatile = 0;
	gpu->remap_pending = 0;
	gpu->remap_failed = 0;
}

static int play_recovered(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	sim_gpu_update(node, gpu, set_recovered, NULL);
	return 0;
}

static int play_reset(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	return sim_gpu_reset(node, gpu, err);
}

static int parse_switch(const char *value, struct fault *fault, struct gs_error *err)
{
	fault->number = strcmp(value, "on") == 0;
	if (fault->number || strcmp(value, "off") == 0)
		return 0;
	return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' is neither on nor off", value);
}

static void set_needs_reset(struct sim_gpu *gpu, void *user)
{
	gpu->mig_needs_reset = *(const uint32_t *)user;
}

static int play_needs_reset(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	uint32_t needed = (uint32_t)fault->number;
	sim_gpu_update(node, gpu, set_needs_reset, &needed);
	return 0;
}

static void set_hangs(struct sim_gpu *gpu, void *user)
{
	gpu->hangs = *(const uint32_t *)user;
}

static int play_hang(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	uint32_t hangs = (uint32_t)fault->number;
	sim_gpu_update(node, gpu, set_hangs, &hangs);
	return 0;
}

static int parse_temperature(const char *value, struct fault *fault, struct gs_error *err)
{
	if (strcmp(value, "auto") == 0) {
		fault->number = 0;
		return 0;
	}
	if (parse_number(value, 0, TEMPERATURE_MAX, &fault->number) == 0)
		return 0;
	return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' is no temperature; write degrees from 1 to %d, or auto", value,
		       TEMPERATURE_MAX);
}

static void set_temperature(struct sim_gpu *gpu, void *user)
{
	gpu->temperature_override = *(const uint32_t *)user;
}

static int play_temperature(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	uint32_t degrees = (uint32_t)fault->number;
	sim_gpu_update(node, gpu, set_temperature, &degrees);
	return 0;
}

static int play_unplug(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	return sim_gpu_unplug(node, gpu, err);
}

static int parse_model(const char *value, struct fault *fault, struct gs_error *err)
{
	const struct sim_model *model = sim_model_by_name(value);
	if (model) {
		fault->number = (uint64_t)(model - sim_models);
		return 0;
	}
	const char *near = sim_model_suggest(value);
	if (near)
		return gs_fail(err, GS_ERROR_INPUT, 0, "unknown GPU model '%s'; did you mean %s?", value, near);
	return gs_fail(err, GS_ERROR_INPUT, 0, "unknown GPU model '%s'; 'gpushare sim models' lists them", value);
}

static int play_plug(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	int slot = sim_gpu_plug(node, (uint32_t)fault->number, err);
	struct sim_gpu copy;
	if (slot < 0)
		return -1;
	if (sim_gpu_get(node, (uint32_t)slot, &copy))
		printf("GPU %d: %s (UUID: %s)\n", slot, sim_models[copy.model].name, copy.uuid);
	return 0;
}

static int parse_ecc(const char *value, struct fault *fault, struct gs_error *err)
{
	fault->number = strcmp(value, "double") == 0;
	if (fault->number || strcmp(value, "single") == 0)
		return 0;
	return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' is no kind of ECC error; write ecc=single or ecc=double", value);
}

static void set_ecc(struct sim_gpu *gpu, void *user)
{
	if (*(const uint64_t *)user) {
		gpu->ecc_double_volatile++;
		gpu->ecc_double_aggregate++;
	} else {
		gpu->ecc_single_volatile++;
		gpu->ecc_single_aggregate++;
	}
}

/* A double-bit error comes with its XID, as from a real driver; a single-bit one is corrected and only counted. */
static int play_ecc(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	uint64_t is_double = fault->number;
	sim_gpu_update(node, gpu, set_ecc, &is_double);
	sim_event_post(node, gpu, is_double ? EVENT_DOUBLE_BIT_ECC : EVENT_SINGLE_BIT_ECC, 0);
	if (is_double)
		post_xid(node, gpu, NULL, XID_DOUBLE_BIT_ECC);
	return 0;
}

static void set_remap_failed(struct sim_gpu *gpu, void *user)
{
	gpu->remap_failed = 1;
	gpu->remap_uncorrectable++;
}

static int play_remap_failed(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	sim_gpu_update(node, gpu, set_remap_failed, NULL);
	post_xid(node, gpu, NULL, XID_ROW_REMAP_FAILURE);
	return 0;
}

/* What libnvidia-ml.so.1 exports. */
static const char *const nvml_names[] = {
#define NVML_SIMULATED(name)      #name,
#define NVML_ABSENT_DEVICE(name)  #name,
#define NVML_ABSENT_POINTER(name) #name,
#define NVML_ABSENT_VALUE(name)   #name,
#include "sim/nvml/names.def"
};

/* A rule for a name that no program calls would be a fault that never happens. */
static int check_nvml_name(const char *name, struct gs_error *err)
{
	for (size_t i = 0; i < GS_ARRAY_LENGTH(nvml_names); i++)
		if (strcmp(nvml_names[i], name) == 0)
			return 0;
	const char *near = gs_suggest(name, nvml_names, GS_ARRAY_LENGTH(nvml_names));
	if (near)
		return gs_fail(err, GS_ERROR_INPUT, 0, "NVML has no %s; did you mean %s?", name, near);
	return gs_fail(err, GS_ERROR_INPUT, 0, "NVML has no %s; names are as libnvidia-ml.so.1 exports them", name);
}

/* "nvmlDeviceGetUUID=15:3" */
static int parse_nvml(const char *value, struct fault *fault, struct gs_error *err)
{
	const char *equals = strchr(value, '=');
	size_t length = equals ? (size_t)(equals - value) : 0;
	if (length <= 4 || length >= sizeof fault->function || strncmp(value, "nvml", 4) != 0)
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "'nvml:%s' names no call; write for example nvml:nvmlDeviceGetUUID=15", value);
	memcpy(fault->function, value, length);
	fault->function[length] = '\0';
	if (check_nvml_name(fault->function, err) < 0)
		return -1;
	char code[16] = "";
	const char *colon = strchr(equals + 1, ':');
	size_t digits = colon ? (size_t)(colon - equals - 1) : strlen(equals + 1);
	uint64_t count = SIM_FAULT_FOREVER;
	if (digits < sizeof code)
		memcpy(code, equals + 1, digits);
	if (parse_number(code, 0, 999, &fault->number) < 0)
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "'%s' has no NVML return code; write 1 to 999, or 0 to end the fault", value);
	if (colon && parse_number(colon + 1, 0, SIM_FAULT_FOREVER, &count) < 0)
		return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' is no number of calls", colon + 1);
	fault->count = fault->number ? (uint32_t)count : 0;
	return 0;
}

static int play_nvml(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	if (fault->on_gpu)
		return sim_nvml_fault_set_on(node, gpu, fault->function, (int)fault->number, fault->count, err);
	return sim_nvml_fault_set(node, fault->function, (int)fault->number, fault->count, err);
}

static int parse_process(const char *value, struct fault *fault, struct gs_error *err)
{
	if (parse_number(value, 1, INT32_MAX, &fault->number) == 0)
		return 0;
	return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' is no process; write its PID, as fault=1234", value);
}

/* As a kernel that follows a wild pointer; processes that share an MPS server with this one fail with it. */
static int play_fault(struct sim_node *node, uint32_t gpu, const struct fault *fault, struct gs_error *err)
{
	if (sim_client_fault(node, (int32_t)fault->number, CUDA_ERROR_ILLEGAL_ADDRESS) > 0)
		return 0;
	return gs_fail(err, GS_ERROR_INPUT, ESRCH,
		       "process %" PRIu64 " has no context on this node; nvidia-smi lists those that do",
		       fault->number);
}

static const struct kind kinds[] = {
	{"xid", "N", true, parse_xid, play_xid},
	{"lost", NULL, true, NULL, play_lost},
	{"hang", "on|off", true, parse_switch, play_hang},
	{"recovered", NULL, true, NULL, play_recovered},
	{"reset", NULL, true, NULL, play_reset},
	{"mig-needs-reset", "on|off", true, parse_switch, play_needs_reset},
	{"temperature", "DEGREES", true, parse_temperature, play_temperature},
	{"unplug", NULL, true, NULL, play_unplug},
	{"plug", "MODEL", false, parse_model, play_plug},
	{"ecc", "single|double", true, parse_ecc, play_ecc},
	{"remap-failed", NULL, true, NULL, play_remap_failed},
	{"nvml", "FUNCTION=CODE[:COUNT]", false, parse_nvml, play_nvml},
	{"fault", "PID", false, parse_process, play_fault},
};

static int unknown_fault(const char *word, size_t length, struct gs_error *err)
{
	const char *names[GS_ARRAY_LENGTH(kinds)];
	char typed[64];
	snprintf(typed, sizeof typed, "%.*s", (int)length, word);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(kinds); i++)
		names[i] = kinds[i].name;
	const char *near = gs_suggest(typed, names, GS_ARRAY_LENGTH(kinds));
	if (near)
		return gs_fail(err, GS_ERROR_INPUT, 0, "unknown fault '%s'; did you mean '%s'?", word, near);
	return gs_fail(err, GS_ERROR_INPUT, 0, "unknown fault '%s'; 'gpushare sim inject --help' lists them", word);
}

/* Reads one fault from `words`; how many words it took, or -1. */
static int parse_fault(char **words, struct fault *fault, struct gs_error *err)
{
	size_t length = strcspn(words[0], "=:");
	const char *value = words[0][length] ? words[0] + length + 1 : NULL;
	int taken = 1;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(kinds) && !fault->kind; i++)
		if (strlen(kinds[i].name) == length && strncmp(words[0], kinds[i].name, length) == 0)
			fault->kind = &kinds[i];
	if (!fault->kind)
		return unknown_fault(words[0], length, err);
	const struct kind *kind = fault->kind;
	if (!kind->parse && value)
		return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' takes no value; write '%s'", words[0], kind->name);
	if (kind->parse == parse_model && !value && words[1]) {
		value = words[1];
		taken = 2;
	}
	bool is_nvml = kind->parse == parse_nvml;
	if (kind->parse && (!value || (words[0][length] == ':') != is_nvml) && taken == 1)
		return gs_fail(err, GS_ERROR_INPUT, 0, "'%s' needs a value; write '%s%c%s'", words[0], kind->name,
			       is_nvml ? ':' : '=', kind->value);
	if (kind->parse && kind->parse(value, fault, err) < 0)
		return -1;
	return taken;
}

/* The slot of "2" or "GPU-...". */
static int find_gpu(struct sim_node *node, const char *wanted, uint32_t *gpu, struct gs_error *err)
{
	uint64_t number;
	struct sim_gpu copy;
	uint32_t count = sim_gpu_count(node);
	if (parse_number(wanted, 0, UINT32_MAX, &number) == 0) {
		if (number >= count)
			return gs_fail(err, GS_ERROR_INPUT, 0, "there is no GPU %s; the node has %u, counted from 0",
				       wanted, count);
		*gpu = (uint32_t)number;
		return 0;
	}
	for (uint32_t i = 0; i < count; i++)
		if (sim_gpu_get(node, i, &copy) && strcasecmp(copy.uuid, wanted) == 0) {
			*gpu = i;
			return 0;
		}
	return gs_fail(err, GS_ERROR_INPUT, 0,
		       "there is no GPU '%s'; give its number or its UUID as 'nvidia-smi -L' shows it", wanted);
}

static int complain(const struct gs_error *err)
{
	fprintf(stderr, "gpushare sim inject: %s\n", err->text);
	return err->source == GS_ERROR_INPUT ? GS_EXIT_USAGE : GS_EXIT_FAILURE;
}

/* All faults are read before the first is played, so that a mistake in one leaves the node as it was. */
static int play_all(struct sim_node *node, const char *wanted, struct fault *faults, size_t count)
{
	struct gs_error err;
	struct sim_gpu copy;
	struct sim_mig_name instance;
	uint32_t gpu = 0;
	bool is_instance = wanted && sim_mig_find(node, wanted, &instance);
	if (is_instance)
		gpu = instance.gpu;
	else if (wanted && find_gpu(node, wanted, &gpu, &err) < 0)
		return complain(&err);
	for (size_t i = 0; i < count; i++)
		if (is_instance && faults[i].kind->play != play_xid) {
			fprintf(stderr,
				"gpushare sim inject: %s is for a whole GPU; only an xid can be of a MIG instance\n",
				faults[i].kind->name);
			return GS_EXIT_USAGE;
		}
	for (size_t i = 0; i < count; i++) {
		faults[i].instance = is_instance ? &instance : NULL;
		faults[i].on_gpu = wanted != NULL;
		bool there = sim_gpu_get(node, gpu, &copy) && copy.present;
		if (faults[i].kind->needs_gpu && !there) {
			fprintf(stderr, "gpushare sim inject: GPU %u is unplugged\n", gpu);
			return GS_EXIT_FAILURE;
		}
		if (faults[i].kind->play(node, gpu, &faults[i], &err) < 0)
			return complain(&err);
	}
	return GS_EXIT_OK;
}

static int run_inject(const struct gs_arguments *arguments)
{
	struct gs_error err;
	struct fault faults[FAULTS_MAX] = {0};
	size_t count = 0;
	const char *state = gs_option_value(arguments, "state");
	const char *gpu = gs_option_value(arguments, "gpu");
	for (char **word = arguments->operands; *word && count < FAULTS_MAX; count++) {
		int taken = parse_fault(word, &faults[count], &err);
		if (taken < 0)
			return complain(&err);
		if (faults[count].kind->needs_gpu && !gpu) {
			fprintf(stderr, "gpushare sim inject: %s on which GPU? Add --gpu N or --gpu UUID\n",
				faults[count].kind->name);
			return GS_EXIT_USAGE;
		}
		word += taken;
	}
	if (count == 0) {
		fputs("gpushare sim inject: which fault? Write for example 'gpushare sim inject --gpu 0 xid=79'\n",
		      stderr);
		return GS_EXIT_USAGE;
	}
	struct sim_node *node;
	if (sim_node_open(state, &node, &err) < 0)
		return complain(&err);
	int code = GS_EXIT_FAILURE;
	if (sim_node_is_live(sim_node_dir(node)))
		code = play_all(node, gpu, faults, count);
	else
		fprintf(stderr, "gpushare sim inject: the node in %s is not running any more\n", sim_node_dir(node));
	sim_node_close(node);
	return code;
}

static const struct gs_option inject_options[] = {
	{.name = "state",
	 .argument = "DIR",
	 .help = "The node's state directory",
	 .env = "GPUSHARE_SIM",
	 .complete = "dir"},
	{.name = "gpu",
	 .argument = "N|UUID",
	 .help = "The GPU: its number, from 0 in the order of the SPEC, or its UUID; for an xid also a MIG instance's "
		 "UUID"},
	{0},
};

const struct gs_command gs_command_sim_inject = {
	.name = "sim inject",
	.synopsis = "[--gpu N|UUID] FAULT...",
	.summary = "play faults on a simulated node",
	.description =
		"FAULT is one of:\n\n"
		"xid=N: an XID event; 79 makes the GPU fall off the bus too\n\n"
		"lost: the GPU has fallen off the bus, without an event\n\n"
		"recovered: as after a reset: not lost, no recovery action, no volatile ECC errors, no row-remap "
		"failure\n\n"
		"reset: the GPU is reset: as recovered, its MIG instances are gone, and a pending MIG mode is in "
		"force; fails while processes are on it\n\n"
		"mig-needs-reset=on, off: on a GPU older than Hopper a change of the MIG mode waits for a reset, as in "
		"a virtual machine\n\n"
		"temperature=DEGREES: a fixed temperature; 0 or auto lets it follow the load again\n\n"
		"ecc=single, ecc=double: one ECC error more, with its event (and XID 48 for a double-bit error)\n\n"
		"remap-failed: row remapping has failed, with XID 64\n\n"
		"unplug: the GPU vanishes\n\n"
		"plug MODEL: a GPU more (no --gpu)\n\n"
		"fault=PID: the work of a process fails with an illegal memory access (no --gpu); who shares an MPS "
		"server with it on that GPU fails too\n\n"
		"nvml:FUNCTION=CODE[:COUNT]: the next COUNT calls (default: all) of an NVML function return CODE; CODE "
		"0 ends it. With --gpu only those that ask about that GPU",
	.examples = "gpushare sim inject --gpu 0 xid=79  # GPU 0 falls off the bus\n"
		    "gpushare sim inject --gpu 0 recovered  # and is back\n"
		    "gpushare sim inject plug A100-80GB  # one GPU more\n"
		    "gpushare sim inject nvml:nvmlDeviceGetMemoryInfo=999:3  # three calls fail\n"
		    "gpushare sim inject --gpu 1 nvml:nvmlDeviceGetName=4  # no permission for GPU 1",
	.options = inject_options,
	.run = run_inject,
};
