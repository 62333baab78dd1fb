/* One value of the configuration: from YAML, from text, and back. Inside of the config files only. */
#ifndef GPUSHARE_CORE_CONFIG_VALUE_H
#define GPUSHARE_CORE_CONFIG_VALUE_H

#include "base/error.h"
#include "base/strbuf.h"
#include "core/config/config_schema.h"
#include "core/config/config_tree.h"

/* `base` is the struct that the key's offset counts from. On failure the field keeps its old value, `err` says what is
 * wrong without a place, and `*at` (set to `node` before) may point to the part that is. */
int gs_value_from_node(const struct gs_config_key *key, void *base, const struct gs_node *node,
		       const struct gs_node **at, struct gs_error *err);
/* From an environment variable, a flag or the table: lists are separated by commas, an empty boolean is false. */
int gs_value_from_text(const struct gs_config_key *key, void *base, const char *text, struct gs_error *err);
/* As a file would say it; lists in flow style. Nothing for an unset value. */
void gs_value_format(const struct gs_config_key *key, const void *base, struct gs_strbuf *text);
/* Frees the field's memory; lists with their items. */
void gs_value_free(const struct gs_config_key *key, void *base);

#endif
