#include "core/share/container_edit.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static void *grow(void *items, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return items;
	*capacity = *capacity ? *capacity * 2 : 4;
	return gs_reallocarray(items, *capacity, size);
}

static struct gs_edit_pair *find(struct gs_edit_pair *pairs, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(pairs[i].key, key))
			return &pairs[i];
	return NULL;
}

static void set(struct gs_edit_pair **pairs, size_t *count, size_t *capacity, const char *key, const char *value)
{
	struct gs_edit_pair *pair = find(*pairs, *count, key);

	if (pair) {
		char *copy = gs_strdup(value);
		free(pair->value);
		pair->value = copy;
		return;
	}
	*pairs = grow(*pairs, *count, capacity, sizeof **pairs);
	(*pairs)[(*count)++] = (struct gs_edit_pair){gs_strdup(key), gs_strdup(value)};
}

void gs_container_edit_env(struct gs_container_edit *edit, const char *key, const char *value)
{
	set(&edit->env, &edit->env_count, &edit->env_capacity, key, value);
}

void gs_container_edit_annotation(struct gs_container_edit *edit, const char *key, const char *value)
{
	set(&edit->annotations, &edit->annotation_count, &edit->annotation_capacity, key, value);
}

void gs_container_edit_mount(struct gs_container_edit *edit, const char *host, const char *container, bool read_only)
{
	for (size_t i = 0; i < edit->mount_count; i++)
		if (!strcmp(edit->mounts[i].container_path, container))
			return;
	edit->mounts = grow(edit->mounts, edit->mount_count, &edit->mount_capacity, sizeof *edit->mounts);
	edit->mounts[edit->mount_count++] = (struct gs_edit_mount){gs_strdup(host), gs_strdup(container), read_only};
}

void gs_container_edit_device(struct gs_container_edit *edit, const char *host, const char *container,
			      const char *permissions)
{
	for (size_t i = 0; i < edit->device_count; i++)
		if (!strcmp(edit->devices[i].container_path, container))
			return;
	edit->devices = grow(edit->devices, edit->device_count, &edit->device_capacity, sizeof *edit->devices);
	edit->devices[edit->device_count++] =
		(struct gs_edit_device){gs_strdup(host), gs_strdup(container), gs_strdup(permissions)};
}

void gs_container_edit_cdi(struct gs_container_edit *edit, const char *qualified_name)
{
	edit->cdi_devices =
		grow(edit->cdi_devices, edit->cdi_device_count, &edit->cdi_device_capacity, sizeof *edit->cdi_devices);
	edit->cdi_devices[edit->cdi_device_count++] = gs_strdup(qualified_name);
}

static void free_pairs(struct gs_edit_pair *pairs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(pairs[i].key);
		free(pairs[i].value);
	}
	free(pairs);
}

void gs_container_edit_free(struct gs_container_edit *edit)
{
	free_pairs(edit->env, edit->env_count);
	free_pairs(edit->annotations, edit->annotation_count);
	for (size_t i = 0; i < edit->mount_count; i++) {
		free(edit->mounts[i].host_path);
		free(edit->mounts[i].container_path);
	}
	free(edit->mounts);
	for (size_t i = 0; i < edit->device_count; i++) {
		free(edit->devices[i].host_path);
		free(edit->devices[i].container_path);
		free(edit->devices[i].permissions);
	}
	free(edit->devices);
	for (size_t i = 0; i < edit->cdi_device_count; i++)
		free(edit->cdi_devices[i]);
	free(edit->cdi_devices);
	*edit = (struct gs_container_edit){0};
}
