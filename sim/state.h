/* The shared state of a simulated node: one file in shared memory, DIR/state, that every process of the node maps.
 *
 * Who writes: `gpushare sim` creates it, libcuda accounts work and memory, libnvidia-ml reads it (and changes what NVML
 * can change), `gpushare sim inject` plays faults. A process may be killed anywhere, so the lock is robust, a client's
 * slot is kept alive by a kernel lock on a byte of DIR/clients that dies with the process, and whatever a dead client
 * held is freed by the next reader. Version, size and offsets are asserted; another version is refused, not guessed
 * at. */
#ifndef GPUSHARE_SIM_STATE_H
#define GPUSHARE_SIM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum {
	SIM_GPUS_MAX = 32,
	SIM_CLIENTS_MAX = 1024, /* (process, GPU) pairs */
	SIM_EVENTS_MAX = 256,   /* ring of NVML events */
	SIM_BUCKETS = 64,       /* busy time is kept in buckets of SIM_BUCKET_NS each */
	SIM_PROCESS_NAME_SIZE = 256,
	SIM_FAULTS_MAX = 64, /* rules that make NVML calls fail */
	SIM_FUNCTION_NAME_SIZE = 80,
	SIM_MIG_INSTANCES_MAX = 15, /* GPU instances: their ids encode where they are, and go to 14 */
	SIM_MIG_COMPUTES_MAX = 8,   /* compute instances in a GPU instance */
	SIM_MIG_LAYOUT_SIZE = 192,
};
#define SIM_MIG_NONE               UINT32_MAX /* an instance's id where there is none */
#define SIM_BUCKET_NS              100000000ull
#define SIM_WINDOW_MAX_NS          6000000000ull /* longest window that busy time can be asked for */
#define SIM_FAULT_FOREVER          UINT32_MAX
#define SIM_DRIVER_VERSION_DEFAULT "550.163.01"

/* Client kinds, as NVML lists them. */
enum sim_client_kind { SIM_CLIENT_COMPUTE = 1, SIM_CLIENT_GRAPHICS = 2, SIM_CLIENT_MPS = 3 };

/* One GPU. Static data (memory size, clocks, ...) comes from the model table by `model`. */
struct sim_gpu {
	uint32_t model;   /* position in sim_models */
	uint32_t present; /* 0: unplugged (the slot stays) */
	uint32_t lost;    /* fallen off the bus: NVML answers GPU_IS_LOST, CUDA errors */
	uint32_t minor;
	char uuid[48]; /* "GPU-xxxxxxxx-xxxx-..." stable per node */
	uint8_t uuid_bytes[16];
	char serial[32];
	uint32_t pci_domain, pci_bus, pci_device;
	int32_t numa_node;
	uint64_t memory_total, memory_reserved; /* bytes, as NVML v2 reports them */
	uint32_t temperature_override;          /* degrees C; 0: follows load */
	uint32_t compute_mode;                  /* nvmlComputeMode_t */
	uint32_t persistence_mode;
	uint32_t recovery_action; /* nvmlDeviceGpuRecoveryAction_t: 0 none, 1 reset, ... */
	uint64_t ecc_double_volatile, ecc_double_aggregate, ecc_single_volatile, ecc_single_aggregate;
	uint32_t remap_correctable, remap_uncorrectable, remap_pending, remap_failed;
	uint32_t power_limit_mw; /* enforced */
	uint64_t last_xid, last_xid_time_ns;
	uint64_t busy_until_ns; /* end of the queue of the GPU's timeline, CLOCK_MONOTONIC */
	uint64_t energy_mj_base, energy_time_ns;
	uint64_t launches;
	uint64_t busy_ns_total;         /* work done so far by all clients, also those that are gone */
	uint64_t plugged;               /* how many boards this slot has held; a new one has a new UUID */
	uint32_t mig_mode, mig_pending; /* 1: MIG on; they differ until a reset */
	uint32_t mig_needs_reset;       /* the driver cannot reset the board by itself, as in a virtual machine */
	uint32_t timeslice;             /* how long a turn lasts: 0 default, 1 short, 2 medium, 3 long */
	uint32_t clock_sm_applied, clock_memory_applied;   /* application clocks, MHz; 0: the default */
	uint32_t clock_sm_locked_from, clock_sm_locked_to; /* MHz; 0: not locked */
	uint32_t clock_memory_locked_from, clock_memory_locked_to;
	uint32_t ecc_off, ecc_off_pending; /* they differ until a reset */
	uint32_t hangs;                    /* NVML calls about it do not return */
	uint32_t reserved_word;
	uint64_t reserved[23];
};

