#include "sim/spec.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/quantity.h"
#include "base/suggest.h"
#include "base/text.h"
#include "sim/mig.h"
#include "sim/models.h"

enum {
	SPEC_FILE_LIMIT = 256 * 1024,
	DEPTH_MAX = 32,
	NAME_MAX_LENGTH = 64,
	NUMA_NODE_MAX = 1023,
};
#define MEMORY_MAX_BYTES (INT64_C(1) << 50)

/* Adds a group of GPUs; what is wrong goes to `err` without a place. */
static int add_group(struct sim_spec *spec, const struct sim_gpu_spec *group, struct gs_error *err)
{
	uint64_t total = group->count;
	for (size_t i = 0; i < spec->group_count; i++)
		total += spec->groups[i].count;
	if (group->count == 0)
		return gs_fail(err, GS_ERROR_INPUT, 0, "a count of 0 GPUs; leave the entry out");
	if (total > SIM_GPUS_MAX)
		return gs_fail(err, GS_ERROR_INPUT, 0, "too many GPUs; a node holds at most %d", SIM_GPUS_MAX);
	if (group->memory_total && group->memory_total <= sim_models[group->model].memory_reserved)
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "too little memory: firmware and driver of a %s keep %" PRIu64 "Mi of it",
			       sim_models[group->model].spec_name, sim_models[group->model].memory_reserved >> 20);
	/* Each group counts at least one GPU, so the bound on GPUs bounds groups too. */
	spec->groups[spec->group_count++] = *group;
	return 0;
}

static int find_model(const char *name, uint32_t *model, struct gs_error *err)
{
	const struct sim_model *found = sim_model_by_name(name);
	if (found) {
		*model = (uint32_t)(found - sim_models);
		return 0;
	}
	const char *near = sim_model_suggest(name);
	if (near)
		return gs_fail(err, GS_ERROR_INPUT, 0, "unknown GPU model '%s'; did you mean %s?", name, near);
	return gs_fail(err, GS_ERROR_INPUT, 0, "unknown GPU model '%s'; 'gpushare sim models' lists them", name);
}

static const char *skip_blanks(const char *at)
{
	while (*at == ' ' || *at == '\t')
		at++;
	return at;
}

/* "8x": the count and where the model begins, or 1 and `at` itself when there is none. */
static const char *parse_count(const char *at, uint32_t *count, struct gs_error *err)
{
	const char *digits = at;
	uint64_t value = 0;
	for (; isdigit((unsigned char)*at); at++)
		value = value <= SIM_GPUS_MAX ? value * 10 + (uint64_t)(*at - '0') : value;
	if (at == digits) {
		*count = 1;
		return at;
	}
	at = skip_blanks(at);
	if (*at != 'x' && *at != 'X') {
		gs_fail(err, GS_ERROR_INPUT, 0, "an 'x' and a model must follow the count, as in 8xA100-80GB");
		return NULL;
	}
	*count = (uint32_t)value;
	return skip_blanks(at + 1);
}

/* One "[N x]MODEL" up to a comma or the end, which is returned; NULL and *error_at when it is wrong. */
static const char *parse_item(const char *at, struct sim_spec *spec, const char **error_at, struct gs_error *err)
{
	char name[NAME_MAX_LENGTH + 1];
	struct sim_gpu_spec group = {0};
	*error_at = at = skip_blanks(at);
	const char *model = parse_count(at, &group.count, err);
	if (!model)
		return NULL;
	size_t length = strcspn(model, ", \t");
	const char *end = skip_blanks(model + length);
	*error_at = model;
	if (length == 0) {
		gs_fail(err, GS_ERROR_INPUT, 0, "a GPU model is missing here; write for example 8xA100-80GB");
		return NULL;
	}
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)model[i] <= ' ' || (unsigned char)model[i] >= 0x7F) {
			*error_at = model + i;
			gs_fail(err, GS_ERROR_INPUT, 0, "a character that no model's name has");
			return NULL;
		}
	if (length > NAME_MAX_LENGTH) {
		gs_fail(err, GS_ERROR_INPUT, 0, "%zu letters are no GPU model; 'gpushare sim models' lists them",
			length);
		return NULL;
	}
	memcpy(name, model, length);
	name[length] = '\0';
	if (find_model(name, &group.model, err) < 0)
		return NULL;
	*error_at = at;
	if (add_group(spec, &group, err) < 0)
		return NULL;
	if (*end && *end != ',') {
		*error_at = end;
		gs_fail(err, GS_ERROR_INPUT, 0, "a comma must stand between two kinds of GPU");
		return NULL;
	}
	return end;
}

