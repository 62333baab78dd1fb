/* A container that was given a share, as the kubelet tells. */
#ifndef GPUSHARE_CORE_USAGE_HOLDER_H
#define GPUSHARE_CORE_USAGE_HOLDER_H

/* Texts are Kubernetes names: lower case letters, digits, '-' and '.'. */
struct gs_pod_holder {
	const char *device; /* the share's id */
	const char *namespace, *pod, *container;
};

#endif
