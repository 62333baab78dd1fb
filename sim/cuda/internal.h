/* Inside of the simulated libcuda.so.1: what its files share.
 *
 * One lock guards all of the library's own state; it is dropped while a caller sleeps until simulated work is done. The
 * node's state (sim/state.h) has its own lock, always taken after this one. Handles that programs give back are looked
 * up in a registry before they are trusted. Work is computed when it is submitted: a stream knows when its last piece
 * will be done, so waiting is sleeping until then, and copies move their bytes at once. */
#ifndef GPUSHARE_SIM_CUDA_INTERNAL_H
#define GPUSHARE_SIM_CUDA_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "gpushare/cuda.h"
#include "sim/cuda/image.h"
#include "sim/mig.h"
#include "sim/models.h"
#include "sim/state.h"

enum simcu_kind {
	SIMCU_CONTEXT,
	SIMCU_STREAM,
	SIMCU_EVENT,
	SIMCU_MODULE,
	SIMCU_KERNEL,
	SIMCU_LIBRARY,
	SIMCU_POOL,
	SIMCU_PHYSICAL,
};

/* First member of everything a program holds a handle of. */
struct simcu_object {
	enum simcu_kind kind;
	struct simcu_context *context; /* NULL: belongs to no context */
	LIST_ENTRY(simcu_object) link; /* among the objects of its context */
};

struct simcu_device {
	uint32_t slot;      /* on the node */
	CUdevice ordinal;   /* what the program calls it */
	struct sim_gpu gpu; /* as it was at cuInit: identity only */
	const struct sim_model *model;
	struct sim_mig_name instance; /* serial 0: the device is a whole GPU */
	char name[128];
	uint8_t uuid[16];
	uint32_t multiprocessors;
	uint64_t memory_bytes; /* that programs can have */
	uint64_t memory_rate;  /* bytes per second */
	int client;            /* this process's slot while contexts exist; -1: none */
	unsigned context_count;
	uint64_t attachment;    /* counts the times that this process became a client */
	uint64_t small_bytes;   /* in allocations below SIMCU_CHUNK_BYTES, which share chunks */
	uint64_t checked_ns;    /* when the node was last asked about its health */
	uint64_t ecc_seen;      /* double-bit errors before this process came */
	CUresult broken;        /* sticky until the last context is gone */
	int mps_ordinal;        /* the MPS daemon's; -1: no MPS */
	uint64_t memory_limit;  /* what this process may have of it; 0: no limit but the memory there is */
	uint64_t charged_bytes; /* what it has */
	struct simcu_context *primary;
	unsigned primary_references, primary_flags;
	struct simcu_pool *default_pool, *pool;
};

LIST_HEAD(simcu_object_list, simcu_object);
LIST_HEAD(simcu_allocation_list, simcu_allocation);

enum { SIMCU_LAUNCHES_AHEAD = 1024, SIMCU_LIMITS = 11 };

/* Never freed, so that a thread that still has a dead one current finds that out. */
struct simcu_context {
	struct simcu_object object;
	struct simcu_device *device;
	bool alive, is_primary;
	unsigned flags;
	uint64_t id;
	struct simcu_stream *legacy;
	struct simcu_object_list objects;
	struct simcu_allocation_list allocations;
	uint64_t overhead_bytes;
	size_t limits[SIMCU_LIMITS];
	CUfunc_cache cache_config;
	CUsharedconfig shared_config;
	uint32_t peers;          /* bit per device ordinal */
	uint64_t orphans_end_ns; /* when the work of destroyed streams is done */
	uint64_t launches;
	uint64_t *ends_ns; /* of the last SIMCU_LAUNCHES_AHEAD launches: the host runs no further ahead */
};

struct simcu_stream {
	struct simcu_object object;
	unsigned flags;
	int priority;
	bool is_legacy;
	uint64_t thread; /* 0, or the thread whose default stream it is */
	uint64_t id;
	uint64_t end_ns;       /* when all its work is done */
	unsigned pending_host; /* host functions that have not returned */
};

struct simcu_event {
	struct simcu_object object;
	unsigned flags;
	bool recorded;
	uint64_t time_ns;
};

struct simcu_kernel {
	struct simcu_object object;
	struct simcu_module *module;
	const struct simcu_image_kernel *image; /* in the module's image; NULL: the image could not be read */
	char *name;
	int dynamic_shared, carveout, cluster_policy;
	LIST_ENTRY(simcu_kernel) in_module;
};

struct simcu_global {
	char *name;
	CUdeviceptr pointer;
	size_t bytes;
	uint64_t id; /* of the allocation */
	uint64_t context_id;
	LIST_ENTRY(simcu_global) in_module;
};

