#pragma once
#include <stddef.h>
#include <stdint.h>
#include <roaring/roaring.h>
// One call for what would be five across the border. Writes the portable form of `count` ascending values at `output`, which has room for
// `capacity` bytes; returns the bytes it takes, written only when they fit. 0: no memory.
static inline size_t obs_roaring_serialize(const uint32_t *values, size_t count, char *output, size_t capacity) {
    roaring_bitmap_t *set = roaring_bitmap_of_ptr(count, values);
    if (set == NULL) return 0;
    roaring_bitmap_run_optimize(set);
    size_t size = roaring_bitmap_portable_size_in_bytes(set);
    if (size <= capacity) roaring_bitmap_portable_serialize(set, output);
    roaring_bitmap_free(set);
    return size;
}
