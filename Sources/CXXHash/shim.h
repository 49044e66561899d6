#pragma once
#define XXH_INLINE_ALL
#include <xxhash.h>
// Swift cannot call what XXH_INLINE_ALL renames by macro, so each function we use has a plain inline name.
static inline uint64_t obs_xxh3_64(const void *data, size_t length) { return XXH3_64bits(data, length); }
static inline uint64_t obs_xxh3_64_seeded(const void *data, size_t length, uint64_t seed) { return XXH3_64bits_withSeed(data, length, seed); }
typedef struct { uint64_t low, high; } obs_hash128;
static inline obs_hash128 obs_xxh3_128_seeded(const void *data, size_t length, uint64_t seed) {
    XXH128_hash_t h = XXH3_128bits_withSeed(data, length, seed);
    return (obs_hash128){ h.low64, h.high64 };
}
