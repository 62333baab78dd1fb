/* Inside of the simulated node's state: the layout of DIR/state and the handle. Only sim/{state,clients,events,mig,root}.c
 * include this; everybody else goes through sim/state.h. */
#ifndef GPUSHARE_SIM_LAYOUT_H
#define GPUSHARE_SIM_LAYOUT_H

#include <assert.h>
#include <pthread.h>

#include "sim/mig.h"
#include "sim/state.h"

#define SIM_STATE_MAGIC 0x314D495348535047ull /* "GPSHSIM1" */
enum { SIM_STATE_VERSION = 4 };

struct sim_fault {
	char function[SIM_FUNCTION_NAME_SIZE];
	int32_t code;
	uint32_t count; /* uses left; 0: free cell */
};

struct sim_state {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* sizeof (struct sim_state) */
	uint64_t seed;
	uint64_t clients_inode; /* the DIR/clients that belongs to this state */
	char driver_version[32];
	uint32_t gpu_count;    /* slots ever used */
	uint32_t fault_count;  /* rules in use; read without the lock */
	uint32_t event_futex;  /* low half of event_sequence; waiters sleep on it */
	uint32_t boards;       /* boards ever plugged: feeds the next UUID */
	uint32_t client_slots; /* slots ever used: readers skip the rest */
	uint32_t reserved;
	uint64_t event_sequence;
	union {
		pthread_mutex_t lock; /* process-shared and robust */
		char lock_space[64];
	};
	struct sim_gpu gpus[SIM_GPUS_MAX];
	struct sim_busy gpu_busy[SIM_GPUS_MAX];
	struct sim_event events[SIM_EVENTS_MAX];
	struct sim_fault faults[SIM_FAULTS_MAX];
	struct sim_mig migs[SIM_GPUS_MAX];
	struct sim_client clients[SIM_CLIENTS_MAX];
};

/* Several builds of the libraries may meet in one node: a change of layout must come with a new version. */
static_assert(sizeof(struct sim_busy) == 768, "layout");
static_assert(sizeof(struct sim_gpu) == 520, "layout");
static_assert(sizeof(struct sim_client) == 1112, "layout");
static_assert(sizeof(struct sim_event) == 32, "layout");
static_assert(sizeof(struct sim_fault) == 88, "layout");
static_assert(offsetof(struct sim_state, lock) == 96, "layout");
static_assert(offsetof(struct sim_state, gpus) == 160, "layout");
static_assert(offsetof(struct sim_state, gpu_busy) == 16800, "layout");
static_assert(offsetof(struct sim_state, events) == 41376, "layout");
static_assert(offsetof(struct sim_state, faults) == 49568, "layout");
static_assert(sizeof(struct sim_mig) == 5168, "layout");
static_assert(offsetof(struct sim_state, migs) == 55200, "layout");
static_assert(offsetof(struct sim_state, clients) == 220576, "layout");
static_assert(sizeof(struct sim_state) == 1359264, "layout");

struct sim_node {
	struct sim_state *state;
	char *dir;
	char driver_version[32];    /* a copy: the mapping may be scribbled on */
	int clients_fd;             /* its description holds this handle's client locks; -1: lost in a fork */
	int owner_fd;               /* the creator's lock on DIR; -1: not the creator */
	bool mine[SIM_CLIENTS_MAX]; /* slots that this handle locks */
	struct sim_node *next;      /* all handles of the process, for fork */
};

/* The descriptor, which the variable's own cleanup then leaves alone. */
static inline int sim_take_fd(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

/* The state's lock. A holder that died is survived: the state is made consistent again first.
 * False when the lock itself is broken; then nothing may be touched. */
bool sim_lock(struct sim_node *node);
void sim_unlock(struct sim_node *node);

/* GPU slots in use, bounded whatever the file says. Under the lock. */
uint32_t sim_slots(const struct sim_state *state);

/* Under the lock: moves what clients of a GPU have run by `now_ns` from their queues to the histories. */
void sim_settle_gpu(struct sim_state *state, uint32_t gpu, uint64_t now_ns);
/* The same, and frees clients whose process died; that costs a system call for each client of others. */
void sim_sweep_gpu(struct sim_node *node, uint32_t gpu, uint64_t now_ns);
/* Under the lock: makes clients' cells safe to use after a holder died in the middle of a change. */
void sim_repair_clients(struct sim_state *state);
void sim_repair_events(struct sim_state *state);

/* Under the lock: a client on a whole GPU or anywhere on it (`any_instance`), on a GPU instance, or on a compute
 * instance of it. */
bool sim_has_clients(const struct sim_state *state, uint32_t gpu, uint32_t gpu_instance, uint32_t compute_instance);
/* The multiprocessors of a compute instance, per mille of the GPU's. */
uint32_t sim_mig_share_permille(const struct sim_gpu *gpu, const struct sim_mig_gi *gi, const struct sim_mig_ci *ci);

/* pids.c. Each handle that holds a slot tells which process it is; the process of a slot, as this one sees it: the
 * number that it gave itself where the kernel does not tell. The file is made with the node, before any process
 * joins. */
void sim_pid_take(const struct sim_node *node, int slot);
void sim_pid_drop(const struct sim_node *node, int slot);
int32_t sim_pid_of(const struct sim_node *node, int slot);
int sim_pids_create(int dir_fd, const char *dir, struct gs_error *err);

/* The files under DIR/root. */
int sim_root_create(const char *dir, const struct sim_state *state, struct gs_error *err);
int sim_root_add_gpu(const char *dir, const struct sim_state *state, const struct sim_gpu *gpu, struct gs_error *err);
void sim_root_remove_gpu(const char *dir, const struct sim_gpu *gpu);
/* Of these, what sysfs shows of a board. */
enum { SIM_PCI_ADDRESS_SIZE = 32 };
void sim_pci_address(const struct sim_gpu *gpu, char text[SIM_PCI_ADDRESS_SIZE]);
int sim_pci_add(const char *dir, const struct sim_gpu *gpu, struct gs_error *err);
void sim_pci_remove(const char *dir, const struct sim_gpu *gpu);
/* Removes PATH and all under it, following no links; a missing path is fine. */
int sim_remove_tree(const char *path, struct gs_error *err);
/* MIG's capability files and device nodes; what cannot be written is left out, as in a container that sees only some. */
void sim_root_set_mig(const char *dir, const struct sim_gpu *gpu, bool enabled);
void sim_root_add_instance(const char *dir, const struct sim_gpu *gpu, uint32_t gpu_instance,
			   uint32_t compute_instance);
void sim_root_remove_instance(const char *dir, const struct sim_gpu *gpu, uint32_t gpu_instance,
			      uint32_t compute_instance);

#endif
