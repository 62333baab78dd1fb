/* Facts about the hardware for labels, beside the inventory: copies and comparisons. */
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
