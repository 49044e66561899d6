#pragma once
#include <stdbool.h>
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
/// RE2 behind a C door: linear-time regular expressions in the dialect PromQL and LogQL users write.
typedef struct obs_re2 obs_re2;
typedef struct { const char *data; size_t length; } obs_re2_span;  // data is null for a group that did not take part

/// Compiles; `dot_newline` lets `.` match `\n`. On failure returns null and writes a NUL-ended message of at most `capacity` bytes.
obs_re2 *obs_re2_compile(const char *pattern, size_t length, bool case_insensitive, bool dot_newline, char *message, size_t capacity);
void obs_re2_free(obs_re2 *);
/// Searches `text`; `anchored` demands a match of the whole text. Fills up to `group_count` spans (0 is the whole match).
bool obs_re2_match(const obs_re2 *, const char *text, size_t length, bool anchored, obs_re2_span *groups, int group_count);
int obs_re2_group_count(const obs_re2 *);
/// Copies the name of group `index` (1-based) or returns false when it has none.
bool obs_re2_group_name(const obs_re2 *, int index, char *name, size_t capacity);

/// What RE2's prefilter says a matching text must contain, ignoring case. Calls `found` for each literal of at least `length_min` bytes, in lower case;
/// `required` when no text without it matches, else a matching text has one of those that are not required. Returns false, without a call, when nothing can be said.
bool obs_re2_literals(const char *pattern, size_t length, bool case_insensitive, bool dot_newline, int length_min, void *context,
                      void (*found)(void *context, const char *literal, size_t length, bool required));
#ifdef __cplusplus
}
#endif
