#pragma once
#include <microhttpd.h>
#include <string.h>

// Swift can call neither variadic functions nor name the cases of MHD's closed enums: both are wrapped here, and nothing else is.

struct obs_mhd_settings {
    unsigned int threads;
    unsigned int connections_max;
    unsigned int idle_timeout_seconds;
    size_t connection_memory_bytes;
    const char *certificate_pem; // null: plain HTTP
    const char *key_pem;
    MHD_AccessHandlerCallback access;
    MHD_RequestCompletedCallback completed;
    MHD_NotifyConnectionCallback connection_changed;
    void *(*target)(void *context, const char *target, struct MHD_Connection *connection);
    size_t (*unescape)(void *context, struct MHD_Connection *connection, char *text);
    void *context;
};

static inline struct MHD_Daemon *obs_mhd_start(const struct obs_mhd_settings *s) {
    unsigned int flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_NO_LISTEN_SOCKET;
    struct MHD_OptionItem options[20];
    int n = 0;
#define OBS_MHD_OPTION(o, v, p) options[n++] = (struct MHD_OptionItem){(o), (intptr_t)(v), (void *)(p)}
    OBS_MHD_OPTION(MHD_OPTION_CONNECTION_LIMIT, s->connections_max, NULL);
    OBS_MHD_OPTION(MHD_OPTION_CONNECTION_TIMEOUT, s->idle_timeout_seconds, NULL);
    OBS_MHD_OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, s->connection_memory_bytes, NULL);
    OBS_MHD_OPTION(MHD_OPTION_CONNECTION_MEMORY_INCREMENT, 16 * 1024, NULL);
    OBS_MHD_OPTION(MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL);
    OBS_MHD_OPTION(MHD_OPTION_NOTIFY_COMPLETED, s->completed, s->context);
    OBS_MHD_OPTION(MHD_OPTION_NOTIFY_CONNECTION, s->connection_changed, s->context);
    OBS_MHD_OPTION(MHD_OPTION_URI_LOG_CALLBACK, s->target, s->context);
    OBS_MHD_OPTION(MHD_OPTION_UNESCAPE_CALLBACK, s->unescape, s->context);
    if (s->threads > 1) OBS_MHD_OPTION(MHD_OPTION_THREAD_POOL_SIZE, s->threads, NULL);
    if (s->certificate_pem != NULL) {
        flags |= MHD_USE_TLS;
        OBS_MHD_OPTION(MHD_OPTION_HTTPS_MEM_CERT, 0, s->certificate_pem);
        OBS_MHD_OPTION(MHD_OPTION_HTTPS_MEM_KEY, 0, s->key_pem);
        OBS_MHD_OPTION(MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1");
    }
    OBS_MHD_OPTION(MHD_OPTION_END, 0, NULL);
#undef OBS_MHD_OPTION
    return MHD_start_daemon(flags, 0, NULL, NULL, s->access, s->context, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
}

static inline int obs_mhd_add(struct MHD_Daemon *daemon, int socket, const struct sockaddr *peer, socklen_t peer_bytes) {
    return MHD_add_connection(daemon, socket, peer, peer_bytes) == MHD_YES;
}

static inline enum MHD_Result obs_mhd_yes(void) { return MHD_YES; }
static inline enum MHD_Result obs_mhd_no(void) { return MHD_NO; }

static inline int obs_mhd_is_started(enum MHD_ConnectionNotificationCode code) { return code == MHD_CONNECTION_NOTIFY_STARTED; }

/// What the application keeps with a connection; null before the STARTED notification has set it.
static inline void *obs_mhd_connection_context(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static inline int obs_mhd_socket(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info == NULL ? -1 : (int)info->connect_fd;
}

static inline const struct sockaddr *obs_mhd_peer(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info == NULL ? NULL : info->client_addr;
}

static inline void obs_mhd_headers(struct MHD_Connection *connection, MHD_KeyValueIteratorN each, void *context) {
    (void)MHD_get_connection_values_n(connection, MHD_HEADER_KIND, each, context);
}

static inline struct MHD_Response *obs_mhd_copied_response(size_t size, const void *bytes) {
    return MHD_create_response_from_buffer(size, (void *)bytes, MHD_RESPMEM_MUST_COPY);
}

static inline struct MHD_Response *obs_mhd_chunked_response(
    size_t block_bytes, MHD_ContentReaderCallback read, void *context, MHD_ContentReaderFreeCallback release) {
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, block_bytes, read, context, release);
}

static inline struct MHD_Response *obs_mhd_sized_response(
    uint64_t size, size_t block_bytes, MHD_ContentReaderCallback read, void *context, MHD_ContentReaderFreeCallback release) {
    return MHD_create_response_from_callback(size, block_bytes, read, context, release);
}

static inline int obs_mhd_queue(struct MHD_Connection *connection, unsigned int status, struct MHD_Response *response) {
    return MHD_queue_response(connection, status, response) == MHD_YES;
}

static inline int obs_mhd_add_header(struct MHD_Response *response, const char *name, const char *value) {
    return MHD_add_response_header(response, name, value) == MHD_YES;
}

static inline void obs_mhd_close_upgraded(struct MHD_UpgradeResponseHandle *handle) {
    (void)MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}
