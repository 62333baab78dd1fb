/* Which pod holds which device: a client of the kubelet's pod-resources API (v1, List), on its socket
 * pod-resources/kubelet.sock. The kubelet tells every client of the node together at most 100 times a second, so this
 * one asks rarely, keeps the last answer, and lets callers that ask meanwhile wait for the same one. */
#ifndef GPUSHARE_KUBE_POD_RESOURCES_H
#define GPUSHARE_KUBE_POD_RESOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "core/usage/holder.h"

enum {
	KUBE_PODS_REPLY_BYTES_MAX = 16 * 1024 * 1024,
	KUBE_PODS_HOLDERS_MAX = 256 * 1024, /* of all shares; more are left out, and `truncated` says so */
	KUBE_PODS_TIMEOUT_MS = 2000,
	KUBE_PODS_FRESH_MS = 1000,  /* an answer of this age is given again */
	KUBE_PODS_FAILED_MS = 5000, /* and so is a failure: a slow kubelet holds up one question, not all */
};

/* Sorted by device, then namespace, pod and container. */
struct kube_pod_table {
	struct gs_pod_holder *holders;
	size_t count;
	bool truncated;
	char *texts; /* what the holders point into */
};

/* Whether a device is of interest; `id` is not NUL-terminated. */
typedef bool kube_device_wanted(void *user, const char *id, size_t length);

/* Reads a ListPodResourcesResponse. Holders of devices that are not wanted, and those whose names are no names, are left
 * out. -1 when the bytes are not such a message; `table` is then empty. Safe on any bytes; memory is a small multiple of
 * `length`. */
int kube_pod_table_read(const uint8_t *bytes, size_t length, kube_device_wanted *wanted, void *user,
			struct kube_pod_table *table, struct gs_error *err);
void kube_pod_table_free(struct kube_pod_table *table);
/* The holders of a device, `*count` of them side by side; NULL when there is none. Usually one; two for the moment in which
 * one pod ends and the next one begins. */
const struct gs_pod_holder *kube_pod_table_find(const struct kube_pod_table *table, const char *device, size_t *count);

struct kube_pods;

struct kube_pods_owner {
	void *user;
	kube_device_wanted *wanted;
};

/* Does not connect yet. -1 when the path is too long for a socket. */
int kube_pods_open(uv_loop_t *loop, const char *socket, const struct kube_pods_owner *owner, struct kube_pods **pods,
		   struct gs_error *err);
/* Those who wait are called first. Memory goes when the loop ran again. NULL is allowed. */
void kube_pods_close(struct kube_pods *pods);

enum kube_pods_state {
	KUBE_PODS_UNASKED,
	KUBE_PODS_KNOWN,
	KUBE_PODS_ABSENT, /* there is no socket: no kubelet, or its directory is not mounted */
	KUBE_PODS_FAILED,
};

/* Calls `done` once there is an answer, or none can be had: never within this call, KUBE_PODS_TIMEOUT_MS later at most. */
typedef void kube_pods_done(void *user);
void kube_pods_refresh(struct kube_pods *pods, kube_pods_done *done, void *user);
/* The kubelet's last answer, valid until the loop turns. `problem` is "" unless it failed. The table is empty unless
 * known. */
enum kube_pods_state kube_pods_get(const struct kube_pods *pods, const struct kube_pod_table **table,
				   const char **problem);
/* When that was, on the loop's clock in milliseconds. */
int64_t kube_pods_at_ms(const struct kube_pods *pods);

#endif
