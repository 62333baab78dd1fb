/* One attempt to divide the node's GPUs as a named MIG configuration says. Blocks; runs on a worker thread. */
#ifndef GPUSHARE_NODE_MIG_JOB_H
#define GPUSHARE_NODE_MIG_JOB_H

#include <stdbool.h>

#include "base/vec.h"
#include "mig/mig_apply.h"

enum mig_job_outcome {
	MIG_JOB_DONE,  /* the GPUs are as wanted; `text` says what was done, or that nothing was to do */
	MIG_JOB_NEEDS, /* nothing was changed: `devices` must be withdrawn first */
	MIG_JOB_WAITS, /* done, but for GPUs whose mode is noted for the next restart: `devices`, and `text` names them */
	MIG_JOB_BLOCKED, /* nothing was changed: `text` says who is in the way, `devices` are what they hold */
	MIG_JOB_FAILED,  /* everything is as it was; trying again may help */
	MIG_JOB_REFUSED, /* nothing was changed, and trying again is no use before something else changes */
};

struct mig_job_promise {
	char *device, *who;
};

struct mig_job {
	/* What to do. Owned by the caller, as the rest. */
	const char *name;        /* of the configuration */
	const char *config_path; /* mig-parted's file; NULL or missing: the configurations that the hardware gives */
	const char *state_dir, *proc;
	GS_VEC(char *) withdrawn;                /* UUIDs that are not handed out now */
	GS_VEC(struct mig_job_promise) promised; /* what is in use though perhaps no process shows it */
	gs_mig_reset *reset; /* NULL: a GPU that needs a reset waits for one, or for a restart of the machine */
	const char *refused; /* why one was refused earlier; NULL: none was */

	/* What came of it. */
	enum mig_job_outcome outcome;
	char *text;
	char *refusal;          /* why a reset was refused now; NULL: none was */
	GS_VEC(char *) devices; /* UUIDs */
};

/* `nvml` NULL: the driver is not there yet, which blocks. */
void mig_job_run(struct mig_job *job, const struct gs_nvml *nvml);
/* Frees the lists and the text, and empties the job. */
void mig_job_free(struct mig_job *job);

#endif
