#include "core/share/inventory.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void gs_inventory_free(struct gs_inventory *inventory)
{
	free(inventory->gpus);
	free(inventory->devices);
	free(inventory->link_score);
	free(inventory->unread);
	*inventory = (struct gs_inventory){0};
}

static void *copy_array(const void *items, size_t count, size_t size)
{
	if (!items || !count)
		return NULL;
	void *copy = gs_reallocarray(NULL, count, size);
	memcpy(copy, items, count * size);
	return copy;
}

void gs_inventory_copy(struct gs_inventory *to, const struct gs_inventory *from)
{
	struct gs_inventory copy = *from;

	copy.gpus = copy_array(from->gpus, from->gpu_count, sizeof *from->gpus);
	copy.devices = copy_array(from->devices, from->device_count, sizeof *from->devices);
	copy.unread = copy_array(from->unread, from->unread_count, sizeof *from->unread);
	copy.link_score = copy_array(from->link_score, from->gpu_count * from->gpu_count, sizeof *from->link_score);
	*to = copy;
}

static bool gpu_equal(const struct gs_gpu *a, const struct gs_gpu *b)
{
	return !strcmp(a->uuid, b->uuid) && !strcmp(a->name, b->name) && !strcmp(a->pci_bus_id, b->pci_bus_id) &&
	       a->index == b->index && a->minor == b->minor && a->memory_bytes == b->memory_bytes &&
	       a->numa_node == b->numa_node && a->compute_major == b->compute_major &&
	       a->compute_minor == b->compute_minor && a->mig_capable == b->mig_capable &&
	       a->mig_enabled == b->mig_enabled && a->mig_unknown == b->mig_unknown &&
	       a->compute_mode == b->compute_mode;
}

static bool device_equal(const struct gs_device *a, const struct gs_device *b)
{
	return !strcmp(a->uuid, b->uuid) && !strcmp(a->index, b->index) && a->gpu == b->gpu && a->mig == b->mig &&
	       !strcmp(a->mig_profile, b->mig_profile) && a->gpu_instance == b->gpu_instance &&
	       a->compute_instance == b->compute_instance && a->memory_bytes == b->memory_bytes &&
	       a->gi_cap == b->gi_cap && a->ci_cap == b->ci_cap;
}

bool gs_inventory_equal(const struct gs_inventory *a, const struct gs_inventory *b)
{
	if (a->gpu_count != b->gpu_count || a->device_count != b->device_count || !a->link_score != !b->link_score ||
	    a->unread_count != b->unread_count)
		return false;
	for (size_t i = 0; i < a->unread_count; i++)
		if (a->unread[i].index != b->unread[i].index || strcmp(a->unread[i].problem, b->unread[i].problem) != 0)
			return false;
	for (size_t i = 0; i < a->gpu_count; i++)
		if (!gpu_equal(&a->gpus[i], &b->gpus[i]))
			return false;
	for (size_t i = 0; i < a->device_count; i++)
		if (!device_equal(&a->devices[i], &b->devices[i]))
			return false;
	return !a->link_score ||
	       !memcmp(a->link_score, b->link_score, a->gpu_count * a->gpu_count * sizeof *a->link_score);
}

void gs_inventory_take_problems(struct gs_inventory *to, const struct gs_inventory *from)
{
	for (size_t i = 0; i < to->gpu_count && i < from->gpu_count; i++)
		memcpy(to->gpus[i].problem, from->gpus[i].problem, sizeof to->gpus[i].problem);
}

bool gs_inventory_has(const struct gs_inventory *inventory, const char *uuid)
{
	for (size_t i = 0; i < inventory->device_count; i++)
		if (strcmp(inventory->devices[i].uuid, uuid) == 0)
			return true;
	return false;
}
