#include "kube/api/curl_library.h"

#include <dlfcn.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/library.h"

static const struct gs_library_function functions[] = {
	{"curl_easy_init", offsetof(struct gs_curl, easy_init)},
	{"curl_easy_setopt", offsetof(struct gs_curl, easy_setopt)},
	{"curl_easy_getinfo", offsetof(struct gs_curl, easy_getinfo)},
	{"curl_easy_cleanup", offsetof(struct gs_curl, easy_cleanup)},
	{"curl_easy_strerror", offsetof(struct gs_curl, easy_strerror)},
	{"curl_slist_append", offsetof(struct gs_curl, slist_append)},
	{"curl_slist_free_all", offsetof(struct gs_curl, slist_free_all)},
	{"curl_multi_init", offsetof(struct gs_curl, multi_init)},
	{"curl_multi_setopt", offsetof(struct gs_curl, multi_setopt)},
	{"curl_multi_add_handle", offsetof(struct gs_curl, multi_add_handle)},
	{"curl_multi_remove_handle", offsetof(struct gs_curl, multi_remove_handle)},
	{"curl_multi_assign", offsetof(struct gs_curl, multi_assign)},
	{"curl_multi_socket_action", offsetof(struct gs_curl, multi_socket_action)},
	{"curl_multi_info_read", offsetof(struct gs_curl, multi_info_read)},
	{"curl_multi_cleanup", offsetof(struct gs_curl, multi_cleanup)},
};

/* Either build of it does: the one with OpenSSL, or Debian's with GnuTLS. */
static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};

const struct gs_curl *gs_curl_open(struct gs_error *err)
{
	static struct gs_curl curl;
	if (curl.easy_init)
		return &curl;
	void *library = NULL;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(names) && !library; i++)
		library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		gs_fail(err, GS_ERROR_SYSTEM, 0,
			"libcurl, which talks to the API server, cannot be loaded (%s); install it (Debian: libcurl4)",
			dlerror());
		return NULL;
	}
	CURLcode (*global_init)(long) = NULL;
	*(void **)&global_init = dlsym(library, "curl_global_init");
	struct gs_curl table = {0};
	if (!global_init || global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    !gs_library_fill(library, functions, GS_ARRAY_LENGTH(functions), &table)) {
		gs_fail(err, GS_ERROR_SYSTEM, 0,
			"the libcurl of this machine lacks what is needed; install 7.68 or newer");
		return NULL;
	}
	curl = table;
	return &curl;
}
