#pragma once
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <string.h>

enum { OBS_DNS_NO_RECORDS = -1, OBS_DNS_FAILED = -2 };

// Asks the system's resolver, along its search path, and gives back the length of the answer in `buffer`. `port` other than 0 asks 127.0.0.1 at that port
// instead. The state is the call's own: calls may come from any thread.
static inline int obs_dns_search(const char *name, int type, unsigned short port, unsigned char *buffer, int size) {
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
