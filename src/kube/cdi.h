/* Container Device Interface: the spec files that a container runtime reads, and the names devices have there.
 * https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md */
#ifndef GPUSHARE_KUBE_CDI_H
#define GPUSHARE_KUBE_CDI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "core/config.h"
#include "core/inventory.h"

/* NVIDIA's device plugin uses these: names in running pods' checkpoints refer to them. */
#define GS_CDI_VENDOR "k8s.device-plugin.nvidia.com"
#define GS_CDI_DIR "/var/run/cdi"

/* The device's name within the spec: its UUID or index, as deviceIDStrategy says. */
const char *gs_cdi_device_name(const struct gs_config *config, const struct gs_device *device);

/* The spec of class "gpu" as JSON text with a newline at the end (owned by the caller): one entry per device whose
 * nodes are known, and the control nodes that exist. The same input gives the same bytes. Driver libraries are not in
 * it: the container runtime's own hook, or the image, brings them. */
char *gs_cdi_render(const struct gs_config *config, const struct gs_inventory *inventory,
		    bool (*node_exists)(const char *path, void *user), void *user);

/* DIR/k8s.device-plugin.nvidia.com-<class>.json; owned by the caller. */
char *gs_cdi_path(const char *dir, const char *class_name);

/* Writes the file: new, synced, renamed, so that a runtime reads the old one or the new one. Makes DIR. */
int gs_cdi_write(const char *dir, const char *class_name, const char *text, struct gs_error *err);

#endif
