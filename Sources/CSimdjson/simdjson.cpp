#include "obs_simdjson.h"

#include <new>
#include <simdjson.h>

struct obs_json {
    simdjson::dom::parser parser;
};

static int kind_of(simdjson::error_code code) {
    switch (code) {
    case simdjson::SUCCESS: return OBS_JSON_OK;
    case simdjson::NUMBER_ERROR: return OBS_JSON_NUMBER;
    case simdjson::STRING_ERROR: return OBS_JSON_STRING;
    case simdjson::UTF8_ERROR: return OBS_JSON_UTF8;
    case simdjson::DEPTH_ERROR: return OBS_JSON_DEPTH;
    case simdjson::MEMALLOC:
    case simdjson::CAPACITY: return OBS_JSON_MEMORY;
    default: return OBS_JSON_INVALID;
    }
}

extern "C" obs_json *obs_json_parse(const uint8_t *bytes, size_t count, size_t depth_max, int *error) {
    auto *document = new (std::nothrow) obs_json();
    if (document == nullptr) {
        *error = OBS_JSON_MEMORY;
        return nullptr;
    }
    auto code = document->parser.allocate(count, depth_max);
    if (code == simdjson::SUCCESS) code = document->parser.parse(bytes, count, true).error();
    *error = kind_of(code);
    if (code == simdjson::SUCCESS) return document;
    delete document;
    return nullptr;
}

extern "C" const uint64_t *obs_json_tape(const obs_json *document) { return document->parser.doc.tape.get(); }

extern "C" const uint8_t *obs_json_strings(const obs_json *document) { return document->parser.doc.string_buf.get(); }

extern "C" void obs_json_free(obs_json *document) { delete document; }
