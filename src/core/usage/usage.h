/* Who uses what: a snapshot of a node, as plain values. Every report of use (status, metrics, MPS clients, the
 * processes in the way of a MIG change) reads it, and none collects figures by itself.
 *
 *     gs_usage_begin(&usage, &plan, &inventory, now);   // all shares, and nothing known of them
 *     ... the caller fills in health, pods and allocations ...
 *     gs_usage_attribute(&usage, samples);              // processes, and whom they count for
 *     gs_usage_free(&usage);
 *
 * A figure says where it comes from and when it was read; one without a source is unknown, which is not 0. The snapshot
 * refers to the plan, the inventory, the samples and the texts that it was made from, so it lives no longer than these.
 * Pure. */
#ifndef GPUSHARE_CORE_USAGE_USAGE_H
#define GPUSHARE_CORE_USAGE_USAGE_H

#include "core/share/share.h"
#include "core/usage/holder.h"
#include "core/usage/sample.h"

#define GS_USAGE_NONE UINT32_MAX

enum {
	/* Names of shares in the environments of a GPU's processes that are listed. Each process has one at least. */
	GS_USAGE_CLAIMS_MAX = 8192,
	/* Names that are read of one environment; the kernel lets a variable be 128 KiB. */
	GS_USAGE_NAMES_MAX = 4096,
	/* A share that no pod holds by the kubelet's answer may be allocated so recently that the kubelet does not
	 * count it yet. */
	GS_USAGE_NEW_SECONDS = 10,
	/* Where the kubelet does not say: a container starts its first process within this time, or is thought to be gone. */
	GS_USAGE_PROMISE_SECONDS = 120,
};

enum gs_usage_source {
	GS_SOURCE_UNKNOWN, /* no source: the value means nothing */
	GS_SOURCE_NVML,    /* the driver */
	GS_SOURCE_PROCESSES, /* the sum of what the driver tells of processes, each counted for a share that it names itself */
	GS_SOURCE_REST, /* the rest of the driver's figure for the whole */
};

struct gs_figure {
	uint64_t value;
	int64_t at_ms; /* when it was read, on the clock of gs_usage_time.ms */
	enum gs_usage_source source;
};

struct gs_usage_time {
	int64_t ms;      /* CLOCK_MONOTONIC, for ages */
	int64_t seconds; /* since the epoch, from the record of allocations */
};

/* The total of a GPU, and its parts: attributed + unattributed + idle = total, exactly. Either all of it is known, or
 * nothing. */
struct gs_balance {
	struct gs_figure total;
	struct gs_figure attributed; /* to shares: the sum of their figures that are known */
	struct gs_figure
		unattributed; /* in use, and no share's as far as is known: the driver's own, processes without a share */
	struct gs_figure idle;
};

struct gs_usage_process {
	const struct gs_process_sample *sample;
	uint32_t gpu; /* position in the inventory's GPUs */
	uint32_t
		device; /* it runs on, in the inventory's devices: a MIG device, else the GPU; GS_USAGE_NONE: unknown */
	uint32_t share; /* that its use counts for, one at most; GS_USAGE_NONE: it is unattributed */
	bool claims;    /* names one of the GPU's shares at least */
	struct gs_figure memory_bytes, sm_permille;
};

/* That a process names a share of its GPU in its environment: its own word, and no proof. */
struct gs_usage_claim {
	uint32_t share, process; /* positions in the snapshot */
};

struct gs_usage_share {
	const struct gs_share *share;
	uint32_t group;
	bool healthy;   /* can be allocated */
	bool contested; /* processes of several containers name it, and at most one is right: none counts for it */
	int64_t allocated_seconds; /* when it was last given to a container, as is on record; 0: never */
	const struct gs_pod_holder *pods;
	size_t pod_count; /* 0 as well while usage.pods_known is false */
	/* Of the processes that count for it. With idle and unattributed they are the GPU's, so they may have been made smaller
	 * where the driver's figures do not add up. Unknown as soon as one process's is, and where the share is contested. */
	struct gs_figure memory_bytes, sm_permille;
	size_t first_claim, claim_count; /* in usage.claims, by process */
};

/* The shares that one resource has of one device, side by side. */
struct gs_usage_group {
	const struct gs_resource *resource;
	const struct gs_resource_device *on;
	uint32_t first_share; /* in usage.shares; there are on->share_count */
};

struct gs_usage_device {
	bool healthy;         /* its shares can be allocated */
	const char *reason;   /* why not; "" */
	const char *cordoned; /* why it is withheld for now; NULL: it is not */
	struct gs_figure memory_used_bytes;
};

struct gs_usage_gpu {
	bool healthy;         /* the hardware */
	const char *reason;   /* why not; "" */
	const char *withheld; /* why no container can get it though it is well; NULL: one can */
	struct gs_figure memory_used_bytes, utilization_percent, temperature_c, power_mw;
	struct gs_balance memory_bytes, sm_permille;
	bool processes_known; /* else no process does not mean none */
	uint32_t first_process, process_count;
};

struct gs_usage {
	struct gs_usage_time now;
	const struct gs_plan *plan;
	const struct gs_inventory *inventory;
	struct gs_usage_gpu *gpus;       /* as inventory->gpus */
	struct gs_usage_device *devices; /* as inventory->devices */
	struct gs_usage_group *groups;   /* by resource, then device, as in the plan */
	size_t group_count;
	struct gs_usage_share *shares; /* by group */
	size_t share_count;
	struct gs_usage_process *processes; /* by GPU, then pid */
	size_t process_count;
	struct gs_usage_claim *claims; /* by share, then process */
	size_t claim_count;
	bool pods_known;     /* the kubelet tells which pod holds what */
	bool pods_truncated; /* but not all of it */
	int64_t pods_at_ms;  /* when it told */
};

void gs_usage_begin(struct gs_usage *usage, const struct gs_plan *plan, const struct gs_inventory *inventory,
		    struct gs_usage_time now);
/* samples[i] is of GPU i; NULL, also for all of them: it was not sampled, and its figures are unknown. Once for a snapshot.
 *
 * A process counts for the first share, in the plan's order, that it names, that is of the device it runs on, and that no other
 * container's process names: a name is not believed against the driver or against another's. */
void gs_usage_attribute(struct gs_usage *usage, const struct gs_gpu_sample *const *samples);
void gs_usage_free(struct gs_usage *usage);

/* Milliseconds since a figure was read; -1: it is unknown. */
int64_t gs_usage_age_ms(const struct gs_usage *usage, const struct gs_figure *figure);

/* Divides a whole among parts and fills `balance`, so that it adds up exactly. `idle` is what the driver calls free; where the parts
 * are more than the rest, idle is less, and where they are more than the whole, they are made smaller in proportion. */
void gs_usage_balance(uint64_t total, uint64_t idle, uint64_t *parts, size_t count, struct gs_balance *balance);

/* The holder of a share, whether or not a process runs on it. */
enum gs_usage_holder {
	GS_HELD_BY_NOBODY, /* no source names a holder */
	GS_HELD_BY_POD,    /* share->pods[0], says the kubelet */
	GS_HELD_LATELY,    /* a container that got it lately, which the kubelet does not name */
};
enum gs_usage_holder gs_usage_holder(const struct gs_usage *usage, const struct gs_usage_share *share);

/* Takes a process, once for each share that it names, or with NULL: it names none. */
typedef void gs_usage_client(void *user, const struct gs_usage_share *share, const struct gs_usage_process *process);

#endif