/* Busy time, in nanoseconds per bucket of time; only work that has run already. */
struct sim_busy {
	uint64_t bucket_of[SIM_BUCKETS]; /* which absolute bucket (time / SIM_BUCKET_NS) each cell holds */
	uint32_t busy_ns[SIM_BUCKETS];
};

/* A process that uses a GPU. Freed when the process dies. */
struct sim_client {
	uint32_t used;
	uint32_t gpu;
	int32_t pid;   /* as the process itself sees it; in copies, as this one does */
	uint32_t kind; /* enum sim_client_kind */
	uint64_t start_ns;
	uint64_t memory_bytes;
	uint64_t busy_ns_total; /* work submitted so far, including what is still queued */
	uint64_t queued_ns;     /* of that, what has not run yet: spread evenly over queued_from .. queued_to */
	uint64_t queued_from_ns, queued_to_ns;
	uint32_t gpu_instance, compute_instance; /* SIM_MIG_NONE: the whole GPU */
	uint32_t share_permille;                 /* of the GPU's multiprocessors; 1000: all */
	uint32_t fault;                          /* a CUresult that its work is to end with; 0: none */
	int32_t server_pid; /* of an MPS client, as its server itself sees it; 0: none, or not known */
	uint32_t reserved;
	struct sim_busy busy;
	char name[SIM_PROCESS_NAME_SIZE]; /* executable path */
};

struct sim_event {
	uint64_t sequence; /* 1, 2, ...; 0: empty */
	uint32_t gpu;
	uint16_t gpu_instance, compute_instance; /* UINT16_MAX: of the whole GPU */
	uint64_t type;                           /* nvmlEventType* bit */
	uint64_t data;                           /* the XID */
};

struct sim_state; /* the whole mapping: sim/layout.h */
struct sim_node;  /* a process's handle */

/* What to create. */
struct sim_gpu_spec {
	uint32_t model; /* position in sim_models */
	uint32_t count;
	uint64_t memory_total; /* bytes; 0: the model's */
	bool numa_set;         /* false: GPUs are spread over two NUMA nodes when there are four or more */
	int32_t numa_node;
	char mig[SIM_MIG_LAYOUT_SIZE]; /* a layout of sim/mig.h; empty: MIG off */
};
struct sim_spec {
	struct sim_gpu_spec groups[SIM_GPUS_MAX];
	size_t group_count;
	uint64_t seed;           /* UUIDs, serials; same seed, same node. 0: from the directory's name */
	char driver_version[32]; /* "550.163.01"; empty: SIM_DRIVER_VERSION_DEFAULT */
};

/* Makes DIR (0700 if absent) with DIR/state, DIR/clients and a root of device, proc and sysfs files under DIR/root.
 * Fails with EBUSY if a live node is there, and refuses a directory that holds something else. The node is live until
 * this handle is closed or its process dies; its files stay (sim_node_remove takes them away). */
int sim_node_create(const char *dir, const struct sim_spec *spec, struct sim_node **node, struct gs_error *err);
/* Joins the node in DIR; NULL: $GPUSHARE_SIM. After fork the child's copy of the handle still reads, but no client slot
 * is the child's: it attaches anew. Works too when the node's owner has died and only its processes are left. */
int sim_node_open(const char *dir, struct sim_node **node, struct gs_error *err);
/* Detaches this handle's clients. NULL is fine. */
void sim_node_close(struct sim_node *node);
/* Absolute path, owned by the handle. */
const char *sim_node_dir(const struct sim_node *node);
/* Owned by the handle. */
const char *sim_node_driver_version(const struct sim_node *node);
/* Whether the process that created the node in DIR still runs it. */
bool sim_node_is_live(const char *dir);
/* Removes a node's files and DIR itself if nothing else is in it. */
int sim_node_remove(const char *dir, struct gs_error *err);

uint64_t sim_now_ns(void); /* CLOCK_MONOTONIC */

/* GPUs. Slots are stable for the node's life; sim_gpu_count counts slots ever used. The copy is consistent. */
uint32_t sim_gpu_count(struct sim_node *node);
bool sim_gpu_get(struct sim_node *node, uint32_t gpu, struct sim_gpu *copy);
/* Changes one GPU under the lock. */
void sim_gpu_update(struct sim_node *node, uint32_t gpu, void (*change)(struct sim_gpu *gpu, void *user), void *user);
/* A new GPU of a model (position in sim_models); its slot, or -1. */
int sim_gpu_plug(struct sim_node *node, uint32_t model, struct gs_error *err);
/* The GPU vanishes: its slot stays, not present, and its proc and sysfs files go. */
int sim_gpu_unplug(struct sim_node *node, uint32_t gpu, struct gs_error *err);

/* Clients. Attach once per process and GPU; the slot is this process's until detach or death.
 * Returns the slot, or -1 with err->code: ENODEV the GPU is unplugged or lost, EBUSY its compute mode forbids it
 * (exclusive process, prohibited), ENOSPC too many clients, EIO no liveness file. */
