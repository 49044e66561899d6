#pragma once
#include <stddef.h>

// Calls of the system that Swift's module of it hides. In a target of their own: a header of the system that a module of ours includes would become ours.

enum { OBS_DNS_NO_RECORDS = -1, OBS_DNS_FAILED = -2 };

/// Asks the system's resolver, along its search path, and gives back the length of the answer in `buffer`. `port` other than 0 asks 127.0.0.1 at that port
/// instead. The state is the call's own: calls may come from any thread.
int obs_dns_search(const char *name, int type, unsigned short port, unsigned char *buffer, int size);

/// A file without a name, for texts that a library reads only from a path (/proc/self/fd/N); -1 when there is none to be had.
int obs_memory_file(const void *bytes, size_t count);
