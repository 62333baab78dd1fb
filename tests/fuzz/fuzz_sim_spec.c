/* What a user writes for a simulated node: the short SPEC and the YAML file. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "sim/models.h"
#include "sim/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted must be a node that can exist; what was refused must say why. */
static void check(int result, const struct sim_spec *spec, const struct gs_error *err)
{
	uint64_t total = 0;
	if (result < 0) {
		if (err->text[0] == '\0' || !memchr(err->text, 0, sizeof err->text))
			abort();
		return;
	}
	for (size_t i = 0; i < spec->group_count; i++) {
		const struct sim_gpu_spec *group = &spec->groups[i];
		if (group->model >= sim_model_count || group->count == 0)
			abort();
		if (group->memory_total && group->memory_total <= sim_models[group->model].memory_reserved)
			abort();
		total += group->count;
	}
	if (total == 0 || total > SIM_GPUS_MAX || !memchr(spec->driver_version, 0, sizeof spec->driver_version))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gs_error err = {0};
	struct sim_spec spec = {0};
	char *text = gs_strndup((const char *)data, size);
	check(sim_spec_parse(text, &spec, &err), &spec, &err);
	free(text);
	memset(&spec, 0, sizeof spec);
	memset(&err, 0, sizeof err);
	check(sim_spec_parse_yaml((const char *)data, size, "node.yaml", &spec, &err), &spec, &err);
	return 0;
}
