/* GPUs as MIG sees them, read from NVML into plain values: what each can be divided into, how it is divided, and which
 * processes run where. */
#ifndef GPUSHARE_MIG_MIG_H
#define GPUSHARE_MIG_MIG_H

#include "core/share/inventory.h"
#include "core/mig/mig_config.h"
#include "core/mig/mig_geometry.h"
#include "gpu/nvml.h"

enum { GS_MIG_WHOLE_GPU = 0xffffffff /* NVML's instance ids outside MIG: all bits set */ };

struct gs_mig_process {
	int pid;
	uint32_t instance, compute; /* ids, or GS_MIG_WHOLE_GPU */
	bool memory_valid;
	uint64_t memory_bytes;
	char who[GS_MIG_HOLDER_SIZE]; /* "process 4711 (python), pod web-0" */
};

struct gs_mig_board {
	char uuid[GS_UUID_SIZE], name[GS_GPU_NAME_SIZE], pci_bus_id[GS_PCI_BUS_ID_SIZE];
	unsigned index; /* NVML's */
	uint32_t pci_device, pci_subsystem;
	int compute_major;           /* CUDA's compute capability: 8 is Ampere, 9 Hopper; 0 unknown */
	char problem[256];           /* why the GPU can't be looked at; then nothing below is known. "" when it can */
	bool capable;                /* of MIG */
	bool enabled, pending;       /* MIG mode now, and after a reset */
	bool profiles_known;         /* false: the driver does not tell them while MIG is off */
	struct gs_mig_gpu gpu;       /* complete, when profiles_known */
	struct gs_mig_layout layout; /* empty unless enabled; busy and holder say what `processes` do */
	/* Of each instance in the layout, and of its compute instances: the driver's id of the profile, which is more than
	 * the position where that is unknown, and "MIG-..." of each compute instance. */
	uint32_t profile_ids[GS_MIG_INSTANCES_MAX];
	char uuids[GS_MIG_INSTANCES_MAX][GS_MIG_COMPUTE_MAX][GS_UUID_SIZE];
	bool processes_known;
	struct gs_mig_process *processes; /* ordered by pid; owned */
	size_t process_count;
};

/* Ordered by NVML's index, and as many as NVML counts. */
struct gs_mig_boards {
	struct gs_mig_board *items;
	size_t count;
};

/* A GPU that can't be read has `problem`; this fails only when NVML can't even count GPUs. `proc` is where /proc is
 * mounted. Listing instances needs root, or the right to /dev/nvidia-caps/nvidia-cap1. */
int gs_mig_read(const struct gs_nvml *nvml, const char *proc, struct gs_mig_boards *boards, struct gs_error *err);
void gs_mig_boards_free(struct gs_mig_boards *boards);

/* One GPU, without its index and without processes, so that nothing of `board` need be freed. The error has
 * NVML_ERROR_NOT_FOUND when no GPU of this node has the UUID. */
int gs_mig_read_one(const struct gs_nvml *nvml, const char *uuid, nvmlDevice_t *device, struct gs_mig_board *board,
		    struct gs_error *err);

/* Mode and layout of a GPU anew, without processes and without UUIDs; the rest of `board` stays as it is. */
int gs_mig_read_layout(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_mig_board *board,
		       struct gs_error *err);
/* The processes anew, and busy and holder from them. Not being told is no failure: processes_known says it. */
void gs_mig_read_processes(const struct gs_nvml *nvml, const char *proc, nvmlDevice_t device,
			   struct gs_mig_board *board);

/* Whether modes and instances are the same; processes do not count. */
bool gs_mig_same_layout(const struct gs_mig_board *a, const struct gs_mig_board *b);

/* Marks the instance with this UUID as in use by `who`, besides what runs there: allocated to a container, say. A GPU's UUID
 * stands for all instances that it has. false: there is none. */
bool gs_mig_mark_busy(struct gs_mig_boards *boards, const char *uuid, const char *who);

/* "process 4711 (python), pod web-0": from PROC/PID. In a container of Kubernetes the pod's name is its host name, else
 * the container's id or the shares that it was given are said, as far as known. */
void gs_mig_describe_process(const char *proc, int pid, char *text, size_t size);

/* "GPU 0", for messages about more than one. */
const char *gs_mig_board_label(const struct gs_mig_board *board, char text[32]);

#endif
