#include "cli/status_table.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/utf8.h"
#include "cli/json.h"

/* The columns that begin in line; those behind them, MEMORY and BUSY, are numbers and end in line. */
enum column { SHARE, RESOURCE, PROCESS, COLUMNS };
enum { MEMORY_WIDTH = 18, BUSY_WIDTH = 6 };
enum { CELL_SIZE = 64 };

/* At these widths a row has 98 characters, the gaps between the columns included. */
static const int width_limits[COLUMNS] = {[SHARE] = 11, [RESOURCE] = 33, [PROCESS] = 23};

/* The rows to print, and how wide each column has to be for them. */
struct table {
	struct gs_strbuf *out;
	int widths[COLUMNS];
};

/* Adds at most `width` characters of a text. Names are chosen by the processes that bear them and errors come from peers, so
 * what would steer the terminal is shown as a question mark. How many characters were added. */
static int add_plain(struct gs_strbuf *out, const char *text, int width)
{
	int shown = 0;
	for (size_t left = strlen(text); left && shown < width; shown++) {
		size_t length = gs_utf8_length(text, left);
		if (length && !gs_utf8_control(text, left)) {
			gs_strbuf_add_bytes(out, text, length);
		} else {
			gs_strbuf_add_char(out, '?');
			length = length ? length : 1;
		}
		text += length;
		left -= length;
	}
	return shown;
}

static void add_line(struct gs_strbuf *out, const char *indent, const char *text)
{
	gs_strbuf_add(out, indent);
	add_plain(out, text, INT_MAX);
	gs_strbuf_add_char(out, '\n');
}

static void add_cell(struct table *table, enum column column, const char *text)
{
	int shown = add_plain(table->out, text, width_limits[column]);
	if (table->widths[column] < shown)
		table->widths[column] = shown;
	gs_strbuf_printf(table->out, "%*s", table->widths[column] - shown + 2, "");
}

/* A row; the columns behind the process are left out when there is nothing to say in them. */
static void add_row(struct table *table, const char *share, const char *resource, const char *process,
		    const char *memory, const char *busy, const char *pods)
{
	struct gs_strbuf *out = table->out;
	add_cell(table, SHARE, share);
	add_cell(table, RESOURCE, resource);
	if (memory) {
		add_cell(table, PROCESS, process);
		gs_strbuf_printf(out, "%*s %*s", MEMORY_WIDTH, memory, BUSY_WIDTH, busy);
	} else {
		add_plain(out, process, INT_MAX);
	}
	if (pods && *pods) {
		gs_strbuf_add(out, "  ");
		add_plain(out, pods, INT_MAX);
	}
	gs_strbuf_add_char(out, '\n');
}

static void format_bytes(const json_t *bytes, char text[CELL_SIZE])
{
	double gib = (double)json_integer_value(bytes) / (1024.0 * 1024 * 1024);
	if (!json_is_integer(bytes))
		snprintf(text, CELL_SIZE, "-");
	else if (gib > 0 && gib < 1)
		snprintf(text, CELL_SIZE, "%.0f MiB", gib * 1024);
	else
		snprintf(text, CELL_SIZE, "%.1f GiB", gib);
}

static void format_percent(const json_t *percent, char text[CELL_SIZE])
{
	if (json_is_number(percent))
		snprintf(text, CELL_SIZE, "%.0f %%", json_number_value(percent));
	else
		snprintf(text, CELL_SIZE, "-");
}

/* "::3" of a share's id; "" of a device that is not split. */
static const char *replica_of(const json_t *share)
{
	const char *mark = strstr(gs_json_text(share, "id"), "::");
	return mark ? mark : "";
}

/* "0:1" of the MIG device with this UUID; "" when the GPU has none of it. */
static const char *mig_index(const json_t *gpu, const char *uuid)
{
	const json_t *devices = json_object_get(gpu, "migDevices");
	for (size_t i = 0; *uuid && i < json_array_size(devices); i++)
		if (strcmp(gs_json_text(json_array_get(devices, i), "uuid"), uuid) == 0)
			return gs_json_text(json_array_get(devices, i), "index");
	return "";
}

/* "::3", "0:1::3" on a MIG device; a device that is not split has one share: "whole", "0:1". */
static const char *share_mark(const json_t *gpu, const json_t *share, char mark[CELL_SIZE])
{
	const char *index = mig_index(gpu, gs_json_text(share, "device")), *replica = replica_of(share);
	snprintf(mark, CELL_SIZE, "%s%s", index, *index || *replica ? replica : "whole");
	return mark;
}

char *gs_status_pods(const json_t *share)
{
	struct gs_strbuf text = {0};
	size_t i;
	const json_t *pod;
	json_array_foreach(json_object_get(share, "pods"), i, pod)
		gs_strbuf_printf(&text, "%s%s/%s/%s", i ? ", " : "", gs_json_text(pod, "namespace"),
				 gs_json_text(pod, "name"), gs_json_text(pod, "container"));
	return gs_strbuf_take(&text);
}

