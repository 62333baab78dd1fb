/* Work of others that needs NVML. */
#include <stdlib.h>

#include "base/alloc.h"
#include "monitor/gpus_internal.h"

struct errand {
	struct gpus *gpus;
	const struct gs_nvml *nvml;
	gpus_work_run *run;
	void (*done)(void *user);
	void *user;
};

static void run_errand(void *user)
{
	struct errand *errand = user;
	if (errand->nvml)
		gs_nvml_hold(errand->nvml);
	errand->run(errand->nvml, errand->user);
	if (errand->nvml)
		gs_nvml_release(errand->nvml);
}

static void after_errand(void *user)
{
	struct errand *errand = user;
	struct gpus *gpus = errand->gpus;
	errand->done(errand->user);
	free(errand);
	gpus->errands--;
	if (gpus->stopping)
		gpus_free_when_stopped(gpus);
}

void gpus_work(struct gpus *gpus, enum gpus_lane lane, gpus_work_run *run, void (*done)(void *user), void *user)
{
	struct errand *errand = gs_calloc(1, sizeof *errand);
	*errand = (struct errand){.gpus = gpus, .nvml = gpus->nvml, .run = run, .done = done, .user = user};
	gpus->errands++;
	lane_run(gpus->errand_lanes[lane],
		 &(struct lane_work){.run = run_errand, .done = after_errand, .user = errand});
}
