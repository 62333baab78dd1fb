/* Single steps on a GPU: instances made and destroyed, the mode set. No step undoes another; see gpu/mig_apply.h. */
#ifndef GPUSHARE_GPU_MIG_INSTANCE_H
#define GPUSHARE_GPU_MIG_INSTANCE_H

#include "mig/mig.h"
#include "mig/mig_record.h"

/* Creates the GPU instance in its place, with its compute instances. A failure may leave it with some of them. */
int gs_mig_create_instance(const struct gs_nvml *nvml, nvmlDevice_t device, const struct gs_mig_record_instance *what,
			   struct gs_error *err);
/* Destroys the GPU instance `id` with all its compute instances, if it is still the one that is meant. A failure may
 * leave it with some of them. */
int gs_mig_destroy_instance(const struct gs_nvml *nvml, nvmlDevice_t device, uint32_t id,
			    const struct gs_mig_record_instance *what, struct gs_error *err);
/* A compute instance of `slices` at compute slice `start`. */
int gs_mig_create_compute(const struct gs_nvml *nvml, nvmlDevice_t device, uint32_t instance, uint8_t slices,
			  uint8_t start, struct gs_error *err);
int gs_mig_destroy_compute(const struct gs_nvml *nvml, nvmlDevice_t device, uint32_t instance, uint32_t compute,
			   struct gs_error *err);

/* `activation` is NVML_SUCCESS when the mode is in force; NVML_ERROR_IN_USE or NVML_ERROR_RESET_REQUIRED when it is
 * pending until the GPU is reset. */
int gs_mig_set_mode(const struct gs_nvml *nvml, nvmlDevice_t device, bool enabled, nvmlReturn_t *activation,
		    struct gs_error *err);

/* As in the layout: what an instance is, without its id. */
struct gs_mig_record_instance gs_mig_instance_as_record(const struct gs_mig_board *board, size_t position);

#endif