/* A module, and as well the inside of a library (then object.kind is SIMCU_LIBRARY). */
struct simcu_module {
	struct simcu_object object;
	struct simcu_image image;
	LIST_HEAD(, simcu_kernel) kernels;
	LIST_HEAD(, simcu_global) globals;
};

struct simcu_pool {
	struct simcu_object object;
	struct simcu_device *device;
	bool is_default;
	uint64_t used_bytes, used_high, maximum_bytes, release_threshold;
	uint64_t reuse[3];
};

enum simcu_memory {
	SIMCU_DEVICE_MEMORY,
	SIMCU_HOST_MEMORY,
	SIMCU_REGISTERED_MEMORY,
	SIMCU_MANAGED_MEMORY,
	SIMCU_MAPPED_MEMORY
};

/* A range of addresses that the library knows. */
struct simcu_allocation {
	uint64_t base, bytes;  /* as asked for */
	uint64_t mapped_bytes; /* what mmap gave; 0: not ours to unmap */
	enum simcu_memory memory;
	unsigned flags;
	uint64_t id;
	struct simcu_context *context; /* NULL: reserved or mapped by the virtual memory calls */
	struct simcu_device *device;   /* that pays for it; NULL: host memory */
	uint64_t charged_bytes;
	struct simcu_pool *pool;
	struct simcu_physical *physical;
	uint64_t access; /* CUmemAccess_flags of a mapping */
	LIST_ENTRY(simcu_allocation) link;
};

#define SIMCU_CHUNK_BYTES (2ull << 20) /* the driver takes memory from the GPU in pieces of this size */

struct simcu_runtime {
	pthread_mutex_t lock;
	pthread_cond_t host_done; /* a host function returned, or one was queued */
	bool ready, forked;
	struct sim_node *node;
	int device_count;
	struct simcu_device devices[SIM_GPUS_MAX];
	struct simcu_mps *mps; /* NULL: this process is no MPS client */
	uint64_t next_id;
};
extern struct simcu_runtime simcu;

/* runtime.c */

/* Takes the lock for an API call: 0, or the error that the call returns (not initialised, or called by a host
 * function). */
CUresult simcu_enter(void);
void simcu_leave_scope(int *unused);
/* The rest of the function runs under the lock. */
/* clang-format off */
#define SIMCU_ENTER()                                    \
	CUresult simcu_entered = simcu_enter();          \
	if (simcu_entered != CUDA_SUCCESS)               \
		return simcu_entered;                    \
	GS_CLEANUP(simcu_leave_scope) __attribute__((unused)) int simcu_held = 1

/* As SIMCU_ENTER, and `context` is the calling thread's, alive, on a GPU that works. */
#define SIMCU_ENTER_CONTEXT(context)                                        \
	SIMCU_ENTER();                                                      \
	struct simcu_context *context;                                      \
	CUresult simcu_found = simcu_current(&context);                     \
	if (simcu_found != CUDA_SUCCESS)                                    \
		return simcu_found
/* clang-format on */

/* Makes an object known as a handle, and one of `context` unless that is NULL. */
void simcu_register(struct simcu_object *object, enum simcu_kind kind, struct simcu_context *context);
void simcu_unregister(struct simcu_object *object);
/* The object behind a handle, or NULL when it is none of this kind (any more). */
void *simcu_lookup(const void *handle, enum simcu_kind kind);
struct simcu_device *simcu_device(CUdevice device);
/* Whether the GPU still answers; its error stays until the last context of the process on it is gone. `now` skips the
 * look that was taken a moment ago. */
CUresult simcu_check_device(struct simcu_device *device, bool now);
/* Drops the lock, sleeps until `until_ns` of CLOCK_MONOTONIC or until the GPU is lost, and takes the lock again. */
CUresult simcu_wait(struct simcu_device *device, uint64_t until_ns);
/* The device's work failed: its contexts are lost, and with MPS those of the other clients. */
void simcu_fault(struct simcu_device *device, CUresult result);
/* A number for the calling thread, not 0. */
uint64_t simcu_thread_id(void);
/* Marks the calling thread as one that runs host functions: it may not call the API. */
void simcu_enter_host_function(bool inside);

/* mps.c: what a process is when an MPS control daemon listens where CUDA_MPS_PIPE_DIRECTORY says. */
struct mps_device;
/* SUCCESS too when there is no daemon: then nothing is different. May wait for the servers of other users to end. */
CUresult simcu_mps_connect(void);
/* The server's devices in its order, or NULL. */
const struct mps_device *simcu_mps_devices(size_t *count);
/* Fills in what MPS says of a device that was just found. */
void simcu_mps_describe(struct simcu_device *device, const char *uuid);
/* Before the process's first context on a device, and after its last. */
CUresult simcu_mps_attach(struct simcu_device *device);
void simcu_mps_detach(struct simcu_device *device);
/* Hears what the server says without waiting; devices that it lost are broken from then on. */
void simcu_mps_listen(void);
void simcu_mps_report_fault(struct simcu_device *device, CUresult result);
void simcu_mps_forget(void);
/* Threads of the device that this process may use, 1000: all. */
uint32_t simcu_mps_permille(void);
/* The pid of the server, as it sees itself; 0: this process is no client. */
int32_t simcu_mps_server(void);

