/* The table as a JSON Schema and as Markdown. */
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "core/config/config_explain.h"

#define UUID_PATTERN "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
#define DEVICE_PATTERN \
	"^([0-9]{1,5}(:[0-9]{1,5})?|(GPU|MIG)-" UUID_PATTERN "|MIG-GPU-" UUID_PATTERN "/[0-9]{1,5}/[0-9]{1,5})$"
#define NAME_PATTERN "^(nvidia\\.com/)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"

static json_t *object_schema(const char *parent);

static json_t *choice_names(const struct gs_config_choice *choices)
{
	json_t *names = json_array();
	for (; choices->name; choices++)
		if (!choices->unavailable)
			json_array_append_new(names, json_string(choices->name));
	return names;
}

static json_t *list_schema(const struct gs_config_key *key)
{
	GS_AUTO_FREE char *parent = gs_printf("%s[]", key->path);
	return json_pack("{s:s, s:I, s:I, s:o}", "type", "array", "minItems", (json_int_t)key->minimum, "maxItems",
			 (json_int_t)key->maximum, "items", object_schema(parent));
}

static json_t *devices_schema(void)
{
	json_t *item = json_pack("{s:[{s:s, s:i, s:i}, {s:s, s:s}]}", "anyOf", "type", "integer", "minimum", 0,
				 "maximum", 99999, "type", "string", "pattern", DEVICE_PATTERN);
	return json_pack("{s:[{s:s}, {s:s, s:i, s:i}, {s:s, s:i, s:i, s:b, s:o}]}", "anyOf", "const", "all", "type",
			 "integer", "minimum", 1, "maximum", 99999, "type", "array", "minItems", 1, "maxItems", 1024,
			 "uniqueItems", 1, "items", item);
}

static json_t *type_schema(const struct gs_config_key *key)
{
	switch (key->type) {
	case GS_KEY_OBJECT:
	case GS_KEY_SHARING:
		return object_schema(key->path);
	case GS_KEY_LIST:
		return list_schema(key);
	case GS_KEY_VERSION:
		return json_pack("{s:[s, s]}", "enum", "v1", "");
	case GS_KEY_BOOL:
	case GS_KEY_TRISTATE:
		return json_pack("{s:s}", "type", "boolean");
	case GS_KEY_STRING:
		return json_pack("{s:s, s:i}", "type", "string", "maxLength", 4095);
	case GS_KEY_PATH:
		return json_pack("{s:s, s:i, s:s}", "type", "string", "maxLength", 4095, "pattern", "^(/|$)");
	case GS_KEY_PATTERN:
		return json_pack("{s:s, s:i, s:i}", "type", "string", "minLength", 1, "maxLength", 4095);
	case GS_KEY_CHOICE:
		return json_pack("{s:o}", "enum", choice_names(key->choices));
	case GS_KEY_CHOICES:
		return json_pack("{s:[{s:o}, {s:s, s:i, s:{s:o}}]}", "anyOf", "enum", choice_names(key->choices),
				 "type", "array", "minItems", 1, "items", "enum", choice_names(key->choices));
	case GS_KEY_DURATION:
		return json_pack("{s:[{s:s, s:i}, {s:s, s:s}]}", "anyOf", "type", "integer", "minimum", 0, "type",
				 "string", "pattern",
				 "^(0|infinite|[0-9]+|([0-9]*\\.?[0-9]*(ns|us|\xc2\xb5s|ms|s|m|h))+)$");
	case GS_KEY_COUNT:
		return json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)key->minimum, "maximum",
				 (json_int_t)key->maximum);
	case GS_KEY_QUANTITY:
		return json_pack("{s:[{s:s, s:I}, {s:s, s:s}]}", "anyOf", "type", "integer", "minimum",
				 (json_int_t)key->minimum, "type", "string", "pattern",
				 "^[0-9]+(\\.[0-9]*)?([KMGTPE]i|[kMGTPE]|[eE]\\+?[0-9]+)?$");
	case GS_KEY_NAME:
		return json_pack("{s:s, s:i, s:s}", "type", "string", "maxLength", GS_RESOURCE_NAME_MAX, "pattern",
				 NAME_PATTERN);
	case GS_KEY_DEVICES:
		return devices_schema();
	case GS_KEY_CHANNELS:
		return json_pack("{s:[[], [i]]}", "enum", 0);
	}
	return json_object();
}

