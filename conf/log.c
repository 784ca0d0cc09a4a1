#include "conf/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SENTENCE_MAX 2048
#define LOG_LINE_MAX (SENTENCE_MAX * 4 + 128) /* every byte escaped, and what stands before */

static const struct {
    const char *name;
    int priority; /* of syslog and sd-daemon */
} levels[] = {
    [KG_LOG_ERROR] = {"error", 3},
    [KG_LOG_WARN] = {"warn", 4},
    [KG_LOG_INFO] = {"info", 6},
    [KG_LOG_DEBUG] = {"debug", 7},
};

/* Written by kg_log_init before other threads exist; the level may change later. */
static char process_name[16] = "kedge";
static bool to_journal;
static atomic_int threshold = KG_LOG_INFO;

/* systemd.exec(5): JOURNAL_STREAM is the device and inode of the stream it connected; a child whose stderr
 * was redirected since then has the variable all the same. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    char actual[64];
    struct stat st;

    if (stream == NULL || fstat(STDERR_FILENO, &st) != 0)
        return false;
    snprintf(actual, sizeof actual, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(stream, actual) == 0;
}

enum kg_log_level kg_log_level_of(const char *name)
{
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (strcmp(levels[i].name, name) == 0)
            return (enum kg_log_level)i;
    return KG_LOG_INFO;
}

void kg_log_init(const char *process, enum kg_log_level level)
{
    snprintf(process_name, sizeof process_name, "%s", process);
    to_journal = stderr_is_journal();
    kg_log_set_level(level);
}

void kg_log_set_level(enum kg_log_level level)
{
    atomic_store(&threshold, (int)level);
}

/* Length of the UTF-8 sequence at `at` if it is well-formed and of a printable character, else 0. What moves
 * the cursor or reorders text (C1 controls, separators, bidirectional marks) does not count as printable. */
static size_t utf8_printable(const unsigned char *at, size_t left)
{
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = at[0] >= 0xf0 && at[0] <= 0xf4   ? 4
                 : at[0] >= 0xe0 && at[0] <= 0xef ? 3
                 : at[0] >= 0xc2 && at[0] <= 0xdf ? 2
                                                  : 0;
    uint32_t code;

    if (len == 0 || len > left)
        return 0;
    code = at[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3fu);
    }
    if (code < lowest[len] || code > 0x10ffff || code < 0xa0 || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    if (code == 0x061c || code == 0xfeff || (code >= 0x200b && code <= 0x200f) ||
        (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069))
        return 0;
    return len;
}

size_t kg_log_escape(const char *text, char *out, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text), used = 0;

    while (left > 0 && used + 5 < size) {
        size_t len = *at >= 0x20 && *at < 0x7f ? 1 : utf8_printable(at, left);
        if (len > 0) {
            memcpy(out + used, at, len);
            used += len;
        } else {
            char plain = *at == '\n' ? 'n' : *at == '\r' ? 'r' : *at == '\t' ? 't' : '\0';
            if (plain != '\0')
                used += (size_t)snprintf(out + used, 5, "\\%c", plain);
            else
                used += (size_t)snprintf(out + used, 5, "\\x%02x", *at);
            len = 1;
        }
        at += len;
        left -= len;
    }
    out[used] = '\0';
    return used;
}

static size_t append_prefix(char *line, enum kg_log_level level, const char *area)
{
    struct timespec now;
    struct tm local;
    char stamp[32], who[64];

    if (strcmp(process_name, area) == 0)
        snprintf(who, sizeof who, "%s", process_name);
    else
        snprintf(who, sizeof who, "%s %.40s", process_name, area);
    if (to_journal)
        return (size_t)snprintf(line, 128, "<%d>%s: ", levels[level].priority, who);
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &local);
    return (size_t)snprintf(line, 128, "%s.%03ld %-5s %s: ", stamp, now.tv_nsec / 1000000, levels[level].name,
                            who);
}

void kg_log(enum kg_log_level level, const char *area, const char *format, ...)
{
    char sentence[SENTENCE_MAX], line[LOG_LINE_MAX];
    int saved = errno; /* callers log and then return errno */
    va_list args;
    size_t used;

    if ((int)level > atomic_load_explicit(&threshold, memory_order_relaxed))
        return;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    used = append_prefix(line, level, area);
    used += kg_log_escape(sentence, line + used, sizeof line - used);
    line[used++] = '\n';
    /* One write, so that lines of several threads and processes do not mix. A log that cannot be written has
     * nowhere to be reported. */
    if (write(STDERR_FILENO, line, used) < 0) {
    }
    errno = saved;
}