static void add_holder(struct table *table, const json_t *holder, const char *mark, const char *resource,
		       const char *pods)
{
	char share[CELL_SIZE + 2], process[CELL_SIZE], memory[CELL_SIZE], busy[CELL_SIZE];
	snprintf(share, sizeof share, "  %s", mark);
	snprintf(process, sizeof process, "%" PRId64 " %s", (int64_t)json_integer_value(json_object_get(holder, "pid")),
		 gs_json_text(holder, "name"));
	format_bytes(json_object_get(holder, "memoryBytes"), memory);
	format_percent(json_object_get(holder, "utilizationPercent"), busy);
	add_row(table, share, resource, process, memory, busy, pods);
}

/* The state of a share that no pod is known to hold. Where the kubelet does not tell which pods there are, a share that
 * was once allocated may be free again or not. */
static const char *idle_text(const json_t *share)
{
	if (strcmp(gs_json_text(share, "state"), "Unhealthy") == 0)
		return "unhealthy";
	if (json_is_array(json_object_get(share, "pods")))
		return "free";
	return json_is_string(json_object_get(share, "lastAllocated")) ? "given out, no process" : "free";
}

static bool has_pod(const json_t *share)
{
	return json_array_size(json_object_get(share, "pods")) > 0;
}

static bool has_holder(const json_t *share)
{
	return has_pod(share) || json_array_size(json_object_get(share, "holders")) > 0;
}

/* One row for the share at `first` and those after it of which the same is to be said. Returns the position after them. */
static size_t add_idle(struct table *table, const json_t *gpu, const json_t *shares, size_t first)
{
	const json_t *share = json_array_get(shares, first);
	const char *text = idle_text(share), *resource = gs_json_text(share, "resource");
	size_t end = first + 1;
	for (; end < json_array_size(shares); end++) {
		const json_t *next = json_array_get(shares, end);
		if (has_holder(next) || strcmp(idle_text(next), text) != 0 ||
		    strcmp(gs_json_text(next, "resource"), resource) != 0)
			break;
		/* A row is of the replicas of one device, or of devices that are not split. */
		if (*replica_of(next) ? strcmp(gs_json_text(next, "device"), gs_json_text(share, "device")) != 0
				      : *replica_of(share))
			break;
	}
	char marks[2 * CELL_SIZE], what[CELL_SIZE], mark[CELL_SIZE];
	const json_t *last = json_array_get(shares, end - 1);
	share_mark(gpu, share, mark);
	if (end - first == 1) {
		snprintf(marks, sizeof marks, "  %s", mark);
		snprintf(what, sizeof what, "%s", text);
	} else {
		const char *replica = replica_of(last);
		snprintf(marks, sizeof marks, "  %s-%s", mark,
			 *replica ? replica + 2 : mig_index(gpu, gs_json_text(last, "device")));
		snprintf(what, sizeof what, "%zu %s", end - first, text);
	}
	add_row(table, marks, resource, what, NULL, NULL, NULL);
	return end;
}

static void add_gpu_row(struct table *table, const json_t *gpu)
{
	const json_t *memory = json_object_get(gpu, "memory");
	char index[CELL_SIZE], used[CELL_SIZE], total[CELL_SIZE], both[2 * CELL_SIZE + 8], busy[CELL_SIZE];
	snprintf(index, sizeof index, "GPU %" PRId64, (int64_t)json_integer_value(json_object_get(gpu, "index")));
	format_bytes(json_object_get(memory, "usedBytes"), used);
	format_bytes(json_object_get(memory, "totalBytes"), total);
	/* "2.0 of 80.0 GiB": the unit once, where it is the same. */
	size_t unit = strcspn(used, " ");
	if (strcmp(used + unit, total + strcspn(total, " ")) == 0)
		used[unit] = '\0';
	snprintf(both, sizeof both, "%s of %s", used, total);
	format_percent(json_object_get(gpu, "utilizationPercent"), busy);
	add_row(table, index, gs_json_text(gpu, "name"), gs_json_text(gpu, "health"), both, busy, NULL);
	if (*gs_json_text(gpu, "reason"))
		add_line(table->out, "  ", gs_json_text(gpu, "reason"));
	size_t i;
	const json_t *device;
	json_array_foreach(json_object_get(gpu, "migDevices"), i, device)
	{
		const char *reason = gs_json_text(device, "reason");
		if (!*reason || strcmp(reason, gs_json_text(gpu, "reason")) == 0)
			continue;
		char indent[CELL_SIZE];
		snprintf(indent, sizeof indent, "  %s: ", gs_json_text(device, "index"));
		add_line(table->out, indent, reason);
	}
}

