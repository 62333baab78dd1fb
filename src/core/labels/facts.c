/* What labels say of the hardware beside the inventory: copies and comparisons. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "core/labels/labels.h"

void gs_label_facts_free(struct gs_label_facts *facts)
{
	free(facts->gpus);
	free(facts->mig);
	*facts = (struct gs_label_facts){0};
}

static void *duplicate(const void *items, size_t count, size_t size)
{
	void *copy = gs_calloc(count, size);
	if (count)
		memcpy(copy, items, count * size);
	return copy;
}

void gs_label_facts_copy(struct gs_label_facts *to, const struct gs_label_facts *from)
{
	*to = *from;
	to->gpus = duplicate(from->gpus, from->gpu_count, sizeof *from->gpus);
	to->mig = duplicate(from->mig, from->mig_count, sizeof *from->mig);
}

static bool gpu_facts_equal(const struct gs_gpu_facts *a, const struct gs_gpu_facts *b)
{
	return strcmp(a->uuid, b->uuid) == 0 && a->pci_class == b->pci_class && a->vgpu == b->vgpu &&
	       a->fabric == b->fabric && strcmp(a->fabric_cluster, b->fabric_cluster) == 0 &&
	       a->fabric_clique == b->fabric_clique;
}

static bool mig_facts_equal(const struct gs_mig_facts *a, const struct gs_mig_facts *b)
{
	return strcmp(a->uuid, b->uuid) == 0 && a->multiprocessors == b->multiprocessors &&
	       a->slices_gi == b->slices_gi && a->slices_ci == b->slices_ci && a->engines_copy == b->engines_copy &&
	       a->engines_decoder == b->engines_decoder && a->engines_encoder == b->engines_encoder &&
	       a->engines_jpeg == b->engines_jpeg && a->engines_ofa == b->engines_ofa && a->memory_mib == b->memory_mib;
}

bool gs_label_facts_equal(const struct gs_label_facts *a, const struct gs_label_facts *b)
{
	if (strcmp(a->driver_version, b->driver_version) != 0 || a->cuda_version != b->cuda_version ||
	    strcmp(a->machine, b->machine) != 0 ||
	    strcmp(a->vgpu_host_driver_version, b->vgpu_host_driver_version) != 0 ||
	    strcmp(a->vgpu_host_driver_branch, b->vgpu_host_driver_branch) != 0 ||
	    a->started_seconds != b->started_seconds || a->gpu_count != b->gpu_count || a->mig_count != b->mig_count)
		return false;
	for (size_t i = 0; i < a->gpu_count; i++)
		if (!gpu_facts_equal(&a->gpus[i], &b->gpus[i]))
			return false;
	for (size_t i = 0; i < a->mig_count; i++)
		if (!mig_facts_equal(&a->mig[i], &b->mig[i]))
			return false;
	return true;
}

const struct gs_gpu_facts *gs_label_facts_of_gpu(const struct gs_label_facts *facts, const char *uuid)
{
	for (size_t i = 0; i < facts->gpu_count; i++)
		if (strcmp(facts->gpus[i].uuid, uuid) == 0)
			return &facts->gpus[i];
	return NULL;
}

const struct gs_mig_facts *gs_label_facts_of_mig(const struct gs_label_facts *facts, const char *uuid)
{
	for (size_t i = 0; i < facts->mig_count; i++)
		if (strcmp(facts->mig[i].uuid, uuid) == 0)
			return &facts->mig[i];
	return NULL;
}
