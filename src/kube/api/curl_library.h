/* libcurl, opened when the API server is first wanted and not before: with the thirty libraries that it brings along it
 * costs 6 MB and 6 ms at every start, which a workstation, a cluster without API access and a command line need not pay. */
#ifndef GPUSHARE_KUBE_CURL_LIBRARY_H
#define GPUSHARE_KUBE_CURL_LIBRARY_H

#define CURL_DISABLE_TYPECHECK /* its macros take the functions' names */
#include <curl/curl.h>

#include "base/error.h"

struct gs_curl {
	CURL *(*easy_init)(void);
	CURLcode (*easy_setopt)(CURL *easy, CURLoption option, ...);
	CURLcode (*easy_getinfo)(CURL *easy, CURLINFO info, ...);
	void (*easy_cleanup)(CURL *easy);
	const char *(*easy_strerror)(CURLcode code);
	struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
	void (*slist_free_all)(struct curl_slist *list);
	CURLM *(*multi_init)(void);
	CURLMcode (*multi_setopt)(CURLM *multi, CURLMoption option, ...);
	CURLMcode (*multi_add_handle)(CURLM *multi, CURL *easy);
	CURLMcode (*multi_remove_handle)(CURLM *multi, CURL *easy);
	CURLMcode (*multi_assign)(CURLM *multi, curl_socket_t socket, void *data);
	CURLMcode (*multi_socket_action)(CURLM *multi, curl_socket_t socket, int events, int *running);
	CURLMsg *(*multi_info_read)(CURLM *multi, int *left);
	CURLMcode (*multi_cleanup)(CURLM *multi);
};

/* The library, the same at every call and never closed; NULL with what to install when it is not there. */
const struct gs_curl *gs_curl_open(struct gs_error *err);

#endif
