/* Helpers for the JSON that commands print and receive. */
#ifndef GPUSHARE_CLI_JSON_H
#define GPUSHARE_CLI_JSON_H

#include <jansson.h>

/* The text under a key; "" when there is none. */
const char *gs_json_text(const json_t *object, const char *key);
/* Prints a value, which it takes, and ends the line. An exit code. */
int gs_json_print(json_t *value);

#endif
