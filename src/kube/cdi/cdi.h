/* Container Device Interface: the spec files that a container runtime reads, and the names devices have there.
 * https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md */
#ifndef GPUSHARE_KUBE_CDI_H
#define GPUSHARE_KUBE_CDI_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "core/config/config.h"
#include "core/share/inventory.h"
#include "kube/cdi/device_nodes.h"
#include "kube/cdi/driver_files.h"

/* NVIDIA's device plugin uses these: names in running pods' checkpoints refer to them. */
#define GS_CDI_VENDOR "k8s.device-plugin.nvidia.com"
#define GS_CDI_DIR    "/var/run/cdi"

/* Classes a spec file can be about: "gpu", "imex-channel", "gdrcopy", "gds", "mofed"; ends with NULL. */
extern const char *const gs_cdi_classes[];

/* The device's name within class gpu and for NVIDIA's container runtime: its UUID or index, as deviceIDStrategy says. */
const char *gs_cdi_device_name(const struct gs_config *config, const struct gs_device *device);

/* Where a device node lies on the host: below nvidiaDevRoot. Owned by the caller. */
char *gs_dev_root_path(const struct gs_config *config, const char *node);

/* The spec of one class as JSON text with a newline at the end (owned by the caller). Class gpu has one entry per
 * device that can be published and whose nodes are known, one named "all" with the nodes of all of them, and the control nodes that exist; the other classes have what
 * exists. NULL when there is nothing to describe: the class is not asked for by the config, or the node has no such
 * devices; then there should be no file. The same input gives the same bytes.
 * Class gpu brings the driver's files too (NULL: none; then they come with NVIDIA's runtime, or the image). A container gets them mounted read-only; hooks, which the runtime runs on the node, make the links to them and tell the
 * container's dynamic loader. */
char *gs_cdi_render(const struct gs_config *config, const struct gs_inventory *inventory, const char *class_name,
		    const struct gs_node_check *check, const struct gs_driver_files *driver);

/* DIR/k8s.device-plugin.nvidia.com-<class>.json; owned by the caller. */
char *gs_cdi_path(const char *dir, const char *class_name);

/* In every spec of ours, by which it is known to be ours: a variable that containers get, since runtimes refuse a spec with
 * keys that its version does not have. */
#define GS_CDI_MARK "GPUSHARE_CDI_SPEC=1"

/* Another program's file that was in the way keeps its name with this behind it, which no runtime reads. */
#define GS_CDI_ASIDE ".before-gpushare"

/* Brings the file of a class to this text: new, synced, renamed, so that a runtime reads the old one or the new one;
 * makes DIR. A file that has this content already is left alone (`written` tells); one that is not ours is put aside. A
 * NULL text: as gs_cdi_remove. */
int gs_cdi_write(const char *dir, const char *class_name, const char *text, bool *written, struct gs_error *err);
/* Removes the file of a class if it is ours, and gives its place back to the file that was put aside. */
int gs_cdi_remove(const char *dir, const char *class_name, bool *removed, struct gs_error *err);

#endif
