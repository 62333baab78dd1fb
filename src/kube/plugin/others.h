/* Device plugins of others: who listens in the kubelet's plugin folder, and whether it has NVIDIA GPUs. Two plugins that
 * hand out the same GPUs give one GPU to two pods, and overwrite what the other made of the node. */
#ifndef GPUSHARE_KUBE_OTHERS_H
#define GPUSHARE_KUBE_OTHERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/vec.h"
#include "core/share/inventory.h"

enum {
	KUBE_OTHERS_MAX = 64,          /* sockets that are looked at */
	KUBE_OTHERS_ENTRIES_MAX = 4096 /* names in the folder that are read */
};

struct kube_other {
	char *path;
	bool has_gpus;    /* proven by the process behind it, or by its name; else it has to be asked about */
	pid_t pid;        /* of the process that listens, by the kernel's word; 0: not visible from here */
	char process[64]; /* its name, for messages; "" */
	dev_t device;
	ino_t inode;
	struct timespec changed; /* of the socket's file, since another one soon has its inode */
};

struct kube_others {
	GS_VEC(struct kube_other) items; /* sorted by path */
};

/* The sockets of FOLDER at which another process listens. `kubelet` is the kubelet's own and is left out, as are ours:
 * those that this process listens at. A process that has the driver's management library or its control node open has
 * GPUs (`proc` is "/proc"), and so has a socket with a name as NVIDIA's and Google's plugins give it: "nvidia-*",
 * "nvidiaGPU-*". Works on files: not for the loop's thread. */
void kube_others_find(const char *folder, const char *kubelet, const char *proc, struct kube_others *others);
void kube_others_free(struct kube_others *others);

/* Whether a device id is about one of these GPUs or MIG devices: it has the UUID in it, as NVIDIA's plugin and those that
 * come from it name shares; or it is "nvidia0", "nvidia0/gi1", as Google's plugin names them. Not NUL-terminated. */
bool kube_other_names_gpu(const struct gs_inventory *inventory, const uint8_t *id, size_t length);

/* Calls `tell` for each device in an AllocatableResourcesResponse of the kubelet's pod-resources API v1, until it returns
 * false. -1 when the bytes are not such a message. */
typedef bool kube_allocatable_device(void *user, const uint8_t *resource, size_t resource_length, const uint8_t *id,
				     size_t id_length);
int kube_allocatable_read(const uint8_t *bytes, size_t length, kube_allocatable_device *tell, void *user);
/* The same for a ListAndWatchResponse of a device plugin (v1beta1); its devices have no resource: length 0. */
int kube_plugin_list_read(const uint8_t *bytes, size_t length, kube_allocatable_device *tell, void *user);

#endif