int sim_spec_parse(const char *text, struct sim_spec *spec, struct gs_error *err)
{
	const char *error_at = text;
	spec->group_count = 0;
	for (const char *at = text;; at++) {
		at = parse_item(at, spec, &error_at, err);
		if (!at)
			return gs_error_prefix(err, "SPEC, character %td", error_at - text + 1);
		if (!*at)
			return 0;
	}
}

int sim_spec_set_driver_version(const char *text, struct sim_spec *spec, struct gs_error *err)
{
	int dots = 0;
	bool digit = false, good = strlen(text) < sizeof spec->driver_version;
	for (const char *c = text; good && *c; c++) {
		if (*c == '.') {
			good = digit;
			dots++;
		} else {
			good = isdigit((unsigned char)*c);
		}
		digit = *c != '.';
	}
	if (!good || !digit || dots < 1 || dots > 3)
		return gs_fail(err, GS_ERROR_INPUT, 0, "'%.40s' is no driver version; write for example %s", text,
			       SIM_DRIVER_VERSION_DEFAULT);
	snprintf(spec->driver_version, sizeof spec->driver_version, "%s", text);
	return 0;
}

int sim_spec_set_seed(const char *text, struct sim_spec *spec, struct gs_error *err)
{
	size_t digits = strspn(text, "0123456789");
	errno = 0;
	unsigned long long seed = strtoull(text, NULL, 10);
	if (digits == 0 || text[digits] || errno)
		return gs_fail(err, GS_ERROR_INPUT, 0, "'%.40s' is no seed; write a number from 0 to %" PRIu64, text,
			       UINT64_MAX);
	spec->seed = seed;
	return 0;
}

static int set_mig(struct sim_gpu_spec *group, const char *layout, struct gs_error *err)
{
	if (strlen(layout) >= sizeof group->mig)
		return gs_fail(err, GS_ERROR_INPUT, 0, "'%.40s...' is too long for a MIG layout", layout);
	if (sim_mig_layout_check(&sim_models[group->model], layout, err) < 0)
		return -1;
	snprintf(group->mig, sizeof group->mig, "%s", layout);
	return 0;
}

int sim_spec_set_mig(const char *layout, struct sim_spec *spec, struct gs_error *err)
{
	size_t capable = 0;
	for (size_t i = 0; i < spec->group_count; i++) {
		if (!sim_models[spec->groups[i].model].mig_capable)
			continue;
		if (set_mig(&spec->groups[i], layout, err) < 0)
			return -1;
		capable++;
	}
	return capable ? 0 : gs_fail(err, GS_ERROR_INPUT, 0, "none of the node's GPUs has MIG");
}

/* The YAML file. */

struct reader {
	yaml_document_t *document;
	const char *file;
	struct gs_error *err;
};

/* Puts "file:line:column: " before the reader's error; returns -1. */
static int locate(const struct reader *reader, const yaml_node_t *node)
{
	return gs_error_prefix(reader->err, "%s:%zu:%zu", reader->file, node->start_mark.line + 1,
			       node->start_mark.column + 1);
}

__attribute__((format(printf, 3, 4))) static int complain(const struct reader *reader, const yaml_node_t *node,
							  const char *format, ...)
{
	char text[256];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	gs_fail(reader->err, GS_ERROR_INPUT, 0, "%s", text);
	return locate(reader, node);
}

/* A scalar's text without NUL bytes in it, or NULL after a complaint. */
static const char *scalar(const struct reader *reader, const yaml_node_t *node, const char *what)
{
	if (node->type == YAML_SCALAR_NODE && strlen((const char *)node->data.scalar.value) == node->data.scalar.length)
		return (const char *)node->data.scalar.value;
	complain(reader, node, "%s must be one value", what);
	return NULL;
}

static int integer(const struct reader *reader, const yaml_node_t *node, const char *key, long low, long high,
		   long *value)
{
	const char *text = scalar(reader, node, key);
	if (!text)
		return -1;
	char *end;
	errno = 0;
	*value = strtol(text, &end, 10);
	if (!text[0] || isspace((unsigned char)text[0]) || *end || errno || *value < low || *value > high)
		return complain(reader, node, "%s is '%.40s'; write a number from %ld to %ld", key, text, low, high);
	return 0;
}

