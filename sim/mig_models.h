/* What the simulator knows of MIG on each GPU model: one table of profiles a model.
 *
 * Where nvidia-smi's output of a real board was to be had the figures are that board's; docs/simulator.md lists those
 * that are guesses. */
#ifndef GPUSHARE_SIM_MIG_MODELS_H
#define GPUSHARE_SIM_MIG_MODELS_H

#include "sim/models.h"

/* A GPU instance profile: how large a part of the board an instance of it is. */
struct sim_mig_profile {
	uint32_t number;  /* NVML_GPU_INSTANCE_PROFILE_*, which asks for it */
	uint32_t id;      /* which everything else wants: 19 is 1g.10gb on an A100-80GB */
	const char *name; /* "1g.10gb" */
	uint32_t slices;  /* compute slices */
	uint32_t size;    /* memory slices: what it takes of the board's grid */
	uint32_t starts;  /* bit per memory slice that it may begin at */
	uint32_t count;   /* at most this many on a board */
	uint32_t memory_mib;
	uint32_t multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
	uint32_t capabilities; /* NVML_GPU_INSTANCE_PROFILE_CAPS_* */
	const char *order;     /* starts as hex digits that newer drivers take first if free; NULL: as by the rule */
};

struct sim_mig_model {
	const char *spec_name;
	uint32_t grid;                      /* memory slices */
	uint32_t devices;                   /* most compute instances that NVML lists */
	uint32_t multiprocessors_per_slice; /* of compute instances that are a part of their GPU instance */
	size_t profile_count;
	const struct sim_mig_profile *profiles; /* as nvidia-smi lists them */
};

/* NULL: the model has no MIG. */
const struct sim_mig_model *sim_mig_model_of(const struct sim_model *model);
/* By name ("1g.10gb"); NULL: the model has none of that name. */
const struct sim_mig_profile *sim_mig_profile_by_name(const struct sim_mig_model *model, const char *name);

/* A compute instance profile within a GPU instance's; its number is its id too. */
struct sim_mig_compute {
	uint32_t slices;
	uint32_t count;  /* at most this many in a GPU instance */
	uint32_t starts; /* bit per compute slice that it may begin at */
	uint32_t multiprocessors;
	char name[48]; /* "1c.3g.40gb", or the GPU instance's name when it takes all of it */
};
enum { SIM_MIG_COMPUTE_PROFILES = 9 };
/* The first driver branch that follows `order`; where it changed is not known better. */
enum { SIM_MIG_ORDER_BRANCH = 560 };

/* False: a GPU instance of this profile has no compute instances of that one. */
bool sim_mig_compute_of(const struct sim_mig_model *model, const struct sim_mig_profile *profile, uint32_t number,
			struct sim_mig_compute *compute);

#endif
