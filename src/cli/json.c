#include "cli/json.h"

#include <stdio.h>

#include "cli/command.h"

const char *gs_json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

int gs_json_print(json_t *value)
{
	int result = json_dumpf(value, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(value);
	return result || fflush(stdout) ? GS_EXIT_FAILURE : GS_EXIT_OK;
}
