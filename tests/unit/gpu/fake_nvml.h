/* A table of NVML calls over a few made-up GPUs, where any call can be made to fail. */
#ifndef GPUSHARE_TESTS_FAKE_NVML_H
#define GPUSHARE_TESTS_FAKE_NVML_H

#include <pthread.h>
#include <stdbool.h>

#include "gpu/nvml.h"

enum { FAKE_GPUS_MAX = 8, FAKE_LINKS = 4, FAKE_PROCESSES_MAX = 16, FAKE_EVENTS_MAX = 16, FAKE_MIGS_MAX = 7 };

/* A place for a MIG device. */
struct fake_mig {
	bool there;
	char uuid[96], name[96];
	uint32_t gpu_instance, compute_instance;
	nvmlDeviceAttributes_t attributes;
};

struct fake_gpu {
	char uuid[96], name[96], bus_id[32];
	uint32_t minor;
	bool lost;                    /* every call on it answers GPU_IS_LOST */
	_Atomic bool hangs;           /* every call on it returns when it does not any more */
	bool no_memory;               /* as GB10: no memory of its own */
	int numa_node;                /* of the memory affinity */
	char remote[FAKE_LINKS][32];  /* bus id at the other end of a link; "" inactive */
	nvmlGpuTopologyLevel_t level; /* towards every other GPU: the farther one counts */
	uint32_t process_count;       /* compute processes */
	nvmlProcessInfo_t processes[FAKE_PROCESSES_MAX];
	uint32_t recovery_action;
	bool on_fabric, is_virtual;
	bool registered;
	bool mig_enabled;
	struct fake_mig migs[FAKE_MIGS_MAX];
};

struct fake {
	struct fake_gpu gpus[FAKE_GPUS_MAX];
	struct fake_gpu *order[FAKE_GPUS_MAX]; /* NVML's list */
	uint32_t count;
	bool count_lies; /* lists claim more than there was room for */

	pthread_mutex_t lock; /* for what follows: the watch has a thread */
	pthread_cond_t changed;
	unsigned calls;        /* so far */
	unsigned fail_call;    /* the how-manieth call fails; 0: none */
	const char *fail_name; /* or every call of this function; NULL: none */
	nvmlReturn_t fail_code;
	unsigned fail_times; /* uses of fail_name left; 0: for ever */
	nvmlEventData_t events[FAKE_EVENTS_MAX];
	unsigned event_count, event_taken;
	unsigned sets_made, sets_freed, waits;
	bool mig_events; /* the driver tells changes of MIG layouts */
	bool hurry;      /* waits answer TIMEOUT at once */
};

extern struct fake fake;

/* `count` healthy GPUs, no faults. */
void fake_reset(uint32_t count);
void fake_table(struct gs_nvml *nvml);
nvmlDevice_t fake_handle(uint32_t gpu);
/* Turns MIG on and puts a device of `slices` in a place; its UUID is made of the GPU, the place and `generation`. */
struct fake_mig *fake_add_mig(uint32_t gpu, uint32_t place, uint32_t slices, unsigned generation);
void fake_event(nvmlDevice_t device, uint64_t type, uint64_t data);
void fake_mig_event(nvmlDevice_t device, uint64_t type, uint64_t data, uint32_t gpu_instance,
		    uint32_t compute_instance);
/* Ends the wait that is under way, and all that come. */
void fake_hurry(void);

#endif
