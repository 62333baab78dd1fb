/* MIG on a simulated GPU: its mode, its GPU instances and the compute instances in them.
 *
 * Calls answer with the code that NVML gives for the same, for the rules are NVML's: IN_USE while something below an
 * instance is alive, INSUFFICIENT_RESOURCES when nothing of a profile fits any more, and so on. */
#ifndef GPUSHARE_SIM_MIG_H
#define GPUSHARE_SIM_MIG_H

#include "gpushare/nvml.h"
#include "sim/mig_models.h"
#include "sim/state.h"

struct sim_mig_ci {
	uint64_t serial;        /* tells instances of one id apart; 0: no instance */
	uint64_t busy_ns_total; /* work done so far by all clients, also those that are gone */
	uint64_t busy_until_ns; /* end of its timeline */
	uint32_t profile;       /* NVML_COMPUTE_INSTANCE_PROFILE_* */
	uint32_t start, size;   /* in compute slices of its GPU instance */
	uint32_t reserved;
};

struct sim_mig_gi {
	uint64_t serial;
	uint32_t profile;     /* position in the model's table */
	uint32_t start, size; /* in memory slices of the GPU */
	uint32_t reserved;
	struct sim_mig_ci cis[SIM_MIG_COMPUTES_MAX]; /* by id */
};

/* All instances of a GPU. */
struct sim_mig {
	uint64_t serials;                             /* given out so far */
	struct sim_mig_gi gis[SIM_MIG_INSTANCES_MAX]; /* by id */
};

/* Which of the free places a new instance takes when the caller names none. */
enum sim_mig_choice {
	SIM_MIG_AS_DRIVER, /* where the fewest placements of profiles of its size and above are lost; what was seen of drivers */
	SIM_MIG_LOWEST,
	SIM_MIG_HIGHEST,
};

/* Names an instance. `serial` 0: whichever has the ids now. */
struct sim_mig_name {
	uint32_t gpu, gpu_instance, compute_instance;
	uint64_t serial;
};

/* A consistent copy. False: no such GPU, or one without MIG. Instances only exist while the GPU is in MIG mode. */
bool sim_mig_get(struct sim_node *node, uint32_t gpu, struct sim_mig *copy);

/* SUCCESS: the mode is taken, and *activation says whether it is in force or why not yet: IN_USE (clients on the GPU) or
 * RESET_REQUIRED; then it is pending until the GPU is reset. IN_USE: there are GPU instances; nothing changes. */
nvmlReturn_t sim_mig_set_mode(struct sim_node *node, uint32_t gpu, bool enable, nvmlReturn_t *activation);
/* `profile` is the position in the model's table; `start` NULL: `choice` decides. Fills in the ids and the serial. */
nvmlReturn_t sim_mig_create(struct sim_node *node, uint32_t gpu, uint32_t profile, const uint32_t *start,
			    enum sim_mig_choice choice, struct sim_mig_name *made);
nvmlReturn_t sim_mig_destroy(struct sim_node *node, const struct sim_mig_name *instance);
/* `instance` names the GPU instance, `profile` is NVML_COMPUTE_INSTANCE_PROFILE_*. */
nvmlReturn_t sim_mig_create_compute(struct sim_node *node, const struct sim_mig_name *instance, uint32_t profile,
				    const uint32_t *start, struct sim_mig_name *made);
nvmlReturn_t sim_mig_destroy_compute(struct sim_node *node, const struct sim_mig_name *compute);
/* Resets the board: all instances are gone and the pending mode is in force. EBUSY while it has clients. */
int sim_gpu_reset(struct sim_node *node, uint32_t gpu, struct gs_error *err);

/* A layout in words: "3g.40gb,1g.10gb@6", in the order of creation, with a start where wanted; "none": MIG mode and no
 * instances. */
#define SIM_MIG_LAYOUT_EMPTY "none"
/* Whether all profiles of the layout are the model's; not, whether they fit. */
int sim_mig_layout_check(const struct sim_model *board, const char *layout, struct gs_error *err);
/* Puts the GPU into MIG mode and makes the instances, each with one compute instance of all of it. What was made stays
 * when it fails. */
int sim_mig_layout_apply(struct sim_node *node, uint32_t gpu, const char *layout, struct gs_error *err);

/* Pure, on a copy. */

/* Bit per start where one more GPU instance of the profile fits (0 when the GPU has its `count` of them). */
uint32_t sim_mig_free_starts(const struct sim_mig_model *model, const struct sim_mig *mig, uint32_t profile);
/* How many more of the profile can be made if nothing else is. */
uint32_t sim_mig_remaining(const struct sim_mig_model *model, const struct sim_mig *mig, uint32_t profile);
/* The id that an instance in this place has. */
uint32_t sim_mig_id_of(uint32_t grid, uint32_t start, uint32_t size);
/* The same for compute instances in a GPU instance. */
uint32_t sim_mig_compute_free_starts(const struct sim_mig_gi *gi, const struct sim_mig_compute *compute);
uint32_t sim_mig_compute_remaining(const struct sim_mig_gi *gi, const struct sim_mig_compute *compute);

/* "MIG-..." of a compute instance: the same for the same place on the same board. */
void sim_mig_uuid(const struct sim_gpu *gpu, uint32_t gpu_instance, uint32_t compute_instance, char text[48]);
/* The instance with that UUID, in any of the forms that drivers have had (MIG-uuid, MIG-GPU-uuid/gi/ci); false: none. */
bool sim_mig_find(struct sim_node *node, const char *uuid, struct sim_mig_name *name);

/* Minor numbers of MIG's capability devices, as /proc/driver/nvidia-caps/mig-minors lists them. */
enum { SIM_MIG_CAP_CONFIG = 1, SIM_MIG_CAP_MONITOR = 2 };
/* compute_instance SIM_MIG_NONE: of the GPU instance. */
uint32_t sim_mig_cap_minor(uint32_t gpu_minor, uint32_t gpu_instance, uint32_t compute_instance);

/* The GPUs and instances that a container may use. With GPUSHARE_SIM_DEVICES=DIR (in a container: /dev) a process sees
 * the GPUs whose device node is there, and the instances of whom both capability nodes are; without it, all.
 * SIM_MIG_NONE: the whole GPU. */
bool sim_may_see(const struct sim_gpu *gpu, uint32_t gpu_instance, uint32_t compute_instance);
/* Whether the process may make, destroy and list instances: root, with the node of the capability "config". */
bool sim_may_partition(void);

#endif
