/* Which file of a directory of configurations is in force: NVIDIA's config-manager without a process of its own. */
#ifndef GPUSHARE_NODE_SELECTION_H
#define GPUSHARE_NODE_SELECTION_H

#include "base/error.h"

#define SELECTION_LABEL "nvidia.com/device-plugin.config"
/* As the GPU operator has it: a node for which no configuration is chosen is not shared. */
#define SELECTION_FALLBACKS "empty"

struct selection_rules {
	const char *directory;
	const char *default_name; /* NULL or "": none */
	const char *label;        /* that chooses, for messages; NULL: SELECTION_LABEL */
	const char *fallbacks;    /* words with commas: see selection_choose */
};

/* The name that the node's label (NULL: it has none) or the rules choose; "" for the empty configuration; owned by the
 * caller. In order: the label, the default, then the fallbacks as listed: `named` takes the file "default", `single`
 * the only file there is, `empty` no file at all. A label or default whose file is not there is an error, and does not
 * go on to the next: the node would share its GPUs in a way that no administrator chose. NULL with the reason, which
 * names the files there are. */
char *selection_choose(const struct selection_rules *rules, const char *label, struct gs_error *err);

/* 0 when all names are strategies; else -1 with the one that is not. */
int selection_check_fallbacks(const char *fallbacks, struct gs_error *err);

/* The configuration that was last in force, kept over restarts, so that neither an API server that is away nor a file
 * that went bad changes a node. -1 when there is nothing (ENOENT), or nothing that can be used, which is put aside;
 * both texts are owned by the caller. */
int selection_recall(const char *state_dir, char **name, char **text, struct gs_error *err);
/* May wait for the disk. */
int selection_remember(const char *state_dir, const char *name, const char *text, struct gs_error *err);

#endif
