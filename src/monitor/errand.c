/* Work of others that needs NVML. */
#include <stdlib.h>

#include "base/alloc.h"
#include "monitor/gpus_internal.h"

struct errand {
	uv_work_t work;
	struct gpus *gpus;
	const struct gs_nvml *nvml;
	gpus_work_run *run;
	void (*done)(void *user);
	void *user;
};

static void run_errand(uv_work_t *work)
{
	struct errand *errand = work->data;
	if (errand->nvml)
		gs_nvml_hold(errand->nvml);
	errand->run(errand->nvml, errand->user);
	if (errand->nvml)
		gs_nvml_release(errand->nvml);
}

static void after_errand(uv_work_t *work, int status)
{
	struct errand *errand = work->data;
	struct gpus *gpus = errand->gpus;
	errand->done(errand->user);
	free(errand);
	gpus->errands--;
	if (gpus->stopping)
		gpus_free_when_stopped(gpus);
}

void gpus_work(struct gpus *gpus, gpus_work_run *run, void (*done)(void *user), void *user)
{
	struct errand *errand = gs_calloc(1, sizeof *errand);
	*errand = (struct errand){.gpus = gpus, .nvml = gpus->nvml, .run = run, .done = done, .user = user};
	errand->work.data = errand;
	gpus->errands++;
	uv_queue_work(gpus->loop, &errand->work, run_errand, after_errand);
}
