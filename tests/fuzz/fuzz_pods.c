/* The kubelet's list of pods, and a virtual GPU's PCI configuration space: bytes that others write. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/label_facts.h"
#include "kube/plugin/others.h"
#include "kube/plugin/pod_resources.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int fact)
{
	if (!fact)
		abort();
}

static bool wants_some(void *user, const char *id, size_t length)
{
	return id[0] != 'x';
}

static bool touch(void *user, const uint8_t *resource, size_t resource_length, const uint8_t *id, size_t length)
{
	static const struct gs_inventory none;
	if (resource_length)
		*(unsigned *)user += resource[resource_length - 1];
	*(unsigned *)user += kube_other_names_gpu(&none, id, length);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gs_error err = {0};
	struct kube_pod_table table;
	size_t count;
	char version[16], branch[16];
	int result = kube_pod_table_read(data, size, wants_some, NULL, &table, &err);
	require(result == 0 || (table.count == 0 && err.text[0]));
	for (size_t i = 0; i < table.count; i++) {
		const struct gs_pod_holder *holder = &table.holders[i];
		require(*holder->device && *holder->device != 'x' && *holder->namespace && *holder->pod &&
			*holder->container);
		const struct gs_pod_holder *found = kube_pod_table_find(&table, holder->device, &count);
		require(found && found <= holder && holder < found + count);
	}
	kube_pod_table_free(&table);
	unsigned sum = 0;
	kube_allocatable_read(data, size, touch, &sum);
	kube_plugin_list_read(data, size, touch, &sum);
	gs_vgpu_host_driver(data, size, version, branch);
	return 0;
}
