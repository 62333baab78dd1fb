/* A table of NVML calls over A100s with MIG that live in memory shared with child processes, so that a process that is
 * killed half-way leaves what it did. Any call can fail, kill its process, or let somebody else act first. */
#ifndef GPUSHARE_TESTS_FAKE_MIG_H
#define GPUSHARE_TESTS_FAKE_MIG_H

#include "mig/mig.h"

enum { FAKE_MIG_GPUS = 8 };

struct fake_mig_compute {
	uint32_t serial; /* tells the instances of a place apart; 0: none is there */
	uint32_t kind, start, size;
	int pid; /* of the process on it; 0: none */
};

struct fake_mig_instance {
	uint32_t serial;
	uint32_t profile; /* position */
	uint32_t start;
	struct fake_mig_compute computes[GS_MIG_COMPUTE_MAX];
};

struct fake_mig_gpu {
	char uuid[96];
	bool enabled, pending, needs_reset;
	int client;                             /* a process on the GPU outside MIG; 0: none */
	struct fake_mig_instance instances[16]; /* by id */
};

struct fake_mig {
	struct fake_mig_gpu gpus[FAKE_MIG_GPUS];
	uint32_t count, serials;
	uint32_t calls;             /* so far */
	uint32_t creates, destroys; /* of GPU instances, so far */
	uint32_t fail_call;         /* the how-manieth call fails; 0: none */
	bool fail_on;               /* and all after it */
	nvmlReturn_t fail_code;
	uint32_t kill_call; /* the how-manieth call kills the process */
	uint32_t hook_call; /* before this one, `hook` is called */
	void (*hook)(void);
	uint32_t hidden_profile; /* id of one that the driver does not list; 0: none */
	bool old_driver;         /* no versioned calls, no compute placement, profiles only with MIG on */
};

extern struct fake_mig *fake_mig;
extern struct gs_mig_gpu fake_mig_profiles; /* as the planner knows them */

/* `count` GPUs with MIG on, and no faults. */
void fake_mig_reset(uint32_t count);
void fake_mig_table(struct gs_nvml *nvml);
/* "1g.10gb@0 3g.40gb@4", with compute instances that are not the whole as "3g.40gb@4(1@0,1@1)". */
void fake_mig_set(uint32_t gpu, const char *layout);
/* The same form, "off" without MIG; in a static buffer of which there are four. */
const char *fake_mig_text(uint32_t gpu);
/* The instance that begins at a slice, or NULL. */
struct fake_mig_instance *fake_mig_at(uint32_t gpu, uint32_t start);

#endif
