/* Logging: one escaped line an event, on stderr (the service manager adds time and keeps it).
 * Control characters in arguments are escaped, so a peer cannot forge lines. Never log passwords or keys. */
#ifndef KG_CONF_LOG_H
#define KG_CONF_LOG_H

#include <stddef.h>

enum kg_log_level { KG_LOG_ERROR, KG_LOG_WARN, KG_LOG_INFO, KG_LOG_DEBUG };

/* "error", "warn", "info", "debug"; anything else is info (the schema admits nothing else). */
enum kg_log_level kg_log_level_of(const char *name);
/* process: "supervisor", "signalling", "media". Thread-safe after this call. */
void kg_log_init(const char *process, enum kg_log_level level);
void kg_log_set_level(enum kg_log_level level);

/* area: the folder or noun ("call", "registrar", "latch"). The sentence says what happened, to which call or
 * phone, and what to do about it. No newline at the end. */
void kg_log(enum kg_log_level level, const char *area, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes text to out with everything a terminal would not print as \n, \r, \t or \xNN, for whatever shows
 * what peers sent. Cut short when out is too small. size: at least 6. Returns the length. */
size_t kg_log_escape(const char *text, char *out, size_t size);

#define kg_error(...) kg_log(KG_LOG_ERROR, __VA_ARGS__)
#define kg_warn(...)  kg_log(KG_LOG_WARN, __VA_ARGS__)
#define kg_info(...)  kg_log(KG_LOG_INFO, __VA_ARGS__)
#define kg_debug(...) kg_log(KG_LOG_DEBUG, __VA_ARGS__)

#endif