/* visible.c: pure. */
struct simcu_instance {
	char uuid[48]; /* "MIG-..." */
	char path[80]; /* "MIG-GPU-.../1/0": the name it has had first */
};
struct simcu_candidate {
	const char *uuid;
	uint64_t speed;   /* any scale */
	bool partitioned; /* in MIG mode: only an instance of it can be used */
	const struct simcu_instance *instances;
	size_t instance_count;
};
/* Fills `order` with positions in `candidates` as CUDA_VISIBLE_DEVICES (`visible`, NULL: unset) and CUDA_DEVICE_ORDER
 * (`by_bus`) say; returns how many. The list ends at the first entry that is wrong, ambiguous or repeated. A program
 * sees one MIG instance and nothing else, or GPUs: when an instance was chosen the first position is its GPU's and
 * `*instance` its own position there, else that is -1. */
size_t simcu_visible_devices(const char *visible, bool by_bus, const struct simcu_candidate *candidates, size_t count,
			     unsigned *order, int *instance);

/* device.c */
struct simcu_sm {
	int threads, blocks, shared, shared_optin;
};
/* Limits of one multiprocessor, by compute capability. */
struct simcu_sm simcu_sm_of(const struct sim_model *model);
/* What PCI Express and the GPU's own memory move, in bytes per second. */
uint64_t simcu_pcie_rate(const struct sim_model *model);
uint64_t simcu_memory_rate(const struct sim_model *model);
/* Fills in what follows from the device's GPU and, if it is one, its instance. */
void simcu_describe(struct simcu_device *device, const struct sim_mig *mig);

/* context.c */
CUresult simcu_current(struct simcu_context **context);
/* The primary context if active, or any that is alive, for calls that name a device only; NULL: none. */
struct simcu_context *simcu_context_on(struct simcu_device *device);

/* memory.c */
struct simcu_allocation *simcu_find(uint64_t address);
/* The allocation that holds all of address .. address + bytes, or NULL. */
struct simcu_allocation *simcu_find_range(uint64_t address, uint64_t bytes);
void simcu_index(struct simcu_allocation *allocation);
void simcu_unindex(struct simcu_allocation *allocation);
CUresult simcu_allocate(struct simcu_context *context, uint64_t bytes, enum simcu_memory memory, unsigned flags,
			struct simcu_allocation **allocation);
void simcu_free(struct simcu_allocation *allocation);
/* Takes memory of the GPU for this process, in whole chunks; small pieces share chunks. */
CUresult simcu_charge(struct simcu_device *device, uint64_t bytes);
void simcu_uncharge(struct simcu_device *device, uint64_t bytes);

/* pool.c */
void simcu_pool_forget(struct simcu_pool *pool, uint64_t bytes);
void simcu_pools_reset(struct simcu_device *device);

/* stream.c */
struct simcu_stream *simcu_stream_new(struct simcu_context *context, unsigned flags, int priority);
void simcu_stream_delete(struct simcu_stream *stream);
/* What a NULL stream means to the calling thread until this is called again: its own default stream, or the legacy
 * one. Returns what it meant before. */
bool simcu_set_per_thread(bool per_thread);
/* The stream behind a handle (NULL and the two special ones too), or NULL. */
struct simcu_stream *simcu_stream_of(struct simcu_context *context, CUstream handle);
/* Waits for host functions in the way; then *start is when work that is submitted now can begin. */
CUresult simcu_stream_start(struct simcu_stream *stream, uint64_t *start);
/* Work without a place on the GPU's timeline (copies): `duration_ns` after everything before it. */
CUresult simcu_stream_work(struct simcu_stream *stream, uint64_t duration_ns);
CUresult simcu_stream_sync(struct simcu_stream *stream);
CUresult simcu_context_sync(struct simcu_context *context);

/* host.c: calls `function` or `callback` in a thread of its own at `due_ns`. */
void simcu_host_queue(struct simcu_stream *stream, uint64_t due_ns, CUhostFn function, CUstreamCallback callback,
		      void *user);

/* module.c */
void simcu_module_delete(struct simcu_module *module);
/* The kernel behind a CUfunction or a CUkernel, or NULL. */
struct simcu_kernel *simcu_kernel_of(const void *handle);

#endif
