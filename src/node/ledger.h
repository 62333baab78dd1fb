/* When each share was last handed to a container, kept across restarts in STATE-DIR/allocations.json. The kubelet never
 * says when a container ended, so this is a record of allocations, not of the shares that pods hold now. */
#ifndef GPUSHARE_NODE_LEDGER_H
#define GPUSHARE_NODE_LEDGER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct ledger;

/* Reads DIR/allocations.json. A missing file is an empty record; one that can't be read or understood is moved aside to
 * allocations.json.corrupt, the record starts empty and `warning` says so (its text is "" when all is well). */
struct ledger *ledger_open(const char *dir, struct gs_error *warning);
/* The object {share: seconds} of a record's text, owned by the caller; NULL with the reason, which names the file
 * `name`. */
json_t *ledger_parse(const char *text, size_t length, const char *name, struct gs_error *err);
void ledger_free(struct ledger *ledger);
/* Seconds since the epoch of the last allocation of `share`, or 0. */
int64_t ledger_get(const struct ledger *ledger, const char *share);
void ledger_set(struct ledger *ledger, const char *share, int64_t seconds);
/* Forgets shares for which `keep` answers 0. */
void ledger_prune(struct ledger *ledger, int (*keep)(const char *share, void *user), void *user);
/* Writes new, syncs, renames; nothing is done when nothing changed. May wait for the disk. */
int ledger_save(struct ledger *ledger, struct gs_error *err);
/* The same in two steps, so that another thread can wait for the disk: the text to write (owned by the caller), NULL
 * when nothing changed; and ledger_write, which does not read the record in memory. When that fails, ledger_unsaved
 * makes the next ledger_render give everything again. */
char *ledger_render(struct ledger *ledger);
int ledger_write(const struct ledger *ledger, const char *text, struct gs_error *err);
void ledger_unsaved(struct ledger *ledger);

#endif
