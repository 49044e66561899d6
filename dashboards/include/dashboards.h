#pragma once
#include <stddef.h>
/// Bytes of an embedded file of the page and their count; null for a name that is none.
const unsigned char *obs_dashboard_file(const char *name, size_t *count);
