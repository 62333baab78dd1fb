#include "mig/mig_record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/strbuf.h"

enum { RECORD_BYTES_MAX = 1024 * 1024, LINE_MAX_BYTES = 256 };

static const char header[] = "gpushare mig change 1\n";

/* FNV-1a: finds torn and damaged files; it is no protection against forgery. */
static uint64_t checksum(const char *text, size_t length)
{
	uint64_t sum = UINT64_C(14695981039346656037);
	for (size_t i = 0; i < length; i++)
		sum = (sum ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
	return sum;
}

static void add_layout(struct gs_strbuf *text, const char *name, const struct gs_mig_record_layout *layout)
{
	for (size_t i = 0; i < layout->count; i++) {
		const struct gs_mig_record_instance *item = &layout->items[i];
		gs_strbuf_printf(text, "%s %u %u %u", name, item->profile_id, item->place.start, item->place.size);
		for (size_t k = 0; k < item->compute_count; k++)
			gs_strbuf_printf(text, " %u@%u", item->compute[k].slices, item->compute[k].start);
		gs_strbuf_add_char(text, '\n');
	}
}

char *gs_mig_record_text(const struct gs_mig_record *record)
{
	struct gs_strbuf text = {0};
	gs_strbuf_add(&text, header);
	gs_strbuf_printf(&text, "boot %s\n", *record->boot ? record->boot : "-");
	for (size_t i = 0; i < record->count; i++) {
		const struct gs_mig_record_gpu *gpu = &record->gpus[i];
		gs_strbuf_printf(&text, "gpu %s %d %d %d %d\n", gpu->uuid, gpu->before.enabled, gpu->after.enabled,
				 gpu->before.pending, gpu->after.pending);
		add_layout(&text, "before", &gpu->before);
		add_layout(&text, "after", &gpu->after);
	}
	gs_strbuf_printf(&text, "sum %016" PRIx64 "\n", checksum(text.data, text.length));
	return gs_strbuf_take(&text);
}

static bool parse_instance(const char *text, struct gs_mig_record_layout *layout)
{
	unsigned id, start, size, slices, at;
	int used = 0;
	if (layout->count == GS_MIG_INSTANCES_MAX || sscanf(text, "%u %u %u%n", &id, &start, &size, &used) < 3 ||
	    start >= GS_MIG_SLICES_MAX || !size || size > GS_MIG_SLICES_MAX)
		return false;
	struct gs_mig_record_instance *item = &layout->items[layout->count++];
	*item = (struct gs_mig_record_instance){.profile_id = id, .place = {(uint8_t)start, (uint8_t)size}};
	for (text += used; *text; text += used) {
		if (item->compute_count == GS_MIG_COMPUTE_MAX || sscanf(text, " %u@%u%n", &slices, &at, &used) < 2 ||
		    !slices || slices > GS_MIG_SLICES_MAX || at >= GS_MIG_SLICES_MAX)
			return false;
		item->compute[item->compute_count].slices = (uint8_t)slices;
		item->compute[item->compute_count++].start = (uint8_t)at;
	}
	return true;
}

static bool parse_gpu(const char *text, struct gs_mig_record *record)
{
	struct gs_mig_record_gpu gpu = {0};
	unsigned before, after, before_pending, after_pending;
	_Static_assert(GS_UUID_SIZE == 96, "the format below holds one less");
	int found = sscanf(text, "%95s %u %u %u %u", gpu.uuid, &before, &after, &before_pending, &after_pending);
	if (found == 3) { /* as the first releases wrote it */
		before_pending = before;
		after_pending = after;
	}
	if (record->count == GS_GPUS_MAX || (found != 3 && found != 5) ||
	    (before | after | before_pending | after_pending) > 1)
		return false;
	gpu.before.enabled = before;
	gpu.after.enabled = after;
	gpu.before.pending = before_pending;
	gpu.after.pending = after_pending;
	record->gpus = gs_reallocarray(record->gpus, record->count + 1, sizeof *record->gpus);
	record->gpus[record->count++] = gpu;
	return true;
}

static bool parse_line(const char *line, struct gs_mig_record *record)
{
	struct gs_mig_record_gpu *gpu = record->count ? &record->gpus[record->count - 1] : NULL;
	if (strncmp(line, "boot ", 5) == 0 && strlen(line + 5) < sizeof record->boot) {
		snprintf(record->boot, sizeof record->boot, "%s", strcmp(line + 5, "-") == 0 ? "" : line + 5);
		return true;
	}
	if (strncmp(line, "gpu ", 4) == 0)
		return parse_gpu(line + 4, record);
	if (strncmp(line, "before ", 7) == 0)
		return gpu && parse_instance(line + 7, &gpu->before);
	return strncmp(line, "after ", 6) == 0 && gpu && parse_instance(line + 6, &gpu->after);
}

int gs_mig_record_parse(const char *text, size_t length, struct gs_mig_record *record, struct gs_error *err)
{
	char tail[32];
	const size_t head_length = sizeof header - 1, tail_length = strlen("sum 0123456789abcdef\n");

	*record = (struct gs_mig_record){0};
	if (length >= head_length + tail_length)
		snprintf(tail, sizeof tail, "sum %016" PRIx64 "\n", checksum(text, length - tail_length));
	if (length < head_length + tail_length || memcmp(text, header, head_length) != 0 || strlen(text) != length ||
	    strcmp(text + length - tail_length, tail) != 0)
		return gs_fail(err, GS_ERROR_INPUT, 0, "it is not what was written (bad checksum)");
	for (const char *at = text + head_length, *end = text + length - tail_length; at < end;) {
		char line[LINE_MAX_BYTES];
		size_t size = strcspn(at, "\n");
		snprintf(line, sizeof line, "%.*s", (int)(size < sizeof line ? size : sizeof line), at);
		if (size >= sizeof line || !parse_line(line, record)) {
			gs_mig_record_free(record);
			return gs_fail(err, GS_ERROR_INPUT, 0, "the line \"%.60s\" makes no sense", line);
		}
		at += size + 1;
	}
	return 0;
}

static char *path_of(const char *dir)
{
	return gs_printf("%s/mig-change", dir);
}

static void read_boot(const char *proc, char *boot, size_t size)
{
	size_t length;
	GS_AUTO_FREE char *path = gs_printf("%s/sys/kernel/random/boot_id", proc);
	GS_AUTO_FREE char *text = gs_read_file(path, 256, &length, NULL);
	snprintf(boot, size, "%.*s", text ? (int)strcspn(text, " \n") : 0, text ? text : "");
}

bool gs_mig_record_is_current(const struct gs_mig_record *record, const char *proc)
{
	char boot[sizeof record->boot];
	read_boot(proc, boot, sizeof boot);
	return !*boot || !*record->boot || strcmp(boot, record->boot) == 0;
}

int gs_mig_record_write(const char *dir, const char *proc, const struct gs_mig_record *record, struct gs_error *err)
{
	struct gs_mig_record stamped = *record;
	read_boot(proc, stamped.boot, sizeof stamped.boot);
	GS_AUTO_FREE char *path = path_of(dir);
	GS_AUTO_FREE char *text = gs_mig_record_text(&stamped);
	return gs_write_file(path, text, strlen(text), 0600, err);
}

int gs_mig_record_read(const char *dir, struct gs_mig_record *record, struct gs_error *err)
{
	GS_AUTO_FREE char *path = path_of(dir);
	struct gs_error why;
	size_t length;
	*record = (struct gs_mig_record){0};
	GS_AUTO_FREE char *text = gs_read_own_file(path, RECORD_BYTES_MAX, &length, &why);
	if (!text && why.source == GS_ERROR_SYSTEM && why.code == ENOENT)
		return 0;
	if (!text)
		return gs_fail(err, why.source, why.code, "%s", why.text);
	if (gs_mig_record_parse(text, length, record, err) < 0)
		return gs_error_prefix(err, "%s", path);
	return 1;
}

static void sync_directory(const char *dir)
{
	GS_AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)!fsync(fd);
}

int gs_mig_record_remove(const char *dir, struct gs_error *err)
{
	GS_AUTO_FREE char *path = path_of(dir);
	if (unlink(path) < 0 && errno != ENOENT)
		return gs_fail_errno(err, "cannot remove %s", path);
	sync_directory(dir);
	return 0;
}

int gs_mig_record_set_aside(const char *dir, struct gs_error *err)
{
	GS_AUTO_FREE char *path = path_of(dir);
	GS_AUTO_FREE char *aside = gs_printf("%s.corrupt", path);
	if (rename(path, aside) < 0)
		return gs_fail_errno(err, "cannot rename %s", path);
	sync_directory(dir);
	return 0;
}

void gs_mig_record_free(struct gs_mig_record *record)
{
	free(record->gpus);
	*record = (struct gs_mig_record){0};
}
