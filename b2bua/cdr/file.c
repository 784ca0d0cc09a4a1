#include "b2bua/cdr/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "conf/log.h"

/* ".20261121-180000", and "-2" where one second saw several. */
#define STAMP_LEN       15
#define SAME_SECOND_MAX 100
#define NAME_MAX_LEN    (KG_PATH_MAX + 32)

void kg_cdr_file_init(struct kg_cdr_file *file)
{
    *file = (struct kg_cdr_file){.fd = -1};
}

void kg_cdr_file_close(struct kg_cdr_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

void kg_cdr_file_configure(struct kg_cdr_file *file, const struct kg_cdr_settings *settings)
{
    kg_cdr_file_close(file);
    file->settings = *settings;
}

/* A process that was killed in a write may have left half a line: nobody shall read it and the next one as
 * one. */
static int end_half_line(struct kg_cdr_file *file)
{
    char last = '\n';
    if (file->bytes > 0 && pread(file->fd, &last, 1, (off_t)file->bytes - 1) != 1)
        return errno ? errno : EIO;
    if (last == '\n')
        return 0;
    if (write(file->fd, "\n", 1) != 1)
        return errno ? errno : EIO;
    file->bytes++;
    return 0;
}

static int open_file(struct kg_cdr_file *file, int64_t wall_ms)
{
    struct stat stat;
    file->fd =
        open(file->settings.path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (file->fd < 0)
        return errno;
    if (fstat(file->fd, &stat) || !S_ISREG(stat.st_mode)) {
        kg_cdr_file_close(file);
        return EINVAL;
    }
    file->bytes = (uint64_t)stat.st_size;
    file->since_ms = wall_ms; /* its age over a restart is not known: it begins again */
    int error = end_half_line(file);
    if (error)
        kg_cdr_file_close(file);
    return error;
}

/* ---- rotation ---- */

static bool is_ours(const char *name, const char *base)
{
    size_t len = strlen(base);
    if (strncmp(name, base, len) != 0 || name[len] != '.' || strlen(name + len + 1) < STAMP_LEN)
        return false;
    return strspn(name + len + 1, "0123456789-") == strlen(name + len + 1);
}

/* Names sort by time. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

#define LISTED_MAX 10000

static void remove_oldest(const struct kg_cdr_settings *settings)
{
    const char *slash = strrchr(settings->path, '/');
    char folder[KG_PATH_MAX], path[NAME_MAX_LEN + NAME_MAX];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - settings->path) + 1 : 1,
             slash ? settings->path : ".");
    const char *base = slash ? slash + 1 : settings->path;
    DIR *dir = opendir(folder);
    char **name = dir ? calloc(LISTED_MAX, sizeof *name) : NULL;
    size_t count = 0;
    for (struct dirent *entry; name && count < LISTED_MAX && (entry = readdir(dir));)
        if (is_ours(entry->d_name, base) && (name[count] = strdup(entry->d_name)))
            count++;
    if (name)
        qsort(name, count, sizeof *name, by_name);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, name[i]);
        if (i + settings->keep < count && unlink(path))
            kg_warn("cdr", "cannot remove %s: %s", path, strerror(errno));
        free(name[i]);
    }
    free(name);
    if (dir)
        closedir(dir);
}

static void rotate(struct kg_cdr_file *file, int64_t wall_ms)
{
    char stamp[STAMP_LEN + 1], path[NAME_MAX_LEN];
    struct tm tm;
    time_t seconds = (time_t)(wall_ms / 1000);
    if (!gmtime_r(&seconds, &tm) || strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm) != STAMP_LEN)
        return;
    snprintf(path, sizeof path, "%s.%s", file->settings.path, stamp);
    for (int i = 2; access(path, F_OK) == 0 && i < SAME_SECOND_MAX; i++)
        snprintf(path, sizeof path, "%s.%s-%02d", file->settings.path, stamp, i);
    if (rename(file->settings.path, path)) {
        kg_warn("cdr", "cannot rename %s to %s: %s; it grows on", file->settings.path, path, strerror(errno));
        file->since_ms = wall_ms;
        file->bytes = 0; /* not tried again before it has grown as much once more */
        return;
    }
    kg_cdr_file_close(file);
    if (file->settings.keep > 0)
        remove_oldest(&file->settings);
}

static bool is_due(const struct kg_cdr_file *file, size_t len, int64_t wall_ms)
{
    const struct kg_cdr_settings *settings = &file->settings;
    int64_t age = wall_ms - file->since_ms;
    return file->bytes > 0 && ((settings->max_bytes && file->bytes + len > settings->max_bytes) ||
                               (settings->max_age_ms && age >= settings->max_age_ms));
}

int kg_cdr_file_append(struct kg_cdr_file *file, const char *text, int64_t wall_ms)
{
    size_t len = strlen(text);
    struct iovec piece[2] = {{(char *)text, len}, {(char *)"\n", 1}};
    if (!file->settings.path[0])
        return 0;
    if (file->fd >= 0 && is_due(file, len + 1, wall_ms))
        rotate(file, wall_ms);
    int error = file->fd < 0 ? open_file(file, wall_ms) : 0;
    if (error)
        return error;
    off_t before = lseek(file->fd, 0, SEEK_END);
    ssize_t written = writev(file->fd, piece, 2);
    if (written == (ssize_t)len + 1) {
        file->bytes += len + 1;
        return 0;
    }
    error = written < 0 ? errno : ENOSPC;
    if (written > 0 && ftruncate(file->fd, before))
        error = errno;
    kg_cdr_file_close(file); /* perhaps it is another file by then */
    return error;
}
