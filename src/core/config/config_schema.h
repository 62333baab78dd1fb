/* The configuration's keys in one table. It drives parsing, checking, did-you-mean, environment and flags, `explain`,
 * the JSON Schema and docs/config.md: a new key is a new row. */
#ifndef GPUSHARE_CORE_CONFIG_SCHEMA_H
#define GPUSHARE_CORE_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/config/config.h"

enum gs_key_type {
	GS_KEY_OBJECT,  /* a mapping of the keys below it */
	GS_KEY_SHARING, /* the same, filling a struct gs_sharing's presence and place */
	GS_KEY_LIST,    /* a list of mappings; their keys are "path[].name" */
	GS_KEY_VERSION,
	GS_KEY_BOOL,
	GS_KEY_TRISTATE, /* a boolean whose absence matters */
	GS_KEY_STRING,
	GS_KEY_PATH,    /* absolute, or empty */
	GS_KEY_CHOICE,  /* one word of `choices` */
	GS_KEY_CHOICES, /* one or a list of them, as bits */
	GS_KEY_DURATION,
	GS_KEY_COUNT,    /* a whole number within minimum..maximum */
	GS_KEY_QUANTITY, /* bytes as a Kubernetes quantity, more than 0 */
	GS_KEY_NAME,     /* a resource name */
	GS_KEY_PATTERN,  /* a glob with *, not empty */
	GS_KEY_DEVICES,  /* struct gs_device_selector */
	GS_KEY_CHANNELS, /* list of IMEX channel ids */
};

struct gs_config_choice {
	const char *name; /* NULL ends the list */
	int value;
	const char *unavailable; /* why this version refuses it, and what to write instead; NULL: it runs */
	bool addition;           /* ours, not NVIDIA's */
};

struct gs_config_key {
	const char *path; /* "flags.plugin.passDeviceSpecs", "sharing.timeSlicing.resources[].replicas" */
	enum gs_key_type type;
	const char *help;    /* one sentence, no full stop */
	size_t offset;       /* in struct gs_config, or in the list's item */
	size_t count_offset; /* lists and channels: of their size_t count */
	size_t item_size;    /* lists: of an item */
	const struct gs_config_choice *choices;
	int64_t minimum, maximum;
	const char *fallback;      /* the default, as in a file; NULL: unset */
	const char *fallback_note; /* what unset means */
	bool required;
	/* It names a file, a folder or a program of the node, or who the daemon is in the cluster: more than how GPUs are
	 * shared. A file that is not trusted may say only what holds without it. */
	bool of_node;
	const char *env[3];      /* first defined one counts */
	const char *flags[3];    /* long options without dashes; the first is the one to show */
	const char *since;       /* version of gpushare */
	const char *unavailable; /* as for choices */
};

extern const struct gs_config_key gs_config_keys[];
extern const size_t gs_config_key_count;

/* Keys that users look for and that do not exist (yet); and what to do meanwhile. */
struct gs_config_absent_key {
	const char *name;
	const char *message;
};
extern const struct gs_config_absent_key gs_config_absent_keys[];
extern const size_t gs_config_absent_key_count;

/* The last part of a path. */
const char *gs_config_key_name(const struct gs_config_key *key);
/* Whether the key stands directly in the object `parent` ("" is the whole file, "a.b[]" an item of the list a.b). */
bool gs_config_key_in(const struct gs_config_key *key, const char *parent);
/* NULL when there is none. */
const struct gs_config_key *gs_config_key_find(const char *path);
/* Whether the key belongs to an item of a list. */
bool gs_config_key_in_list(const struct gs_config_key *key);

#endif
