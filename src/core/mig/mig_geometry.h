/* How one GPU can be divided with MIG, as plain values: the profiles that its driver offers, and the instances that it
 * has.
 *
 * All of it comes from NVML at run time. Nothing is known by name: "1g.10gb" is id 19 on an A100 with 80 GB and id 15
 * on one with 40 GB, sizes in names are rounded, and they differ between driver versions. */
#ifndef GPUSHARE_CORE_MIG_GEOMETRY_H
#define GPUSHARE_CORE_MIG_GEOMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	GS_MIG_SLICES_MAX = 12,    /* memory slices: 4 (A30), 8 (A100 to B200), 12 (RTX PRO 6000) */
	GS_MIG_PROFILES_MAX = 32,  /* NVML numbers 18 kinds so far */
	GS_MIG_INSTANCES_MAX = 16, /* GPU instances on one GPU; each takes a slice or more */
	GS_MIG_COMPUTE_MAX = 8,    /* compute instances in one GPU instance */
	GS_MIG_NAME_SIZE = 48,
	GS_MIG_HOLDER_SIZE = 96,
	GS_MIG_UNKNOWN = 0xff, /* a profile that the driver does not list */
};

/* Memory slices start .. start + size - 1. */
struct gs_mig_placement {
	uint8_t start, size;
};

/* The engines of a profile, beside its slices; in this order everywhere. */
enum gs_mig_engine {
	GS_MIG_COPY,
	GS_MIG_DECODER,
	GS_MIG_ENCODER,
	GS_MIG_JPEG,
	GS_MIG_OFA, /* optical flow */
	GS_MIG_ENGINES,
};

struct gs_mig_profile {
	uint32_t id;                 /* "ID" of nvidia-smi and of every NVML call but one, such as 19 */
	uint32_t kind;               /* what that one takes: the argument of nvmlDeviceGetGpuInstanceProfileInfo */
	char name[GS_MIG_NAME_SIZE]; /* without "MIG ": "1g.10gb+me" */
	uint32_t compute_slices;     /* NVML's sliceCount */
	uint32_t max_count;          /* NVML's instanceCount */
	uint32_t multiprocessors;
	uint32_t engines[GS_MIG_ENGINES];
	uint64_t memory_bytes;
	bool graphics; /* NVML_GPU_INSTANCE_PROFILE_CAPS_GFX */
	struct gs_mig_placement placements[GS_MIG_SLICES_MAX];
	uint8_t placement_count;
};

/* The profiles that one GPU offers. Fill them, in any order, then call gs_mig_gpu_complete, which orders them from
 * small to large, as nvidia-smi lists them. */
struct gs_mig_gpu {
	struct gs_mig_profile profiles[GS_MIG_PROFILES_MAX];
	uint8_t profile_count;
	/* From gs_mig_gpu_complete: */
	uint8_t slice_count;              /* memory slices, the furthest end of a placement */
	uint32_t engines[GS_MIG_ENGINES]; /* in all, where instances divide them; 0: no limit is known */
	struct gs_mig_open {
		uint16_t mask;   /* a place that some profile can have */
		uint16_t weight; /* its size, for each kind of place that it is of */
	} open[GS_MIG_SLICES_MAX * (GS_MIG_SLICES_MAX + 1) / 2];
	uint8_t open_count;
};

struct gs_mig_compute {
	uint32_t id;
	uint8_t start, slices; /* compute slices of the instance, its first and how many: 1 for 1c.3g.40gb */
	bool busy;             /* a process runs on it, or it is allocated to a pod */
};

struct gs_mig_instance {
	uint32_t id;     /* NVML's GPU instance id; encodes the place, so it is no count */
	uint8_t profile; /* position in gs_mig_gpu.profiles, or GS_MIG_UNKNOWN */
	struct gs_mig_placement place;
	bool busy; /* the instance, or one of its compute instances; if none of those is marked, all of them count */
	char holder[GS_MIG_HOLDER_SIZE]; /* who, for sentences: "process 4711 (python)"; may be empty */
	struct gs_mig_compute compute[GS_MIG_COMPUTE_MAX];
	uint8_t compute_count;
};

/* The instances that a GPU has now. Start with {0}. */
struct gs_mig_layout {
	struct gs_mig_instance instances[GS_MIG_INSTANCES_MAX];
	uint8_t count;
};

/* Checks the driver's values and fills in the derived ones. An error (GS_ERROR_NVML) leaves a GPU that must not be
 * used: more profiles or slices than there can be, a placement that is empty, two profiles with one id, no profile. */
int gs_mig_gpu_complete(struct gs_mig_gpu *gpu, struct gs_error *err);

/* Position of the (first) profile, or -1. Names are matched exactly; "MIG 1g.10gb", as nvidia-smi prints it, will do
 * too. */
int gs_mig_profile_by_id(const struct gs_mig_gpu *gpu, uint32_t id);
int gs_mig_profile_by_name(const struct gs_mig_gpu *gpu, const char *name);

/* The name of a compute instance, as NVIDIA writes it: "1c.3g.40gb", or "3g.40gb" when it takes the whole instance.
 * Returns `text`. */
const char *gs_mig_compute_name(const struct gs_mig_profile *profile, uint32_t slices, char text[GS_MIG_NAME_SIZE]);

/* Places for compute instances of `sizes` (compute slices) in a GPU instance of `slices`, beside those in `taken` (bit
 * n is compute slice n). There are compute instances of 1, 2 and 4 slices, of 3 in 7, and of all; each begins at a
 * multiple of the next power of two. That gives the counts that NVIDIA documents, and the places that nvidia-smi
 * prints. false: there are none; `starts` is undefined then. */
bool gs_mig_compute_arrange(uint32_t slices, uint32_t taken, const uint8_t *sizes, size_t count, uint8_t *starts);

/* Bit n is memory slice n. */
uint32_t gs_mig_place_mask(struct gs_mig_placement place);
uint32_t gs_mig_layout_mask(const struct gs_mig_layout *layout);

/* How much can still be chosen where `taken` slices are: for each kind of place (profiles that share their placements
 * are one) the places still free, weighted by their size. Larger is better. */
uint32_t gs_mig_open_places(const struct gs_mig_gpu *gpu, uint32_t taken);

/* How many more instances of the profile fit beside what there is: free places that do not overlap one another, at
 * most what max_count and the engines leave. */
uint32_t gs_mig_room(const struct gs_mig_gpu *gpu, const struct gs_mig_layout *layout, uint8_t profile);

#endif