/* The position of a mapping's key in `known`; complains about one that is unknown or was there before. */
static int find_key(const struct reader *reader, const yaml_node_t *key, const char *const *known, size_t count,
		    unsigned *seen)
{
	const char *text = scalar(reader, key, "a key");
	if (!text)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, known[i]) != 0)
			continue;
		if (*seen & (1u << i))
			return complain(reader, key, "'%s' is there twice; keep one", text);
		*seen |= 1u << i;
		return (int)i;
	}
	const char *near = gs_suggest(text, known, count);
	if (near)
		return complain(reader, key, "unknown key '%.60s'; did you mean '%s'?", text, near);
	return complain(reader, key, "unknown key '%.60s'; see docs/simulator.md for the keys", text);
}

static int read_memory(const struct reader *reader, const yaml_node_t *node, struct sim_gpu_spec *group)
{
	const char *text = scalar(reader, node, "memory");
	int64_t bytes;
	if (!text)
		return -1;
	if (gs_parse_quantity(text, &bytes, reader->err) < 0)
		return locate(reader, node);
	if (bytes <= 0 || bytes > MEMORY_MAX_BYTES)
		return complain(reader, node, "memory is '%.40s'; write for example 40Gi, at most 1Pi", text);
	group->memory_total = (uint64_t)bytes;
	return 0;
}

static int read_group(const struct reader *reader, const yaml_node_t *node, struct sim_spec *spec)
{
	static const char *const keys[] = {"model", "count", "memory", "numaNode", "mig"};
	enum { MODEL, COUNT, MEMORY, NUMA_NODE, MIG };
	struct sim_gpu_spec group = {.count = 1};
	const yaml_node_t *mig = NULL;
	const char *layout = NULL;
	unsigned seen = 0;
	long number;
	if (node->type != YAML_MAPPING_NODE)
		return complain(reader, node, "each entry of gpus is a mapping with at least a model");
	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *value = yaml_document_get_node(reader->document, pair->value);
		int r = 0;
		switch (find_key(reader, yaml_document_get_node(reader->document, pair->key), keys,
				 GS_ARRAY_LENGTH(keys), &seen)) {
		case MODEL: {
			const char *name = scalar(reader, value, "model");
			if (!name)
				return -1;
			r = find_model(name, &group.model, reader->err) < 0 ? locate(reader, value) : 0;
			break;
		}
		case COUNT:
			r = integer(reader, value, "count", 1, SIM_GPUS_MAX, &number);
			if (r == 0)
				group.count = (uint32_t)number;
			break;
		case MEMORY:
			r = read_memory(reader, value, &group);
			break;
		case NUMA_NODE:
			r = integer(reader, value, "numaNode", -1, NUMA_NODE_MAX, &number);
			group.numa_set = r == 0;
			if (r == 0)
				group.numa_node = (int32_t)number;
			break;
		case MIG:
			mig = value;
			layout = scalar(reader, value, "mig");
			r = layout ? 0 : -1;
			break;
		default:
			return -1;
		}
		if (r < 0)
			return -1;
	}
	if (!(seen & 1u << MODEL))
		return complain(reader, node, "this GPU has no model; add one, as 'model: A100-80GB'");
	if (mig && set_mig(&group, layout, reader->err) < 0) /* only now the model is known for sure */
		return locate(reader, mig);
	return add_group(spec, &group, reader->err) < 0 ? locate(reader, node) : 0;
}

static int read_groups(const struct reader *reader, const yaml_node_t *node, struct sim_spec *spec)
{
	if (node->type != YAML_SEQUENCE_NODE || node->data.sequence.items.start == node->data.sequence.items.top)
		return complain(reader, node, "gpus is a list of at least one entry, as '- model: A100-80GB'");
	for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++)
		if (read_group(reader, yaml_document_get_node(reader->document, *item), spec) < 0)
			return -1;
	return 0;
}

static int read_document(const struct reader *reader, struct sim_spec *spec)
{
	static const char *const keys[] = {"gpus", "driverVersion", "seed"};
	enum { GPUS, DRIVER_VERSION, SEED };
	unsigned seen = 0;
	const yaml_node_t *root = yaml_document_get_root_node(reader->document);
	if (!root)
		return gs_fail(reader->err, GS_ERROR_INPUT, 0, "%s: the file is empty; it needs the key gpus",
			       reader->file);
	if (root->type != YAML_MAPPING_NODE)
		return complain(reader, root, "the file must be a mapping with the key gpus");
	for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
		const yaml_node_t *value = yaml_document_get_node(reader->document, pair->value);
		int key = find_key(reader, yaml_document_get_node(reader->document, pair->key), keys,
				   GS_ARRAY_LENGTH(keys), &seen);
		if (key < 0 || (key == GPUS && read_groups(reader, value, spec) < 0))
			return -1;
		if (key == GPUS)
			continue;
		const char *text = scalar(reader, value, keys[key]);
		if (!text)
			return -1;
		if ((key == SEED ? sim_spec_set_seed(text, spec, reader->err)
				 : sim_spec_set_driver_version(text, spec, reader->err)) < 0)
			return locate(reader, value);
	}
	if (!(seen & 1u << GPUS))
		return complain(reader, root, "the key gpus is missing; add a list of GPUs");
	return 0;
}