static json_t *key_schema(const struct gs_config_key *key)
{
	/* A section that this version refuses can only be left out, or be null. */
	json_t *schema = key->unavailable ? json_pack("{s:s}", "type", "null") : type_schema(key);
	if (!key->unavailable && !key->required)
		schema = json_pack("{s:[o, {s:s}]}", "anyOf", schema, "type", "null");
	if (key->unavailable) {
		GS_AUTO_FREE char *help = gs_printf("%s (%s)", key->help, key->unavailable);
		json_object_set_new(schema, "description", json_string(help));
	} else {
		json_object_set_new(schema, "description", json_string(key->help));
	}
	return schema;
}

static json_t *object_schema(const char *parent)
{
	json_t *properties = json_object(), *required = json_array();
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		if (!gs_config_key_in(key, parent))
			continue;
		json_object_set_new(properties, gs_config_key_name(key), key_schema(key));
		if (key->required)
			json_array_append_new(required, json_string(gs_config_key_name(key)));
	}
	return json_pack("{s:s, s:b, s:o, s:o}", "type", "object", "additionalProperties", 0, "properties", properties,
			 "required", required);
}

json_t *gs_config_json_schema(void)
{
	json_t *schema = object_schema("");
	json_object_set_new(schema, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
	json_object_set_new(schema, "title", json_string("gpushare configuration, version v1"));
	return schema;
}

/* The values that a key takes, for a table's cell. */
static void describe_type(const struct gs_config_key *key, struct gs_strbuf *text)
{
	static const char *const names[] = {[GS_KEY_OBJECT] = "mapping",
					    [GS_KEY_SHARING] = "mapping",
					    [GS_KEY_LIST] = "list",
					    [GS_KEY_VERSION] = "`v1`",
					    [GS_KEY_BOOL] = "boolean",
					    [GS_KEY_TRISTATE] = "boolean",
					    [GS_KEY_STRING] = "text",
					    [GS_KEY_PATH] = "absolute path, or empty",
					    [GS_KEY_DURATION] = "duration",
					    [GS_KEY_QUANTITY] = "quantity, as `8Gi`",
					    [GS_KEY_NAME] = "resource name",
					    [GS_KEY_PATTERN] = "pattern",
					    [GS_KEY_DEVICES] = "`all`, a number, or a list",
					    [GS_KEY_CHANNELS] = "`[]` or `[0]`"};
	if (key->type == GS_KEY_COUNT) {
		gs_strbuf_printf(text, "%" PRId64 " to %" PRId64, key->minimum, key->maximum);
		return;
	}
	if (!key->choices) {
		gs_strbuf_add(text, names[key->type]);
		return;
	}
	for (const struct gs_config_choice *choice = key->choices; choice->name; choice++)
		gs_strbuf_printf(text, "%s`%s`%s", choice == key->choices ? "" : ", ", choice->name,
				 choice->unavailable ? " (refused)"
				 : choice->addition  ? " (addition)"
						     : "");
	if (key->type == GS_KEY_CHOICES)
		gs_strbuf_add(text, "; one or a list");
}

static void describe_default(const struct gs_config_key *key, struct gs_strbuf *text)
{
	if (key->required)
		gs_strbuf_add(text, "required");
	else if (key->type == GS_KEY_CHANNELS)
		gs_strbuf_add(text, "`[]`");
	else if (key->fallback)
		gs_strbuf_printf(text, "`%s`", key->fallback);
	else if (key->fallback_note)
		gs_strbuf_printf(text, "unset: %s", key->fallback_note);
}

void gs_config_markdown(struct gs_strbuf *text)
{
	gs_strbuf_add(text,
		      "| Key | Value | Default | Environment, flag | Since | Meaning |\n|---|---|---|---|---|---|\n");
	for (size_t i = 0; i < gs_config_key_count; i++) {
		const struct gs_config_key *key = &gs_config_keys[i];
		gs_strbuf_printf(text, "| `%s` | ", key->path);
		describe_type(key, text);
		gs_strbuf_add(text, " | ");
		describe_default(key, text);
		gs_strbuf_add(text, " | ");
		for (size_t e = 0; e < GS_ARRAY_LENGTH(key->env) && key->env[e]; e++)
			gs_strbuf_printf(text, "%s`%s`", e ? ", " : "", key->env[e]);
		for (size_t f = 0; f < GS_ARRAY_LENGTH(key->flags) && key->flags[f]; f++)
			gs_strbuf_printf(text, ", `--%s`", key->flags[f]);
		gs_strbuf_printf(text, " | %s | %s", key->since, key->help);
		if (key->of_node)
			gs_strbuf_add(text, "; [the node's own](#what-a-configmap-may-not-say)");
		if (key->unavailable)
			gs_strbuf_printf(text, ". Refused: %s", key->unavailable);
		gs_strbuf_add(text, " |\n");
	}
}
