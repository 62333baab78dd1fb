/* A YAML document as a tree that remembers where everything stood. JSON is YAML. Bounded: size, depth, keys, and what
 * aliases expand to, so that walking it is cheap whatever a user wrote. */
#ifndef GPUSHARE_CORE_CONFIG_TREE_H
#define GPUSHARE_CORE_CONFIG_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/config/diagnostic.h"

enum {
	GS_TREE_BYTES_MAX = 1 << 20,
	GS_TREE_DEPTH_MAX = 32,
	GS_TREE_KEYS_MAX = 1000,    /* in one mapping */
	GS_TREE_NODES_MAX = 100000, /* aliases expanded */
};

struct gs_node {
	enum { GS_NODE_SCALAR, GS_NODE_LIST, GS_NODE_MAP } kind;
	int line, column;       /* from 1, in the file the user sees */
	bool is_string;         /* quoted, block or !!str: text, whatever it looks like */
	bool literal;           /* a block literal (|) */
	char *text;             /* of a scalar, NUL-terminated, without NUL bytes inside */
	struct gs_node **keys;  /* of a map, all scalars */
	struct gs_node **items; /* of a map or a list */
	size_t count;
	size_t weight; /* nodes below and this one, aliases expanded; 0 while being built */
};

struct gs_tree {
	struct gs_node *root;   /* NULL: nothing but blanks and comments */
	struct gs_node **items; /* owns every node */
	size_t count, capacity;
};

/* Where text that is part of a larger file begins: added to each line and column. */
struct gs_tree_place {
	int line, column;
};

/* 0 when there is a whole tree, though errors (such as a duplicate key) may have been added to `diags`; -1 when reading
 * had to stop at one. The tree must be freed either way. */
int gs_tree_parse(const char *name, const char *text, size_t length, struct gs_tree_place place, struct gs_tree *tree,
		  struct gs_diagnostics *diags);
void gs_tree_free(struct gs_tree *tree);

/* The value of a key of a map, or NULL. */
const struct gs_node *gs_node_get(const struct gs_node *map, const char *key);
/* YAML's null: nothing, ~ or null. */
bool gs_node_is_null(const struct gs_node *node);
/* Whether a scalar's text is true or false in YAML 1.1 (yes, off, n...), as NVIDIA's programs read it; it is still text
 * when it `is_string`. */
bool gs_node_is_bool(const struct gs_node *node, bool *value);

#endif
