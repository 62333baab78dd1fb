/* From a user's text to a configuration, and every problem on the way. Pure: text in, values out. */
#ifndef GPUSHARE_CORE_CONFIG_PARSE_H
#define GPUSHARE_CORE_CONFIG_PARSE_H

#include "core/config/config.h"
#include "core/config/config_schema.h"
#include "core/config/diagnostic.h"

enum { GS_CONFIG_BYTES_MAX = 1 << 20 };

struct gs_config_source {
	const char *name; /* file name for messages */
	const char *text; /* YAML or JSON; needs no NUL at the end */
	size_t length;
	const char *entry; /* which data key of a ConfigMap manifest; NULL: the only one, "default" or "config.yaml" */
	bool untrusted; /* its author may set how GPUs are shared, and no setting of the node (of_node in the table) */
	bool any_entry; /* no error when it is not clear which key is meant: all are only checked, none is used */
};

/* A flag given on the command line, without dashes: {"mig-strategy", "none"}. A boolean's "" is true. */
struct gs_config_override {
	const char *name;
	const char *value;
};

/* Where the value in force came from. */
struct gs_config_origin {
	enum gs_config_origin_kind { GS_ORIGIN_DEFAULT, GS_ORIGIN_FILE, GS_ORIGIN_ENV, GS_ORIGIN_FLAG } kind;
	int line, column; /* in the file */
	const char *name; /* of the variable or flag */
};

/* Parses and checks everything: the file, then the environment over it, then flags over both. `env` looks a variable up
 * (NULL: not defined) and may be NULL itself; a variable that is defined but empty counts as set. Returns 0 and fills
 * `out` (what it held is not freed; free it with gs_config_free), or -1 and leaves `out` alone. `diags` gets all errors
 * and warnings, in order of their place. */
int gs_config_parse(const struct gs_config_source *source, const char *(*env)(const char *name, void *user),
		    void *env_user, const struct gs_config_override *overrides, size_t override_count,
		    struct gs_config *out, struct gs_diagnostics *diags);

/* The same, and `origins` (gs_config_key_count of them, one for each key of the table that is not in a list) is filled.
 */
int gs_config_parse_origins(const struct gs_config_source *source, const char *(*env)(const char *name, void *user),
			    void *env_user, const struct gs_config_override *overrides, size_t override_count,
			    struct gs_config *out, struct gs_config_origin *origins, struct gs_diagnostics *diags);

#endif
