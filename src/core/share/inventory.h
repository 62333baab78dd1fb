/* The hardware of a node, as plain values: GPUs, the devices shares hang on, and how GPUs are linked. */
#ifndef GPUSHARE_CORE_INVENTORY_H
#define GPUSHARE_CORE_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	GS_UUID_SIZE = 96,       /* NVML_DEVICE_UUID_V2_BUFFER_SIZE */
	GS_GPU_NAME_SIZE = 96,   /* NVML_DEVICE_NAME_V2_BUFFER_SIZE */
	GS_PCI_BUS_ID_SIZE = 32, /* NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE */
	GS_GPUS_MAX = 64,
	GS_DEVICES_MAX = 1024,
	GS_GPU_PROBLEM_SIZE = 160,
};

struct gs_gpu {
	char uuid[GS_UUID_SIZE];             /* "GPU-..." */
	char name[GS_GPU_NAME_SIZE];         /* "NVIDIA A100-SXM4-80GB" */
	char pci_bus_id[GS_PCI_BUS_ID_SIZE]; /* "00000000:3B:00.0", upper case, as NVML prints it */
	unsigned index;                      /* NVML's index */
	int minor;                           /* /dev/nvidia<minor>; -1 unknown */
	uint64_t memory_bytes;
	int numa_node; /* -1 unknown */
	int compute_major, compute_minor;
	bool mig_capable;
	bool mig_enabled;
	bool mig_unknown;                  /* whether MIG is enabled could never be read */
	int compute_mode;                  /* nvmlComputeMode_t: 0 default, 2 prohibited, 3 one process; -1 unknown */
	char problem[GS_GPU_PROBLEM_SIZE]; /* what could not be read of it last, and why; "" */
};

/* A GPU that is there and can't be read so far that it can be published. */
struct gs_unread_gpu {
	unsigned index;
	char problem[GS_GPU_PROBLEM_SIZE];
};

/* A GPU, or a MIG instance of one. Nothing above core asks which. */
struct gs_device {
	char uuid[GS_UUID_SIZE]; /* "GPU-..." or "MIG-..." */
	char index[16];          /* "0" or "0:1", as NVIDIA's device plugin numbers them */
	uint32_t gpu;            /* position in gs_inventory.gpus */
	bool mig;
	char mig_profile[32];                    /* "1g.10gb", "1c.3g.40gb", "1g.10gb+me"; empty for a GPU */
	uint32_t gpu_instance, compute_instance; /* NVML's ids, as in events and process lists; UINT32_MAX for a GPU */
	uint64_t memory_bytes;
	/* /dev/nvidia-caps/nvidia-cap<n> of the GPU instance and the compute instance, from
	 * /proc/driver/nvidia-caps/mig-minors; 0: none or unknown (1 and 2 are the driver's own). */
	unsigned gi_cap, ci_cap;
};

/* Ordered by NVML index. Every GPU has a device of its own, also one with MIG enabled (the plan chooses which devices
 * are published); its MIG devices follow it. `link_score[a * gpu_count + b]` is how well two GPUs talk: NVIDIA's pair
 * scores (cross-CPU 10, same CPU 20, host bridge 30, several switches 40, one switch 50, same board 60, plus 100 for
 * each NVLink); 0 on the diagonal; NULL: not known. Owns its arrays. */
struct gs_inventory {
	struct gs_gpu *gpus;
	size_t gpu_count;
	struct gs_device *devices;
	size_t device_count;
	uint32_t *link_score;
	struct gs_unread_gpu *unread; /* by index */
	size_t unread_count;
	int cuda_version; /* of the driver, 12040 for CUDA 12.4; 0 unknown */
};

/* Frees the arrays and leaves an empty inventory. */
void gs_inventory_free(struct gs_inventory *inventory);
/* Deep copy; what `to` held before is not freed. */
void gs_inventory_copy(struct gs_inventory *to, const struct gs_inventory *from);
/* Whether both describe the same hardware: if so, plans made from them are the same. What could not be read of a GPU for
 * now is no part of it. */
bool gs_inventory_equal(const struct gs_inventory *a, const struct gs_inventory *b);
/* Takes over what could not be read of the GPUs of an equal inventory. */
void gs_inventory_take_problems(struct gs_inventory *to, const struct gs_inventory *from);
bool gs_inventory_has(const struct gs_inventory *inventory, const char *uuid);

#endif
