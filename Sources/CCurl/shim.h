#pragma once
#include <curl/curl.h>

// curl_easy_setopt and curl_easy_getinfo are variadic, which Swift cannot call: one function for each type of argument.

typedef size_t (*obs_curl_bytes)(char *bytes, size_t size, size_t count, void *context);
typedef int (*obs_curl_progress)(void *context, curl_off_t total, curl_off_t now, curl_off_t upload_total, curl_off_t upload_now);

static inline CURLcode obs_curl_global(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

static inline CURLcode obs_curl_set_number(CURL *curl, CURLoption option, long value) { return curl_easy_setopt(curl, option, value); }
static inline CURLcode obs_curl_set_size(CURL *curl, CURLoption option, int64_t value) { return curl_easy_setopt(curl, option, (curl_off_t)value); }
static inline CURLcode obs_curl_set_text(CURL *curl, CURLoption option, const char *text) { return curl_easy_setopt(curl, option, text); }
static inline CURLcode obs_curl_set_pointer(CURL *curl, CURLoption option, const void *pointer) { return curl_easy_setopt(curl, option, pointer); }
static inline CURLcode obs_curl_set_list(CURL *curl, CURLoption option, struct curl_slist *list) { return curl_easy_setopt(curl, option, list); }
static inline CURLcode obs_curl_set_bytes(CURL *curl, CURLoption option, obs_curl_bytes body) { return curl_easy_setopt(curl, option, body); }
static inline CURLcode obs_curl_set_progress(CURL *curl, obs_curl_progress body) { return curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, body); }

static inline long obs_curl_status(CURL *curl) {
    long status = 0;
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static inline int obs_curl_active_socket(CURL *curl) {
    curl_socket_t socket = CURL_SOCKET_BAD;
    (void)curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &socket);
    return (int)socket;
}

static inline CURLMcode obs_curl_multi_set_number(CURLM *multi, CURLMoption option, long value) { return curl_multi_setopt(multi, option, value); }
