/* A stand-in for the kubelet's device manager: takes registrations in a directory, watches each resource's list, and
 * allocates as the kubelet does (preferred allocation first, then Allocate). For trying things without a cluster and
 * for measuring; it admits no pods and keeps no checkpoint. */
#ifndef GPUSHARE_SIM_TOOLS_STANDIN_H
#define GPUSHARE_SIM_TOOLS_STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/error.h"
#include "core/share/container_edit.h"

struct kube_standin;

struct kube_standin_events {
	void *user;
	/* A resource's list arrived: how many devices it has and how many of them are healthy. */
	void (*devices)(void *user, const char *resource, size_t count, size_t healthy);
};

/* Serves DIR/kubelet.sock. */
int kube_standin_start(uv_loop_t *loop, const char *directory, const struct kube_standin_events *events,
		       struct kube_standin **standin, struct gs_error *err);
void kube_standin_stop(struct kube_standin *standin, void (*done)(void *user), void *user);

/* Takes `count` free healthy devices of a resource for one container. `done` gets their ids and the environment to
 * run with, valid during the call, or an error (ids NULL). */
typedef void kube_standin_done(void *user, char *const *ids, size_t count, const struct gs_edit_pair *env,
			       size_t env_count, const struct gs_error *err);
void kube_standin_allocate(struct kube_standin *standin, const char *resource, size_t count, kube_standin_done *done,
			   void *user);
/* A container ended: its devices are free again. */
void kube_standin_release(struct kube_standin *standin, const char *resource, const char *id);

#endif