int sim_client_attach(struct sim_node *node, uint32_t gpu, enum sim_client_kind kind, struct gs_error *err);
/* The same on a MIG instance: its memory and its own timeline, and the instance stays until the client is gone. ENODEV:
 * there is no such instance. The whole of a GPU in MIG mode takes no client (ENODEV too). */
int sim_client_attach_instance(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance, uint32_t compute_instance,
			       enum sim_client_kind kind, struct gs_error *err);
void sim_client_detach(struct sim_node *node, int slot);
/* The client may use only so many of the multiprocessors that it has without (1000: all of them), as an MPS client does. */
void sim_client_limit(struct sim_node *node, int slot, uint32_t permille);
/* The client is one of this MPS server (its pid): what it has on the GPU goes with the server's own context there. */
void sim_client_serve(struct sim_node *node, int slot, int32_t server_pid);
/* Makes the work of a process fail with a CUresult wherever it is a client; how many clients that were. libcuda takes the
 * fault, once, with the next call that looks at the device. */
size_t sim_client_fault(struct sim_node *node, int32_t pid, uint32_t result);
uint32_t sim_client_take_fault(struct sim_node *node, int slot);
/* 0, or -1 when the GPU has not that much memory left (or is gone, or the slot is not this handle's). */
int sim_client_allocate(struct sim_node *node, int slot, uint64_t bytes);
void sim_client_release(struct sim_node *node, int slot, uint64_t bytes);
/* Queues `duration_ns` of work not before `earliest_ns`; returns when it will be done on the GPU's one timeline, first
 * come first served. A caller should not run far ahead of the clock: the next caller waits behind all queued work. */
uint64_t sim_client_submit(struct sim_node *node, int slot, uint64_t earliest_ns, uint64_t duration_ns);
/* Live clients of a GPU (dead ones are swept first); returns how many there are, fills at most `capacity`. */
size_t sim_clients(struct sim_node *node, uint32_t gpu, struct sim_client *copies, size_t capacity);
/* Bytes in use by clients, and busy permille over the last `window_ns` (<= SIM_WINDOW_MAX_NS), of a GPU. */
uint64_t sim_gpu_memory_used(struct sim_node *node, uint32_t gpu);
uint32_t sim_gpu_busy_permille(struct sim_node *node, uint32_t gpu, uint64_t window_ns);
/* The same of a MIG instance: bytes of a GPU instance (compute instances share them), and busy permille of the
 * multiprocessors of a compute instance, or of all in the GPU instance (SIM_MIG_NONE). */
uint64_t sim_instance_memory_used(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance);
uint32_t sim_instance_busy_permille(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance,
				    uint32_t compute_instance, uint64_t window_ns);
/* The same of one client, from a copy that sim_clients made at `now_ns`. */
uint32_t sim_client_busy_permille(const struct sim_client *client, uint64_t now_ns, uint64_t window_ns);

/* Events: post wakes every waiter (a futex in the mapping). `*sequence` is the last event seen (start with
 * sim_events_last); waits until a later one matches the GPU and type masks or timeout_ms passes: 1, or 0 on timeout.
 * A waiter that was more than SIM_EVENTS_MAX events late gets those that are still in the ring. */
void sim_event_post(struct sim_node *node, uint32_t gpu, uint64_t type, uint64_t data);
/* Of a MIG instance; SIM_MIG_NONE for an id that does not apply. */
void sim_event_post_instance(struct sim_node *node, uint32_t gpu, uint32_t gpu_instance, uint32_t compute_instance,
			     uint64_t type, uint64_t data);
uint64_t sim_events_last(struct sim_node *node);
int sim_event_wait(struct sim_node *node, const uint64_t types_by_gpu[SIM_GPUS_MAX], uint64_t *sequence,
		   unsigned timeout_ms, struct sim_event *event);

/* NVML calls made to fail on purpose: "nvmlDeviceGetUUID" -> 15 (GPU is lost), `count` times; 0 takes the rule away,
 * SIM_FAULT_FOREVER keeps it. */
int sim_nvml_fault_set(struct sim_node *node, const char *function, int code, uint32_t count, struct gs_error *err);
/* The same for calls that ask about the GPU in one slot only. */
int sim_nvml_fault_set_on(struct sim_node *node, uint32_t slot, const char *function, int code, uint32_t count,
			  struct gs_error *err);
/* 0, or the code this call must return (and one use of the rule is spent). Costs one load when there are no rules. */
int sim_nvml_fault_take(struct sim_node *node, const char *function);
int sim_nvml_fault_take_on(struct sim_node *node, uint32_t slot, const char *function);

#endif
