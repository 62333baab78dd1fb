#include "core/config/config_value.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/quantity.h"
#include "base/suggest.h"
#include "base/text.h"
#include "base/utf8.h"

enum { STRING_MAX = 4095 };

#define FAIL(err, ...) gs_fail((err), GS_ERROR_INPUT, 0, __VA_ARGS__)

static void *field_of(const struct gs_config_key *key, void *base)
{
	return (char *)base + key->offset;
}

static const void *const_field_of(const struct gs_config_key *key, const void *base)
{
	return (const char *)base + key->offset;
}

static void set_string(void *field, char *owned)
{
	char **string = field;
	free(*string);
	*string = owned;
}

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

/* "none, single, mixed" of the choices that this version runs. */
static char *list_choices(const struct gs_config_choice *choices)
{
	struct gs_strbuf text = {0};
	for (; choices->name; choices++)
		if (!choices->unavailable)
			gs_strbuf_printf(&text, "%s%s", text.length ? ", " : "", choices->name);
	return gs_strbuf_take(&text);
}

/* The choice that was probably meant, also one that this version refuses; NULL: no idea. */
static const struct gs_config_choice *suggest_choice(const struct gs_config_choice *choices, const char *typed)
{
	const char *names[16] = {NULL};
	size_t count = 0;
	for (; choices[count].name && count < GS_ARRAY_LENGTH(names); count++)
		names[count] = choices[count].name;
	const char *meant = gs_suggest(typed, names, count);
	for (size_t i = 0; meant && i < count; i++)
		if (names[i] == meant)
			return &choices[i];
	return NULL;
}

static const struct gs_config_choice *choose(const struct gs_config_key *key, const char *text, struct gs_error *err)
{
	const char *name = gs_config_key_name(key);
	for (const struct gs_config_choice *choice = key->choices; choice->name; choice++) {
		if (strcmp(choice->name, text) != 0)
			continue;
		if (!choice->unavailable)
			return choice;
		FAIL(err, "%s is %s, but %s", name, text, choice->unavailable);
		return NULL;
	}
	GS_AUTO_FREE char *known = list_choices(key->choices);
	const struct gs_config_choice *meant = suggest_choice(key->choices, text);
	if (!*text)
		FAIL(err, "%s is empty; write one of: %s", name, known);
	else if (strchr(text, ',') && key->type == GS_KEY_CHOICES)
		FAIL(err, "%s is \"%.80s\", and commas do not separate values in a file; write a list: [%.80s]", name,
		     text, text);
	else if (meant && meant->unavailable)
		FAIL(err, "%s is \"%.80s\", which does not exist; \"%s\" does, but %s", name, text, meant->name,
		     meant->unavailable);
	else if (meant)
		FAIL(err, "%s is \"%.80s\", which does not exist; did you mean \"%s\"? One of: %s", name, text,
		     meant->name, known);
	else
		FAIL(err, "%s is \"%.80s\", which does not exist; write one of: %s", name, text, known);
	return NULL;
}

static int set_choice(const struct gs_config_key *key, void *field, const char *text, struct gs_error *err)
{
	const struct gs_config_choice *choice = choose(key, text, err);
	if (!choice)
		return -1;
	/* Every enum here has the size and form of an int. */
	memcpy(field, &choice->value, sizeof choice->value);
	return 0;
}

/* As strconv.ParseBool, which NVIDIA's plugin reads variables with; empty is false. */
static int bool_from_text(const struct gs_config_key *key, const char *text, bool *value, struct gs_error *err)
{
	static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True", NULL};
	static const char *const no[] = {"", "0", "f", "F", "FALSE", "false", "False", NULL};
	*value = is_one_of(text, yes);
	if (*value || is_one_of(text, no))
		return 0;
	return FAIL(err, "%s is \"%.80s\", which is neither true nor false", gs_config_key_name(key), text);
}

static int bool_from_node(const struct gs_config_key *key, const struct gs_node *node, bool *value,
			  struct gs_error *err)
{
	if (!gs_node_is_bool(node, value))
		return FAIL(err, "%s must be true or false, not \"%.80s\"", gs_config_key_name(key), node->text);
	if (node->is_string)
		return FAIL(err, "%s must be true or false, but \"%s\" in quotes is text; remove the quotes",
			    gs_config_key_name(key), node->text);
	return 0;
}

