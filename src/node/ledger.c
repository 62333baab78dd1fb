#include "node/ledger.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

enum { LEDGER_BYTES_MAX = 16 * 1024 * 1024, LEDGER_VERSION = 1 };

struct ledger {
	char *path;
	json_t *allocations; /* {share id: seconds} */
	bool changed;
};

json_t *ledger_parse(const char *text, size_t length, const char *name, struct gs_error *err)
{
	json_error_t where;
	json_t *document = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
	json_t *allocations = json_object_get(document, "allocations");
	bool good = json_integer_value(json_object_get(document, "version")) == LEDGER_VERSION &&
		    json_is_object(allocations);
	if (!document)
		gs_fail(err, GS_ERROR_INPUT, 0, "%s:%d:%d: %s", name, where.line, where.column, where.text);
	else if (!good)
		gs_fail(err, GS_ERROR_INPUT, 0, "%s: not a ledger of version %d", name, LEDGER_VERSION);
	allocations = good ? json_incref(allocations) : NULL;
	json_decref(document);
	return allocations;
}

static json_t *read_allocations(const char *path, struct gs_error *err)
{
	size_t length;
	GS_AUTO_FREE char *text = gs_read_own_file(path, LEDGER_BYTES_MAX, &length, err);
	return text ? ledger_parse(text, length, path, err) : NULL;
}

struct ledger *ledger_open(const char *dir, struct gs_error *warning)
{
	struct ledger *ledger = gs_calloc(1, sizeof *ledger);
	ledger->path = gs_printf("%s/allocations.json", dir);
	*warning = (struct gs_error){0};
	struct gs_error err = {0};
	ledger->allocations = read_allocations(ledger->path, &err);
	if (!ledger->allocations) {
		ledger->allocations = json_object();
		if (err.source != GS_ERROR_SYSTEM || err.code != ENOENT) {
			*warning = err;
			gs_set_aside(ledger->path, warning);
		}
	}
	return ledger;
}

void ledger_free(struct ledger *ledger)
{
	if (!ledger)
		return;
	json_decref(ledger->allocations);
	free(ledger->path);
	free(ledger);
}

int64_t ledger_get(const struct ledger *ledger, const char *share)
{
	return json_integer_value(json_object_get(ledger->allocations, share));
}

void ledger_set(struct ledger *ledger, const char *share, int64_t seconds)
{
	if (ledger_get(ledger, share) == seconds)
		return;
	json_object_set_new(ledger->allocations, share, json_integer(seconds));
	ledger->changed = true;
}

void ledger_prune(struct ledger *ledger, int (*keep)(const char *share, void *user), void *user)
{
	const char *share;
	json_t *value;
	void *next;
	json_object_foreach_safe(ledger->allocations, next, share, value)
	{
		if (!keep(share, user)) {
			json_object_del(ledger->allocations, share);
			ledger->changed = true;
		}
	}
}

char *ledger_render(struct ledger *ledger)
{
	if (!ledger->changed)
		return NULL;
	json_t *document = json_pack("{s:i, s:O}", "version", LEDGER_VERSION, "allocations", ledger->allocations);
	char *text = json_dumps(document, JSON_INDENT(1));
	json_decref(document);
	ledger->changed = false;
	return text;
}

int ledger_write(const struct ledger *ledger, const char *text, struct gs_error *err)
{
	return gs_write_file(ledger->path, text, strlen(text), 0600, err);
}

void ledger_unsaved(struct ledger *ledger)
{
	ledger->changed = true;
}

int ledger_save(struct ledger *ledger, struct gs_error *err)
{
	char *text = ledger_render(ledger);
	if (!text)
		return 0;
	int result = ledger_write(ledger, text, err);
	free(text);
	if (result < 0)
		ledger_unsaved(ledger);
	return result;
}
