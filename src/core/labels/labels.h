/* Node labels: those of NVIDIA's GPU Feature Discovery (GFD), made from the hardware and the plan. Pure: the same facts
 * give the same labels, in whatever order NVML lists the GPUs. docs/labels.md explains every label. */
#ifndef GPUSHARE_CORE_LABELS_H
#define GPUSHARE_CORE_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "core/config/config.h"
#include "core/share/inventory.h"
#include "core/share/share.h"

enum {
	/* Kubernetes' rules: a value has at most 63 characters, and so has the part of a key behind its prefix. */
	GS_LABEL_VALUE_MAX = 63,
	GS_LABEL_KEY_SIZE = 128,
	GS_LABELS_MAX = 1024, /* beyond, labels of further MIG profiles are left out */
};

/* Of a GPU, where the driver tells. */
struct gs_gpu_facts {
	char uuid[GS_UUID_SIZE];
	uint32_t pci_class;      /* 0x030200 is a 3D controller, 0x030000 one for displays; 0: unknown */
	bool vgpu;               /* a virtual GPU that a hypervisor lent */
	bool fabric;             /* attached to an NVLink fabric of several nodes; then: */
	char fabric_cluster[40]; /* UUID */
	uint32_t fabric_clique;
};

/* Of a MIG device, as nvmlDeviceGetAttributes tells. */
struct gs_mig_facts {
	char uuid[GS_UUID_SIZE];
	uint32_t multiprocessors, slices_gi, slices_ci;
	uint32_t engines_copy, engines_decoder, engines_encoder, engines_jpeg, engines_ofa;
	uint64_t memory_mib;
};

/* The facts for labels besides inventory and plan. Owns its arrays. */
struct gs_label_facts {
	char driver_version[80];                                        /* "550.54.15"; "" unknown */
	int cuda_version;                                               /* 12040 is 12.4; 0 unknown */
	char machine[256];                                              /* the machine's product name; "" unknown */
	char vgpu_host_driver_version[16], vgpu_host_driver_branch[16]; /* "" unknown */
	int64_t started_seconds;                                        /* when the daemon started, since the epoch */
	struct gs_gpu_facts *gpus;
	size_t gpu_count;
	struct gs_mig_facts *mig;
	size_t mig_count;
};

/* Frees the arrays and leaves nothing known. */
void gs_label_facts_free(struct gs_label_facts *facts);
void gs_label_facts_copy(struct gs_label_facts *to, const struct gs_label_facts *from);
/* NULL when nothing is known of it. */
const struct gs_gpu_facts *gs_label_facts_of_gpu(const struct gs_label_facts *facts, const char *uuid);
const struct gs_mig_facts *gs_label_facts_of_mig(const struct gs_label_facts *facts, const char *uuid);

struct gs_label {
	char key[GS_LABEL_KEY_SIZE]; /* "nvidia.com/gpu.product" */
	char value[GS_LABEL_VALUE_MAX + 1];
};

/* Sorted by key, no key twice. Owns its array. */
struct gs_labels {
	struct gs_label *items;
	size_t count, capacity;
};

/* The labels of this node. Keys and values are always valid for Kubernetes. A node without a GPU has none. `labels` is
 * empty before.
 *
 * With several GPU models, gpu.* describe one of them: that of most GPUs; of equally many the one with the most memory,
 * then the first by name. GPUs of one model that are shared differently are described by what most of them have, then
 * by the greater number of replicas. */
void gs_labels_build(const struct gs_config *config, const struct gs_inventory *inventory, const struct gs_plan *plan,
		     const struct gs_label_facts *facts, struct gs_labels *labels);
void gs_labels_free(struct gs_labels *labels);
bool gs_labels_equal(const struct gs_labels *a, const struct gs_labels *b);

/* Node Feature Discovery's form of a feature file: a line KEY=VALUE for each label. */
void gs_labels_feature_file(const struct gs_labels *labels, struct gs_strbuf *out);
/* A table of every label there can be, for docs/labels.md. */
void gs_labels_markdown(struct gs_strbuf *out);

/* Turns any text into a label value as GFD does: characters other than letters, digits, '-', '_', '.' and blanks are
 * dropped, runs of blanks become '-'. Beyond GFD: cut to 63 characters, and begins and ends with a letter or digit, as
 * Kubernetes demands; may end up empty. */
void gs_label_sanitise(const char *text, char value[GS_LABEL_VALUE_MAX + 1]);
/* Whether Kubernetes takes this as the key of a label, with its prefix. */
bool gs_label_key_valid(const char *key);

#endif
