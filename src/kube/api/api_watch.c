/* One watch, for ever: connected, resumed, begun anew. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "kube/api/api_internal.h"

enum {
	STEADY_MS = 60 * 1000, /* a watch that lived so long was no failure, however it ended */
	RESUMES_MAX = 3,       /* failures in a row until the place to resume from is doubted, too */
	REFUSAL_BYTES_MAX = 4096,
	GONE = 410,
};

static void begin(struct api_watch *watch);

static void on_timer(uv_timer_t *timer)
{
	begin(timer->data);
}

static void forget_place(struct api_watch *watch)
{
	free(watch->resource_version);
	watch->resource_version = NULL;
}

static void stop_exchange(struct api_watch *watch)
{
	api_exchange_end(&watch->exchange);
	api_lines_free(&watch->lines);
	gs_strbuf_free(&watch->refusal);
	uv_timer_stop(&watch->timer);
}

static void again(struct api_watch *watch, unsigned wait_ms)
{
	uv_timer_start(&watch->timer, on_timer, wait_ms, 0);
}

static void fail(struct api_watch *watch, const char *problem, unsigned retry_after_ms)
{
	uint64_t lived_ms = uv_now(watch->api->loop) - watch->begun_ms;
	bool was_steady = watch->accepted && lived_ms >= STEADY_MS;
	stop_exchange(watch);
	watch->attempt = was_steady ? 0 : watch->attempt;
	unsigned wait_ms = api_backoff_ms(watch->attempt++, api_random());
	/* An etcd that was restored from a backup never knew what we resume from, and does not say so. */
	if (watch->attempt >= RESUMES_MAX)
		forget_place(watch);
	again(watch, wait_ms > retry_after_ms ? wait_ms : retry_after_ms);
	watch->owner.state(watch->owner.user, problem);
}

static void on_header_timer(uv_timer_t *timer)
{
	struct api_watch *watch = timer->data;
	GS_AUTO_FREE char *problem = gs_printf("%s accepted the connection and did not answer within %u ms",
					       watch->api->server, watch->api->timeout_ms);
	fail(watch, problem, 0);
}

static void begin(struct api_watch *watch)
{
	struct api *api = watch->api;
	/* 0: what there is, as the server's cache knows it, then changes. With bookmarks, or with no version at all, a server
	 * from 1.27 on takes that for a request that needs an etcd of 3.4.25 or newer, and refuses it where there is none. */
	GS_AUTO_FREE char *place = watch->resource_version ? gs_printf("allowWatchBookmarks=true&resourceVersion=%s",
								       watch->resource_version)
							   : gs_strdup("resourceVersion=0");
	GS_AUTO_FREE char *path = gs_printf("%s%cwatch=1&timeoutSeconds=%u&%s", watch->path,
					    strchr(watch->path, '?') ? '&' : '?', api->watch_seconds, place);
	struct gs_error err;
	watch->begun_ms = uv_now(api->loop);
	watch->accepted = watch->answered = false;
	if (api_exchange_begin(&watch->exchange, "GET", path, NULL, NULL, &err) < 0) {
		fail(watch, err.text, 0);
		return;
	}
	api->watch_requests++;
	uv_timer_start(&watch->timer, on_header_timer, api->timeout_ms, 0);
}

struct api_watch *api_watch(struct api *api, const char *path, const struct api_watch_owner *owner)
{
	struct api_watch *watch = gs_calloc(1, sizeof *watch);
	*watch = (struct api_watch){.api = api, .path = gs_strdup(path), .owner = *owner};
	watch->exchange = (struct api_exchange){.api = api, .watch = watch};
	uv_timer_init(api->loop, &watch->timer);
	watch->timer.data = watch;
	api->handles++;
	*GS_VEC_PUSH(&api->watches) = watch;
	again(watch, 0);
	return watch;
}

static long status_of(const struct api_watch *watch)
{
	long status = 0;
	watch->api->curl->easy_getinfo(watch->exchange.easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

/* From within libcurl: takes the bytes and no more. */
size_t api_watch_receive(struct api_watch *watch, const char *bytes, size_t length)
{
	if (status_of(watch) != 200) {
		if (watch->refusal.length < REFUSAL_BYTES_MAX)
			gs_strbuf_add_bytes(&watch->refusal, bytes, length);
		return length;
	}
	if (api_lines_add(&watch->lines, bytes, length) < 0) {
		watch->exchange.too_long = true;
		return 0;
	}
	return length;
}

/* False when the watch came to its end with this event. */
static bool take_event(struct api_watch *watch, const struct api_event *event)
{
	if (event->type == API_ERROR) {
		if (event->code == GONE)
			forget_place(watch);
		GS_AUTO_FREE char *problem = gs_printf("%s ended the watch with %d: %.300s", watch->api->server,
						       event->code, event->message);
		fail(watch, problem, 0);
		return false;
	}
	if (event->type != API_BOOKMARK && !watch->owner.event(watch->owner.user, event->type, event->object)) {
		forget_place(watch);
		GS_AUTO_FREE char *problem = gs_printf("%s sent what was not asked for", watch->api->server);
		fail(watch, problem, 0);
		return false;
	}
	free(watch->resource_version);
	watch->resource_version = gs_strdup(event->resource_version);
	return true;
}

void api_watch_deliver(struct api_watch *watch)
{
	if (!watch->exchange.easy)
		return;
	if (!watch->answered && watch->exchange.headers_complete) {
		watch->answered = true;
		watch->accepted = status_of(watch) == 200;
		if (watch->accepted) { /* else the rest of the refusal must come in time, too */
			uv_timer_stop(&watch->timer);
			watch->owner.state(watch->owner.user, "");
		}
	}
	char *line;
	size_t length;
	while (watch->exchange.easy && (line = api_lines_next(&watch->lines, &length))) {
		struct api_event event;
		struct gs_error err;
		if (api_event_read(line, length, &event, &err) < 0) {
			GS_AUTO_FREE char *problem = gs_printf("%s sent %s", watch->api->server, err.text);
			fail(watch, problem, 0);
			return;
		}
		bool goes_on = take_event(watch, &event);
		api_event_free(&event);
		if (!goes_on)
			return;
	}
}

void api_watch_ended(struct api_watch *watch, CURLcode code)
{
	api_watch_deliver(watch);
	if (!watch->exchange.easy)
		return; /* the last line was an error */
	long status = status_of(watch);
	/* A server that ends a watch after its time ends it cleanly. */
	bool is_old = uv_now(watch->api->loop) - watch->begun_ms >= STEADY_MS;
	if (code == CURLE_OK && status == 200 && is_old) {
		stop_exchange(watch);
		watch->attempt = 0;
		again(watch, api_random() % 1000);
		watch->owner.state(watch->owner.user, NULL);
		return;
	}
	if (status == 401)
		api_forget_token(watch->api);
	if (status == GONE)
		forget_place(watch);
	GS_AUTO_FREE char *problem = code == CURLE_OK && status == 200
					     ? gs_printf("%s ended the watch early", watch->api->server)
					     : api_exchange_problem(&watch->exchange, code, status, watch->refusal.data,
								    watch->refusal.length);
	fail(watch, problem, api_exchange_retry_after_ms(&watch->exchange));
}

static void on_closed(uv_handle_t *handle)
{
	struct api_watch *watch = handle->data;
	struct api *api = watch->api;
	free(watch->path);
	free(watch->resource_version);
	free(watch);
	api_handle_closed(api);
}

void api_watch_free(struct api_watch *watch)
{
	stop_exchange(watch);
	uv_close((uv_handle_t *)&watch->timer, on_closed);
}
