#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A parsed document: simdjson's tape (doc/tape.md of simdjson) and its buffer of unescaped strings, for Swift to walk in place.
typedef struct obs_json obs_json;

enum { OBS_JSON_OK = 0, OBS_JSON_INVALID, OBS_JSON_NUMBER, OBS_JSON_STRING, OBS_JSON_UTF8, OBS_JSON_DEPTH, OBS_JSON_MEMORY };

/// Parses one document. On failure returns NULL and sets `error`. The bytes need not live on, nor be padded.
obs_json *obs_json_parse(const uint8_t *bytes, size_t count, size_t depth_max, int *error);
const uint64_t *obs_json_tape(const obs_json *document);
const uint8_t *obs_json_strings(const obs_json *document);
void obs_json_free(obs_json *document);

#ifdef __cplusplus
}
#endif