static int yaml_failure(const yaml_parser_t *parser, const char *file, struct gs_error *err)
{
	return gs_fail(err, GS_ERROR_INPUT, 0, "%s:%zu:%zu: this is no YAML: %s", file, parser->problem_mark.line + 1,
		       parser->problem_mark.column + 1, parser->problem ? parser->problem : "it cannot be read");
}

/* Behind the node's description: nothing, or documents with nothing in them. */
static int read_rest(struct reader *reader, yaml_parser_t *parser)
{
	for (;;) {
		if (!yaml_parser_load(parser, reader->document))
			return yaml_failure(parser, reader->file, reader->err);
		const yaml_node_t *root = yaml_document_get_root_node(reader->document);
		bool blank = root && root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0;
		int result =
			root && !blank ? complain(reader, root, "a second document; the file holds one node only") : 0;
		yaml_document_delete(reader->document);
		if (result < 0 || !root)
			return result;
	}
}

/* Before a document is loaded whole: the time that libyaml takes for brackets in brackets grows with their square. */
static int check_depth(const char *text, size_t length, const char *file, struct gs_error *err)
{
	yaml_parser_t parser;
	int depth = 0, result = 0;
	if (!yaml_parser_initialize(&parser))
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "%s: no memory for the YAML parser", file);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	for (bool more = true; more && result == 0;) {
		yaml_event_t event;
		if (!yaml_parser_parse(&parser, &event)) {
			result = yaml_failure(&parser, file, err);
			break;
		}
		depth += event.type == YAML_MAPPING_START_EVENT || event.type == YAML_SEQUENCE_START_EVENT;
		depth -= event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
		more = event.type != YAML_STREAM_END_EVENT;
		if (depth > DEPTH_MAX)
			result = gs_fail(err, GS_ERROR_INPUT, 0, "%s:%zu:%zu: nested deeper than %d levels", file,
					 event.start_mark.line + 1, event.start_mark.column + 1, DEPTH_MAX);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return result;
}

int sim_spec_parse_yaml(const char *bytes, size_t length, const char *file, struct sim_spec *spec, struct gs_error *err)
{
	yaml_parser_t parser;
	yaml_document_t document;
	struct reader reader = {.document = &document, .file = file, .err = err};
	int result = -1;
	spec->group_count = 0;
	GS_AUTO_FREE char *text = gs_text_decode(bytes, &length, err);
	if (!text)
		return gs_error_prefix(err, "%s", file);
	int many = gs_yaml_many_directives(text, length);
	if (many)
		return gs_fail(err, GS_ERROR_INPUT, 0,
			       "%s:%d: more than %d lines begin with %%, as directives do; remove them", file, many,
			       GS_YAML_DIRECTIVES_MAX);
	if (check_depth(text, length, file, err) < 0)
		return -1;
	if (!yaml_parser_initialize(&parser))
		return gs_fail(err, GS_ERROR_INTERNAL, 0, "%s: no memory for the YAML parser", file);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	if (!yaml_parser_load(&parser, &document)) {
		yaml_failure(&parser, file, err);
		goto out;
	}
	result = read_document(&reader, spec);
	yaml_document_delete(&document);
	if (result == 0)
		result = read_rest(&reader, &parser);
out:
	yaml_parser_delete(&parser);
	return result;
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length >= tail && strcmp(text + length - tail, end) == 0;
}

int sim_spec_load(const char *argument, struct sim_spec *spec, struct gs_error *err)
{
	if (!strchr(argument, '/') && !ends_with(argument, ".yaml") && !ends_with(argument, ".yml"))
		return sim_spec_parse(argument, spec, err);
	size_t length;
	GS_AUTO_FREE char *text = gs_read_file(argument, SPEC_FILE_LIMIT, &length, err);
	if (!text)
		return -1;
	return sim_spec_parse_yaml(text, length, argument, spec, err);
}
