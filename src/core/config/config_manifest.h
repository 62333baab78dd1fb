/* A Kubernetes ConfigMap manifest that wraps configurations. Inside of the config files only. */
#ifndef GPUSHARE_CORE_CONFIG_MANIFEST_H
#define GPUSHARE_CORE_CONFIG_MANIFEST_H

#include "core/config/config_parse.h"
#include "core/config/config_tree.h"

struct gs_manifest_part {
	const char *text; /* lives in the tree */
	char *name;       /* for messages: the file, or "file[data.key]" when lines cannot be counted through */
	struct gs_tree_place place; /* where the text begins in the file */
};

struct gs_manifest {
	struct gs_manifest_part *items;
	size_t count, capacity;
	size_t chosen;
};

/* Whether the document has a `kind`, as Kubernetes objects do and a configuration does not. */
bool gs_manifest_is(const struct gs_node *root);
/* -1 with errors in `diags` when it is no ConfigMap, or when it is not clear which key is meant. */
int gs_manifest_read(const struct gs_config_source *source, const struct gs_node *root, struct gs_manifest *manifest,
		     struct gs_diagnostics *diags);
void gs_manifest_free(struct gs_manifest *manifest);

#endif
