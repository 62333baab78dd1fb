/* One line per event on stderr, as text or JSON, with typed fields.
 *
 *     gs_log(GS_LOG_WARNING, "gpu unhealthy", GS_STR("gpu", uuid), GS_INT("xid", 79));
 *
 * text:  2026-11-23T10:00:00.123Z WARNING gpu unhealthy gpu=GPU-... xid=79
 * json:  {"time":"...","level":"warning","message":"gpu unhealthy","gpu":"GPU-...","xid":79}
 *
 * Only the edges (node, cli) log; rooms below return errors. Control characters in values are escaped,
 * so a peer cannot forge lines. One write() per line, lines longer than 4 KiB are cut. */
#ifndef GPUSHARE_BASE_LOG_H
#define GPUSHARE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gs_log_level { GS_LOG_DEBUG, GS_LOG_INFO, GS_LOG_WARNING, GS_LOG_ERROR };

struct gs_log_field {
	const char *key;
	enum { GS_FIELD_STRING, GS_FIELD_INT } kind;
	const char *text;
	int64_t number;
};

#define GS_STR(name, value) ((struct gs_log_field){.key = (name), .kind = GS_FIELD_STRING, .text = (value)})
#define GS_INT(name, value) ((struct gs_log_field){.key = (name), .kind = GS_FIELD_INT, .number = (int64_t)(value)})

void gs_log_fields(enum gs_log_level level, const char *message, const struct gs_log_field *fields, size_t count);

#define gs_log(level, ...) GS_LOG_PICK(level, __VA_ARGS__, GS_LOG_END)
#define GS_LOG_END         ((struct gs_log_field){.key = NULL})
#define GS_LOG_PICK(level, message, ...)                                                                \
	do {                                                                                            \
		const struct gs_log_field gs_fields[] = {__VA_ARGS__};                                  \
		gs_log_fields((level), (message), gs_fields, sizeof gs_fields / sizeof *gs_fields - 1); \
	} while (0)

/* Defaults: level info, text. Names: debug, info, warning, error. false if the name is unknown. */
bool gs_log_level_by_name(const char *name, enum gs_log_level *level);
void gs_log_configure(enum gs_log_level minimum, bool json);

#endif