static int set_bool(const struct gs_config_key *key, void *field, bool value)
{
	if (key->type == GS_KEY_TRISTATE)
		*(enum gs_tristate *)field = value ? GS_TRUE : GS_FALSE;
	else
		*(bool *)field = value;
	return 0;
}

static int set_text(const struct gs_config_key *key, void *field, const char *text, struct gs_error *err)
{
	const char *name = gs_config_key_name(key);
	size_t length = strlen(text);
	if (length > STRING_MAX)
		return FAIL(err, "%s has %zu bytes; at most %d are possible", name, length, STRING_MAX);
	for (size_t i = 0, step; i < length; i += step) {
		step = gs_utf8_length(text + i, length - i);
		if (!step || gs_utf8_control(text + i, length - i))
			return FAIL(err, "%s contains %s; remove it", name,
				    step ? "a control character" : "bytes that are not UTF-8");
	}
	if (key->type == GS_KEY_PATH && text[0] && text[0] != '/')
		return FAIL(err, "%s is \"%.80s\", which is not an absolute path; begin it with /", name, text);
	if (key->type == GS_KEY_PATTERN && !text[0])
		return FAIL(err, "%s is empty; write a name, or * for every one", name);
	set_string(field, gs_strdup(text));
	return 0;
}

static int set_duration(const struct gs_config_key *key, void *field, const char *text, struct gs_error *err)
{
	int64_t value;
	size_t digits = strspn(text, "0123456789");
	if (strcmp(text, "infinite") == 0) {
		value = INT64_MAX;
	} else if (digits && !text[digits] && digits < 19) {
		value = strtoll(text, NULL, 10); /* nanoseconds, as Go marshals them */
	} else if (gs_parse_duration(text, &value, err)) {
		return gs_error_prefix(err, "%s", gs_config_key_name(key));
	}
	*(int64_t *)field = value;
	return 0;
}

static int set_count(const struct gs_config_key *key, void *field, const char *text, struct gs_error *err)
{
	const char *name = gs_config_key_name(key);
	bool negative = text[0] == '-';
	size_t digits = strspn(text + negative, "0123456789");
	if (!digits || text[negative + digits])
		return FAIL(err, "%s is \"%.80s\"; write a whole number from %" PRId64 " to %" PRId64 " in digits",
			    name, text, key->minimum, key->maximum);
	if (digits > 1 && text[negative] == '0')
		return FAIL(err, "%s is \"%.80s\", which YAML's older readers take as octal; write it without the 0",
			    name, text);
	long long value = digits > 18 ? INT64_MAX : strtoll(text, NULL, 10);
	if (value < key->minimum || value > key->maximum)
		return FAIL(err, "%s is %.40s; write a number from %" PRId64 " to %" PRId64, name, text, key->minimum,
			    key->maximum);
	*(unsigned *)field = (unsigned)value;
	return 0;
}

static int set_quantity(const struct gs_config_key *key, void *field, const char *text, struct gs_error *err)
{
	int64_t value;
	if (gs_parse_quantity(text, &value, err))
		return gs_error_prefix(err, "%s", gs_config_key_name(key));
	if (!value)
		return FAIL(err, "%s is %.40s; write more than nothing, as 8Gi, or leave it out",
			    gs_config_key_name(key), text);
	if (value < key->minimum) {
		char least[32];
		gs_format_quantity(key->minimum, least, sizeof least);
		return FAIL(err, "%s %.40s is less than %s; write a unit, as 8Gi, or leave it out",
			    gs_config_key_name(key), text, least);
	}
	*(int64_t *)field = value;
	return 0;
}

/* Lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit. */
static bool is_dns1123_subdomain(const char *text)
{
	for (const char *p = text;; p++) {
		bool first = p == text || p[-1] == '.', last = !*p || *p == '.';
		if (last && (first || p[-1] == '-'))
			return false;
		if (!*p)
			return true;
		if (*p == '.' || (*p == '-' && !first) || (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9'))
			continue;
		return false;
	}
}

/* The full resource name, owned by the caller; NULL on failure. */
static char *gs_resource_name_full(const char *name, struct gs_error *err)
{
	static const char prefix[] = "nvidia.com/";
	const char *part = strncmp(name, prefix, sizeof prefix - 1) == 0 ? name + sizeof prefix - 1 : name;
	size_t length = sizeof prefix - 1 + strlen(part);
	if (strchr(part, '/'))
		FAIL(err, "resource name \"%.80s\" has a domain other than nvidia.com; write nvidia.com/NAME", name);
	else if (!is_dns1123_subdomain(part))
		FAIL(err,
		     "resource name \"%.80s\" is not allowed in Kubernetes; after nvidia.com/ use lower-case letters, "
		     "digits, - and ., and begin and end with a letter or digit",
		     name);
	else if (length > GS_RESOURCE_NAME_MAX)
		FAIL(err, "resource name \"%s%.80s\" has %zu characters; at most %d are allowed", prefix, part, length,
		     GS_RESOURCE_NAME_MAX);
	else
		return gs_printf("%s%s", prefix, part);
	return NULL;
}

static int set_name(const struct gs_config_key *key, void *field, const char *text, struct gs_error *err)
{
	char *full = gs_resource_name_full(text, err);
	if (!full)
		return -1;
	set_string(field, full);
	return 0;
}

static const char *skip_number(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	if (!digits || digits > 5 || (digits > 1 && text[0] == '0'))
		return NULL;
	return text + digits;
}

/* 8-4-4-4-12 hexadecimal digits. */
static const char *skip_uuid(const char *text)
{
	static const int groups[] = {8, 4, 4, 4, 12};
	for (size_t g = 0; g < GS_ARRAY_LENGTH(groups); g++) {
		if (g && *text++ != '-')
			return NULL;
		for (int i = 0; i < groups[g]; i++)
			if (!isxdigit((unsigned char)*text++))
				return NULL;
	}
	return text;
}

/* "0", "0:1", GPU-<uuid>, MIG-<uuid> or MIG-GPU-<uuid>/<gi>/<ci>. */
static bool is_device(const char *text)
{
	const char *rest;
	if (isdigit((unsigned char)*text)) {
		rest = skip_number(text);
		if (rest && *rest == ':')
			rest = skip_number(rest + 1);
		return rest && !*rest;
	}
	if (strncmp(text, "MIG-GPU-", 8) == 0) {
		rest = skip_uuid(text + 8);
		for (int i = 0; rest && i < 2; i++)
			rest = *rest == '/' ? skip_number(rest + 1) : NULL;
		return rest && !*rest;
	}
	if (strncmp(text, "GPU-", 4) != 0 && strncmp(text, "MIG-", 4) != 0)
		return false;
	rest = skip_uuid(text + 4);
	return rest && !*rest;
}

static void free_selector(struct gs_device_selector *selector)
{
	for (size_t i = 0; i < selector->list_length; i++)
		free(selector->list[i]);
	free(selector->list);
	*selector = (struct gs_device_selector){.kind = GS_SELECT_ALL};
}

static int add_device(struct gs_device_selector *selector, const struct gs_node *item, struct gs_error *err)
{
	if (item->kind != GS_NODE_SCALAR)
		return FAIL(err, "devices holds a list or a mapping; write indices (0, 0:1) and UUIDs");
	GS_AUTO_FREE char *copy = gs_strdup(item->text);
	const char *text = gs_trim(copy);
	if (!is_device(text))
		return FAIL(err,
			    "\"%.80s\" is no device; write an index (0, or 0:1 for a MIG device) or a UUID (GPU-... or "
			    "MIG-...)",
			    text);
	for (size_t i = 0; i < selector->list_length; i++)
		if (strcasecmp(selector->list[i], text) == 0)
			return FAIL(err, "device %s is listed twice; remove one of them", text);
	selector->list[selector->list_length++] = gs_strdup(text);
	return 0;
}

static int devices_from_list(const struct gs_node *node, struct gs_device_selector *selector, const struct gs_node **at,
			     struct gs_error *err)
{
	enum { LIST_MAX = 1024 };
	if (!node->count)
		return FAIL(err, "devices is an empty list; write all, how many, or which");
	if (node->count > LIST_MAX)
		return FAIL(err, "devices lists %zu devices; at most %d are possible", node->count, LIST_MAX);
	selector->kind = GS_SELECT_LIST;
	selector->list = gs_calloc(node->count, sizeof *selector->list);
	for (size_t i = 0; i < node->count; i++) {
		*at = node->items[i];
		if (add_device(selector, node->items[i], err))
			return -1;
	}
	return 0;
}

static int set_devices(const struct gs_config_key *key, void *field, const struct gs_node *node,
		       const struct gs_node **at, struct gs_error *err)
{
	struct gs_device_selector selector = {.kind = GS_SELECT_ALL};
	int result = 0;
	if (node->kind == GS_NODE_LIST) {
		result = devices_from_list(node, &selector, at, err);
	} else if (node->kind == GS_NODE_MAP) {
		result = FAIL(err, "devices is a mapping; write all, how many, or a list of indices and UUIDs");
	} else if (strcmp(node->text, "all") != 0) {
		const char *rest = skip_number(node->text);
		selector.kind = GS_SELECT_COUNT;
		selector.count = rest && !*rest ? (unsigned)strtoul(node->text, NULL, 10) : 0;
		if (is_device(node->text) && (node->is_string || !selector.count))
			result = FAIL(err, "devices is \"%.80s\"; to name devices write a list: [\"%.80s\"]",
				      node->text, node->text);
		else if (!selector.count)
			result = FAIL(
				err,
				"devices is \"%.80s\"; write all, a number above 0, or a list of indices and UUIDs",
				node->text);
	}
	if (result) {
		free_selector(&selector);
		return result;
	}
	free_selector(field);
	*(struct gs_device_selector *)field = selector;
	return 0;
}

static int set_channels(const struct gs_config_key *key, void *base, bool channel_zero)
{
	int64_t **ids = field_of(key, base);
	free(*ids);
	*ids = channel_zero ? gs_calloc(1, sizeof **ids) : NULL;
	*(size_t *)((char *)base + key->count_offset) = channel_zero;
	return 0;
}

static int channels_from_node(const struct gs_config_key *key, void *base, const struct gs_node *node,
			      struct gs_error *err)
{
	bool none = node->kind == GS_NODE_LIST && node->count == 0;
	bool zero = node->kind == GS_NODE_LIST && node->count == 1 && node->items[0]->kind == GS_NODE_SCALAR &&
		    !node->items[0]->is_string && strcmp(node->items[0]->text, "0") == 0;
	if (none || zero)
		return set_channels(key, base, zero);
	return FAIL(err, "%s can be [] or [0] only", gs_config_key_name(key));
}

static int choices_from_text(const struct gs_config_key *key, void *field, const char *text, struct gs_error *err)
{
	unsigned bits = 0;
	GS_AUTO_FREE char *copy = gs_strdup(text);
	char *rest = copy;
	for (char *word; (word = strsep(&rest, ","));) {
		const struct gs_config_choice *choice = choose(key, gs_trim(word), err);
		if (!choice)
			return -1;
		bits |= (unsigned)choice->value;
	}
	*(unsigned *)field = bits;
	return 0;
}

static int choices_from_node(const struct gs_config_key *key, void *field, const struct gs_node *node,
			     const struct gs_node **at, struct gs_error *err)
{
	unsigned bits = 0;
	size_t count = node->kind == GS_NODE_LIST ? node->count : 1;
	if (!count)
		return FAIL(err, "%s is an empty list; name at least one, or remove the key", gs_config_key_name(key));
	for (size_t i = 0; i < count; i++) {
		*at = node->kind == GS_NODE_LIST ? node->items[i] : node;
		if ((*at)->kind != GS_NODE_SCALAR)
			return FAIL(err, "%s must be a word or a list of words", gs_config_key_name(key));
		GS_AUTO_FREE char *copy = gs_strdup((*at)->text);
		const struct gs_config_choice *choice = choose(key, gs_trim(copy), err);
		if (!choice)
			return -1;
		bits |= (unsigned)choice->value;
	}
	*(unsigned *)field = bits;
	return 0;
}

static int check_version(const char *text, struct gs_error *err)
{
	if (!*text || strcmp(text, "v1") == 0)
		return 0;
	return FAIL(err, "unknown version \"%.80s\"; this program reads version v1", text);
}

/* Blanks around a word, a number or a name mean nothing; in a free text and in a path they may. */
static bool is_trimmed(enum gs_key_type type)
{
	return type != GS_KEY_STRING && type != GS_KEY_PATH && type != GS_KEY_PATTERN;
}

int gs_value_from_text(const struct gs_config_key *key, void *base, const char *given, struct gs_error *err)
{
	void *field = field_of(key, base);
	GS_AUTO_FREE char *copy = gs_strdup(given);
	const char *text = is_trimmed(key->type) ? gs_trim(copy) : given;
	bool value;
	switch (key->type) {
	case GS_KEY_VERSION:
		return check_version(text, err);
	case GS_KEY_BOOL:
	case GS_KEY_TRISTATE:
		return bool_from_text(key, text, &value, err) ? -1 : set_bool(key, field, value);
	case GS_KEY_STRING:
	case GS_KEY_PATH:
	case GS_KEY_PATTERN:
		return set_text(key, field, text, err);
	case GS_KEY_CHOICE:
		return set_choice(key, field, text, err);
	case GS_KEY_CHOICES:
		return choices_from_text(key, field, text, err);
	case GS_KEY_DURATION:
		return set_duration(key, field, text, err);
	case GS_KEY_COUNT:
		return set_count(key, field, text, err);
	case GS_KEY_QUANTITY:
		return set_quantity(key, field, text, err);
	case GS_KEY_NAME:
		return set_name(key, field, text, err);
	case GS_KEY_CHANNELS:
		if (!*text || strcmp(text, "0") == 0)
			return set_channels(key, base, *text);
		return FAIL(err, "%s is \"%.80s\"; it can be empty or 0 only", gs_config_key_name(key), text);
	case GS_KEY_DEVICES: /* in lists only, where "all" is what zeroed memory means */
	case GS_KEY_OBJECT:
	case GS_KEY_SHARING:
	case GS_KEY_LIST:
		break;
	}
	return FAIL(err, "%s cannot be set from a single text", gs_config_key_name(key));
}

int gs_value_from_node(const struct gs_config_key *key, void *base, const struct gs_node *node,
		       const struct gs_node **at, struct gs_error *err)
{
	void *field = field_of(key, base);
	bool value;
	*at = node;
	if (key->type == GS_KEY_DEVICES)
		return set_devices(key, field, node, at, err);
	if (key->type == GS_KEY_CHANNELS)
		return channels_from_node(key, base, node, err);
	if (key->type == GS_KEY_CHOICES)
		return choices_from_node(key, field, node, at, err);
	if (node->kind != GS_NODE_SCALAR)
		return FAIL(err, "%s must be a single value, not a %s", gs_config_key_name(key),
			    node->kind == GS_NODE_LIST ? "list" : "mapping");
	switch (key->type) {
	case GS_KEY_BOOL:
	case GS_KEY_TRISTATE:
		return bool_from_node(key, node, &value, err) ? -1 : set_bool(key, field, value);
	case GS_KEY_COUNT:
		if (node->is_string)
			return FAIL(err, "%s must be a number, but \"%.80s\" in quotes is text; remove the quotes",
				    gs_config_key_name(key), node->text);
		break;
	default:
		break;
	}
	return gs_value_from_text(key, base, node->text, err);
}

static void format_selector(const struct gs_device_selector *selector, struct gs_strbuf *text)
{
	if (selector->kind == GS_SELECT_ALL) {
		gs_strbuf_add(text, "all");
	} else if (selector->kind == GS_SELECT_COUNT) {
		gs_strbuf_printf(text, "%u", selector->count);
	} else {
		for (size_t i = 0; i < selector->list_length; i++)
			gs_strbuf_printf(text, "%s%s", i ? ", " : "[", selector->list[i]);
		gs_strbuf_add(text, "]");
	}
}

static void format_choices(const struct gs_config_key *key, unsigned value, struct gs_strbuf *text)
{
	size_t start = text->length;
	for (const struct gs_config_choice *choice = key->choices; choice->name; choice++)
		if (key->type == GS_KEY_CHOICES ? value & (unsigned)choice->value : value == (unsigned)choice->value)
			gs_strbuf_printf(text, "%s%s", text->length > start ? ", " : "", choice->name);
}

static void format_list(const struct gs_config_key *key, const void *base, struct gs_strbuf *text)
{
	const char *items = *(char *const *)const_field_of(key, base);
	size_t count = *(const size_t *)((const char *)base + key->count_offset);
	GS_AUTO_FREE char *parent = gs_printf("%s[]", key->path);
	gs_strbuf_add(text, "[");
	for (size_t i = 0; i < count; i++) {
		const char *separator = i ? ", {" : "{";
		for (size_t k = 0; k < gs_config_key_count; k++) {
			const struct gs_config_key *child = &gs_config_keys[k];
			GS_AUTO_STRBUF struct gs_strbuf value = {0};
			if (!gs_config_key_in(child, parent))
				continue;
			gs_value_format(child, items + i * key->item_size, &value);
			if (!value.length)
				continue;
			gs_strbuf_printf(text, "%s%s: %s", separator, gs_config_key_name(child), value.data);
			separator = ", ";
		}
		gs_strbuf_add(text, "}");
	}
	gs_strbuf_add(text, "]");
}

static void format_duration(int64_t nanoseconds, struct gs_strbuf *text)
{
	if (nanoseconds == INT64_MAX)
		gs_strbuf_add(text, "infinite");
	else if (nanoseconds % 1000000000 == 0)
		gs_strbuf_printf(text, "%" PRId64 "s", nanoseconds / 1000000000);
	else
		gs_strbuf_printf(text, "%" PRId64 "ns", nanoseconds);
}

static void format_quantity(int64_t bytes, struct gs_strbuf *text)
{
	char words[32];
	if (!bytes)
		return;
	gs_format_quantity(bytes, words, sizeof words);
	gs_strbuf_add(text, words);
}

void gs_value_format(const struct gs_config_key *key, const void *base, struct gs_strbuf *text)
{
	const void *field = const_field_of(key, base);
	switch (key->type) {
	case GS_KEY_OBJECT:
		break;
	case GS_KEY_SHARING:
		gs_strbuf_add(text, ((const struct gs_sharing *)field)->present ? "present" : "");
		break;
	case GS_KEY_LIST:
		format_list(key, base, text);
		break;
	case GS_KEY_VERSION:
		gs_strbuf_add(text, "v1");
		break;
	case GS_KEY_BOOL:
		gs_strbuf_add(text, *(const bool *)field ? "true" : "false");
		break;
	case GS_KEY_TRISTATE:
		if (*(const enum gs_tristate *)field != GS_UNSET)
			gs_strbuf_add(text, *(const enum gs_tristate *)field == GS_TRUE ? "true" : "false");
		break;
	case GS_KEY_STRING:
	case GS_KEY_PATH:
	case GS_KEY_NAME:
	case GS_KEY_PATTERN:
		if (*(char *const *)field)
			gs_strbuf_add(text, **(char *const *)field ? *(char *const *)field : "\"\"");
		break;
	case GS_KEY_CHOICE:
	case GS_KEY_CHOICES:
		format_choices(key, *(const unsigned *)field, text);
		break;
	case GS_KEY_DURATION:
		format_duration(*(const int64_t *)field, text);
		break;
	case GS_KEY_COUNT:
		gs_strbuf_printf(text, "%u", *(const unsigned *)field);
		break;
	case GS_KEY_QUANTITY:
		format_quantity(*(const int64_t *)field, text);
		break;
	case GS_KEY_DEVICES:
		format_selector(field, text);
		break;
	case GS_KEY_CHANNELS:
		gs_strbuf_add(text, *(const size_t *)((const char *)base + key->count_offset) ? "[0]" : "[]");
		break;
	}
}

void gs_value_free(const struct gs_config_key *key, void *base)
{
	void *field = field_of(key, base);
	switch (key->type) {
	case GS_KEY_STRING:
	case GS_KEY_PATH:
	case GS_KEY_NAME:
	case GS_KEY_PATTERN:
		set_string(field, NULL);
		break;
	case GS_KEY_DEVICES:
		free_selector(field);
		break;
	case GS_KEY_CHANNELS:
		set_channels(key, base, false);
		break;
	case GS_KEY_LIST: {
		char **items = field;
		size_t *count = (size_t *)((char *)base + key->count_offset);
		GS_AUTO_FREE char *parent = gs_printf("%s[]", key->path);
		for (size_t i = 0; i < *count; i++)
			for (size_t k = 0; k < gs_config_key_count; k++)
				if (gs_config_key_in(&gs_config_keys[k], parent))
					gs_value_free(&gs_config_keys[k], *items + i * key->item_size);
		free(*items);
		*items = NULL;
		*count = 0;
		break;
	}
	default:
		break;
	}
}
