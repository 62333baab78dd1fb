/* The edits to a container. The strategies and the device plugin collect them; the device plugin or a CDI spec renders
 * them. */
#ifndef GPUSHARE_CORE_CONTAINER_EDIT_H
#define GPUSHARE_CORE_CONTAINER_EDIT_H

#include <stdbool.h>
#include <stddef.h>

struct gs_edit_pair {
	char *key, *value;
};
struct gs_edit_mount {
	char *host_path, *container_path;
	bool read_only;
};
struct gs_edit_device {
	char *host_path, *container_path, *permissions;
};

/* Strings are owned. An empty one is all zeros. */
struct gs_container_edit {
	struct gs_edit_pair *env;
	size_t env_count, env_capacity;
	struct gs_edit_pair *annotations;
	size_t annotation_count, annotation_capacity;
	struct gs_edit_mount *mounts;
	size_t mount_count, mount_capacity;
	struct gs_edit_device *devices;
	size_t device_count, device_capacity;
	char **cdi_devices;
	size_t cdi_device_count, cdi_device_capacity; /* qualified names: vendor/class=name */
};

/* A key that is there already gets the new value. */
void gs_container_edit_env(struct gs_container_edit *edit, const char *key, const char *value);
void gs_container_edit_annotation(struct gs_container_edit *edit, const char *key, const char *value);
/* A container path that is there already is kept as it is (several devices need the same parent's node). */
void gs_container_edit_mount(struct gs_container_edit *edit, const char *host, const char *container, bool read_only);
void gs_container_edit_device(struct gs_container_edit *edit, const char *host, const char *container,
			      const char *permissions);
void gs_container_edit_cdi(struct gs_container_edit *edit, const char *qualified_name);
/* Frees everything and leaves an empty edit. */
void gs_container_edit_free(struct gs_container_edit *edit);

#endif
