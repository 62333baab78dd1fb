/* The meaning of a configuration, in words and as data. Pure. */
#ifndef GPUSHARE_CORE_CONFIG_EXPLAIN_H
#define GPUSHARE_CORE_CONFIG_EXPLAIN_H

#include <jansson.h>
#include <stdbool.h>

#include "base/strbuf.h"
#include "core/config/config_parse.h"
#include "core/share/share.h"

/* Paragraphs for a person: what these strategies share how, then each value that is set or is not the default, and where it came from;
 * with `all` every value in force. */
void gs_config_explain(const struct gs_config *config, const struct gs_config_origin *origins, const char *name,
		       const struct gs_strategy *const *strategies, size_t strategy_count, bool all,
		       struct gs_strbuf *text);
/* The same as an object: "shares", "names" and "values". The caller has the reference. */
json_t *gs_config_explain_json(const struct gs_config *config, const struct gs_config_origin *origins, const char *name,
			       const struct gs_strategy *const *strategies, size_t strategy_count, bool all);

/* A JSON Schema (draft 2020-12) of the file. The caller has the reference. */
json_t *gs_config_json_schema(void);
/* The keys as Markdown tables, as docs/config.md has them. */
void gs_config_markdown(struct gs_strbuf *text);

#endif
