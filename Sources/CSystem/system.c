#define _GNU_SOURCE
#include "system.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int obs_dns_search(const char *name, int type, unsigned short port, unsigned char *buffer, int size) {
    struct __res_state state;
    memset(&state, 0, sizeof state);
    if (res_ninit(&state) != 0) return OBS_DNS_FAILED;
    if (port != 0) {
        memset(&state.nsaddr_list[0], 0, sizeof state.nsaddr_list[0]);
        state.nsaddr_list[0].sin_family = AF_INET;
        state.nsaddr_list[0].sin_port = htons(port);
        state.nsaddr_list[0].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        state.nscount = 1;
        state.retrans = 1;
        state.retry = 1;
    }
    int length = res_nsearch(&state, name, C_IN, type, buffer, size);
    int why = state.res_h_errno;
    res_nclose(&state);
    if (length >= 0) return length;
    return why == HOST_NOT_FOUND || why == NO_DATA ? OBS_DNS_NO_RECORDS : OBS_DNS_FAILED;
}

int obs_memory_file(const void *bytes, size_t count) {
    int file = memfd_create("pem", MFD_CLOEXEC);
    while (file >= 0 && count > 0) {
        ssize_t written = write(file, bytes, count);
        if (written <= 0) {
            (void)close(file);
            return -1;
        }
        bytes = (const char *)bytes + written;
        count -= (size_t)written;
    }
    return file;
}