static void add_held(struct table *table, const json_t *gpu, const json_t *share)
{
	const json_t *holders = json_object_get(share, "holders");
	char *pods = gs_status_pods(share);
	char name[CELL_SIZE], mark[CELL_SIZE + 2];
	snprintf(mark, sizeof mark, "  %s", share_mark(gpu, share, name));
	size_t i;
	const json_t *holder;
	json_array_foreach(holders, i, holder) add_holder(table, holder, name, gs_json_text(share, "resource"), pods);
	if (json_array_size(holders) == 0)
		add_row(table, mark, gs_json_text(share, "resource"),
			strcmp(gs_json_text(share, "state"), "Unhealthy") == 0 ? "no process, unhealthy" : "no process",
			"-", "-", pods);
	free(pods);
}

static void add_gpu(struct table *table, const json_t *gpu)
{
	const json_t *shares = json_object_get(gpu, "shares");
	add_gpu_row(table, gpu);
	for (size_t i = 0; i < json_array_size(shares);) {
		const json_t *share = json_array_get(shares, i);
		if (has_holder(share)) {
			add_held(table, gpu, share);
			i++;
		} else {
			i = add_idle(table, gpu, shares, i);
		}
	}
	size_t i;
	const json_t *process;
	json_array_foreach(json_object_get(gpu, "processes"), i, process)
	{
		const char *index = mig_index(gpu, gs_json_text(process, "migDevice"));
		add_holder(table, process, *index ? index : "-", "no share", NULL);
	}
}

static void add_resource(struct gs_strbuf *out, const json_t *resource)
{
	gs_strbuf_printf(out, "%s: %" PRId64 " of %" PRId64 " shares healthy, ", gs_json_text(resource, "name"),
			 (int64_t)json_integer_value(json_object_get(resource, "healthy")),
			 (int64_t)json_integer_value(json_object_get(resource, "shares")));
	size_t i;
	const json_t *strategy;
	json_array_foreach(json_object_get(resource, "strategies"), i, strategy)
		gs_strbuf_printf(out, "%s%s", i ? " and " : "", json_string_value(strategy));
	gs_strbuf_add(out, json_is_true(json_object_get(resource, "registered")) ? ", registered\n"
										 : ", not registered with a kubelet\n");
}

/* On a machine outside of a cluster the column would be empty. */
static bool any_pod(const json_t *status)
{
	size_t i, j;
	const json_t *gpu, *share;
	json_array_foreach(json_object_get(status, "gpus"), i, gpu)
		json_array_foreach(json_object_get(gpu, "shares"), j, share) if (has_pod(share)) return true;
	return false;
}

static void add_kubernetes(struct gs_strbuf *out, const json_t *kubernetes)
{
	if (!json_is_object(kubernetes))
		return;
	GS_AUTO_STRBUF struct gs_strbuf line = {0};
	gs_strbuf_printf(&line, "API server: %s node %s at %s", gs_json_text(kubernetes, "state"),
			 gs_json_text(kubernetes, "nodeName"), gs_json_text(kubernetes, "server"));
	int64_t waiting = (int64_t)json_integer_value(json_object_get(kubernetes, "waiting"));
	if (waiting > 0)
		gs_strbuf_printf(&line, ", %" PRId64 " changes to deliver", waiting);
	add_line(out, "", line.data);
}

static void add_rows(struct table *table, const json_t *status)
{
	add_row(table, "SHARE", "RESOURCE", "PROCESS", "MEMORY", "BUSY", any_pod(status) ? "POD" : NULL);
	size_t i;
	const json_t *gpu;
	json_array_foreach(json_object_get(status, "gpus"), i, gpu) add_gpu(table, gpu);
}

void gs_status_table(const json_t *status, struct gs_strbuf *out)
{
	size_t i;
	const json_t *item;
	json_array_foreach(json_object_get(status, "problems"), i, item)
		add_line(out, "! ", json_string_value(item) ? json_string_value(item) : "");
	json_array_foreach(json_object_get(status, "resources"), i, item) add_resource(out, item);
	add_kubernetes(out, json_object_get(status, "kubernetes"));
	if (json_array_size(json_object_get(status, "gpus")) == 0) {
		gs_strbuf_add(out, "no GPU\n");
		return;
	}
	/* The first time only to learn the widths. */
	GS_AUTO_STRBUF struct gs_strbuf draft = {0};
	struct table table = {.out = &draft};
	add_rows(&table, status);
	table.out = out;
	add_rows(&table, status);
}

void gs_status_redraw(const char *text)
{
	struct winsize size = {0};
	size_t lines = SIZE_MAX;
	/* The cursor ends on the line after the last, so that one has to stay free. */
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1)
		lines = size.ws_row - 1U;
	size_t length = 0;
	for (; text[length] && lines; length++)
		lines -= text[length] == '\n';
	/* Without wrapping, a line that is too long takes no more than its own. */
	printf("\033[?7l\033[H\033[J%.*s\033[?7h", (int)length, text);
}
