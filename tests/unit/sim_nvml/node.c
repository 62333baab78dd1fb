#include "node.h"

#include <stdio.h>
#include <stdlib.h>

#include "sim/spec.h"

struct sim_node *node;
static char dir[128];

void node_make(const char *text)
{
	struct sim_spec spec = {0};
	struct gs_error err;
	const char *base = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/gpushare-nvml-XXXXXX", base && base[0] ? base : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(sim_spec_parse(text, &spec, &err), 0);
	spec.seed = 7;
	const char *driver = getenv("NODE_DRIVER");
	if (driver)
		assert_int_equal(sim_spec_set_driver_version(driver, &spec, &err), 0);
	assert_int_equal(sim_node_create(dir, &spec, &node, &err), 0);
	setenv("GPUSHARE_SIM", dir, 1);
	assert_int_equal(nvmlInit_v2(), NVML_SUCCESS);
}

int node_begin(void **state)
{
	(void)state;
	node_make("2xA100-80GB");
	return 0;
}

int node_end(void **state)
{
	(void)state;
	while (nvmlShutdown() == NVML_SUCCESS)
		;
	unsetenv("GPUSHARE_SIM");
	sim_node_close(node);
	node = NULL;
	return sim_node_remove(dir, NULL);
}

nvmlDevice_t node_device(unsigned index)
{
	nvmlDevice_t device = NULL;
	assert_int_equal(nvmlDeviceGetHandleByIndex_v2(index, &device), NVML_SUCCESS);
	assert_non_null(device);
	return device;
}

int node_client(unsigned gpu, enum sim_client_kind kind, uint64_t mib)
{
	int slot = sim_client_attach(node, gpu, kind, NULL);
	assert_true(slot >= 0);
	assert_int_equal(sim_client_allocate(node, slot, mib << 20), 0);
	return slot;
}
