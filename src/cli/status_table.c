#include "cli/status_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static void bytes_of(const json_t *object, const char *key, char *text, size_t size)
{
	const json_t *value = json_object_get(object, key);
	if (json_is_integer(value))
		snprintf(text, size, "%.1f GiB", (double)json_integer_value(value) / (1024.0 * 1024 * 1024));
	else
		snprintf(text, size, "-");
}

static void percent_of(const json_t *object, const char *key, char *text, size_t size)
{
	const json_t *value = json_object_get(object, key);
	if (json_is_number(value))
		snprintf(text, size, "%.0f %%", json_number_value(value));
	else
		snprintf(text, size, "-");
}

static void add_holders(struct gs_strbuf *out, const json_t *list, const char *share, const char *resource)
{
	size_t i;
	const json_t *holder;
	json_array_foreach(list, i, holder)
	{
		char memory[32], busy[16], process[64];
		bytes_of(holder, "memoryBytes", memory, sizeof memory);
		percent_of(holder, "utilizationPercent", busy, sizeof busy);
		snprintf(process, sizeof process, "%" PRId64 " %.24s",
			 (int64_t)json_integer_value(json_object_get(holder, "pid")), text_of(holder, "name"));
		gs_strbuf_printf(out, "      %-7.7s %-22.22s %-26s %10s %6s\n", share, resource, process, memory, busy);
	}
}

static void add_gpu(struct gs_strbuf *out, const json_t *gpu)
{
	char used[32], total[32], busy[16];
	bytes_of(json_object_get(gpu, "memory"), "usedBytes", used, sizeof used);
	bytes_of(json_object_get(gpu, "memory"), "totalBytes", total, sizeof total);
	percent_of(gpu, "utilizationPercent", busy, sizeof busy);
	const char *health = text_of(gpu, "health");
	gs_strbuf_printf(out, "GPU %-2" PRId64 " %-37.37s %-9s %10s of %9s %6s\n",
			 (int64_t)json_integer_value(json_object_get(gpu, "index")), text_of(gpu, "name"), health, used,
			 total, busy);
	if (*text_of(gpu, "reason"))
		gs_strbuf_printf(out, "      %s\n", text_of(gpu, "reason"));

	size_t i, free_shares = 0, allocated = 0;
	const json_t *share;
	json_array_foreach(json_object_get(gpu, "shares"), i, share)
	{
		const json_t *holders = json_object_get(share, "holders");
		const char *mark = strstr(text_of(share, "id"), "::");
		if (json_array_size(holders) > 0)
			add_holders(out, holders, mark ? mark : "whole", text_of(share, "resource"));
		else if (json_is_string(json_object_get(share, "lastAllocated")))
			allocated++;
		else
			free_shares++;
	}
	add_holders(out, json_object_get(gpu, "processes"), "-", "(no share)");
	if (allocated)
		gs_strbuf_printf(out, "      %zu share%s given out, no process seen on the GPU\n", allocated,
				 allocated == 1 ? "" : "s");
	if (free_shares)
		gs_strbuf_printf(out, "      %zu share%s never used\n", free_shares, free_shares == 1 ? "" : "s");
}

static void add_resource(struct gs_strbuf *out, const json_t *resource)
{
	gs_strbuf_printf(out, "%s: %" PRId64 " of %" PRId64 " shares healthy, ", text_of(resource, "name"),
			 (int64_t)json_integer_value(json_object_get(resource, "healthy")),
			 (int64_t)json_integer_value(json_object_get(resource, "shares")));
	size_t i;
	const json_t *strategy;
	json_array_foreach(json_object_get(resource, "strategies"), i, strategy)
		gs_strbuf_printf(out, "%s%s", i ? " and " : "", json_string_value(strategy));
	gs_strbuf_add(out, json_is_true(json_object_get(resource, "registered")) ? ", registered\n"
										 : ", not registered with a kubelet\n");
}

void gs_status_table(const json_t *status, struct gs_strbuf *out)
{
	size_t i;
	const json_t *item;
	json_array_foreach(json_object_get(status, "problems"), i, item)
		gs_strbuf_printf(out, "! %s\n", json_string_value(item));
	json_array_foreach(json_object_get(status, "resources"), i, item) add_resource(out, item);
	if (json_array_size(json_object_get(status, "gpus")) == 0) {
		gs_strbuf_add(out, "no GPU\n");
		return;
	}
	gs_strbuf_printf(out, "      %-7s %-22s %-26s %10s %6s\n", "SHARE", "RESOURCE", "PROCESS", "MEMORY", "BUSY");
	json_array_foreach(json_object_get(status, "gpus"), i, item) add_gpu(out, item);
}
