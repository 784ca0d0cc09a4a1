#include "b2bua/sip/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/log.h"

struct kg_files {
    atomic_uint references;
    struct kg_file file[KG_FILES_MAX];
    size_t count, bytes;
};

/* While the folder is read. */
struct reading {
    struct kg_files *files;
    int root;                                    /* the folder itself */
    char folder[KG_FILES_MAX][KG_FILE_PATH_MAX]; /* found and still to be read: "", "img", "img/small" */
    size_t folders;
    size_t left_out;
    char *error;
    size_t size;
};

static const char *type_of(const char *path)
{
    static const struct {
        const char *ending, *type;
    } known[] = {{".html", "text/html; charset=utf-8"},
                 {".js", "text/javascript; charset=utf-8"},
                 {".mjs", "text/javascript; charset=utf-8"},
                 {".css", "text/css; charset=utf-8"},
                 {".json", "application/json"},
                 {".map", "application/json"},
                 {".webmanifest", "application/manifest+json"},
                 {".txt", "text/plain; charset=utf-8"},
                 {".svg", "image/svg+xml"},
                 {".png", "image/png"},
                 {".jpg", "image/jpeg"},
                 {".ico", "image/x-icon"},
                 {".woff2", "font/woff2"},
                 {".wav", "audio/wav"},
                 {".mp3", "audio/mpeg"},
                 {".ogg", "audio/ogg"},
                 {".wasm", "application/wasm"}};
    const char *ending = strrchr(path, '.');
    for (size_t i = 0; ending && i < sizeof known / sizeof known[0]; i++)
        if (strcmp(ending, known[i].ending) == 0)
            return known[i].type;
    return "application/octet-stream";
}

/* Names that stand in a URL as they are. */
static bool is_served(const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return name[0] != '.' && name[strspn(name, plain)] == '\0';
}

/* Takes data over. 0, or an errno and a sentence. */
static int add(struct reading *r, const char *path, char *data, size_t len)
{
    struct kg_files *files = r->files;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_len = 0;
    if (!data || files->count == KG_FILES_MAX || len > KG_FILES_BYTES_MAX - files->bytes ||
        !EVP_Digest(data, len, digest, &digest_len, EVP_sha256(), NULL)) {
        snprintf(
            r->error, r->size,
            "web.root holds more than kedge serves: %d files and %u MB. Name a folder with the page alone.",
            KG_FILES_MAX, KG_FILES_BYTES_MAX >> 20);
        free(data);
        return E2BIG;
    }
    struct kg_file *file = &files->file[files->count++];
    snprintf(file->path, sizeof file->path, "/%s", path);
    file->type = type_of(path);
    snprintf(file->etag, sizeof file->etag, "\"%02x%02x%02x%02x%02x%02x%02x%02x\"", digest[0], digest[1],
             digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]);
    file->data = data;
    file->len = len;
    files->bytes += len;
    return 0;
}

static int unreadable(struct reading *r, const char *path, int reason)
{
    snprintf(r->error, r->size,
             "\"%s\" in web.root cannot be read: %s. Make it readable for kedge, or correct web.root.", path,
             strerror(reason));
    return reason;
}

/* A plain file of that size; fd is closed by the caller. */
static int add_file(struct reading *r, const char *path, int fd, size_t len)
{
    if (len > KG_FILES_BYTES_MAX)
        return add(r, path, NULL, 0);
    char *data = malloc(len + 1);
    size_t used = 0;
    ssize_t got = 1;
    while (data && used < len && (got = read(fd, data + used, len - used)) > 0)
        used += (size_t)got;
    if (got < 0) {
        int reason = errno;
        free(data);
        return unreadable(r, path, reason);
    }
    return add(r, path, data, used);
}

static size_t depth_of(const char *path)
{
    size_t depth = path[0] != '\0';
    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

/* One name of a folder. Opened without following links, so that nothing outside of web.root gets in. */
static int add_entry(struct reading *r, int folder, const char *in, const char *name)
{
    char path[KG_FILE_PATH_MAX - 1];
    struct stat info;
    int len = snprintf(path, sizeof path, "%s%s%s", in, in[0] ? "/" : "", name), failed = 0;
    if (!is_served(name) || len < 0 || (size_t)len >= sizeof path || strcmp(path, "config.json") == 0) {
        r->left_out += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
        return 0;
    }
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP) {
        r->left_out++;
        return 0;
    }
    if (fd < 0 || fstat(fd, &info) != 0)
        failed = unreadable(r, path, errno);
    else if (S_ISREG(info.st_mode))
        failed = add_file(r, path, fd, (size_t)info.st_size);
    else if (S_ISDIR(info.st_mode) && r->folders < KG_FILES_MAX && depth_of(path) < KG_FILES_DEPTH)
        snprintf(r->folder[r->folders++], sizeof r->folder[0], "%s", path);
    else
        r->left_out++;
    if (fd >= 0)
        close(fd);
    return failed;
}

/* Opens a folder below the root, link by no link. -1 and errno. */
static int open_folder(int root, const char *path)
{
    char name[KG_FILE_PATH_MAX];
    int fd = dup(root);
    while (fd >= 0 && *path) {
        size_t len = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        int next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        close(fd);
        fd = next;
        path += len + (path[len] == '/');
    }
    return fd;
}

static int read_folder(struct reading *r, const char *path)
{
    int fd = open_folder(r->root, path);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int failed = 0;
    if (!dir) {
        failed = unreadable(r, path[0] ? path : ".", errno);
        if (fd >= 0)
            close(fd);
        return failed;
    }
    rewinddir(dir); /* dup'ed descriptors share their place */
    for (struct dirent *entry; !failed && (entry = readdir(dir));)
        failed = add_entry(r, dirfd(dir), path, entry->d_name);
    closedir(dir);
    return failed;
}

/* What a page must know of kedge. */
static int add_info(struct reading *r, const struct kg_config *config)
{
    json_t *info = json_pack("{s:s, s:s}", "domain", config->sip.domain, "websocket", "/ws");
    char *text = info ? json_dumps(info, JSON_COMPACT) : NULL;
    json_decref(info);
    return add(r, "config.json", text, text ? strlen(text) : 0);
}

static bool any_browser_listener(const struct kg_config *config)
{
    for (size_t i = 0; i < config->sip.listen_count; i++)
        if (config->sip.listen[i].transport == KG_WS || config->sip.listen[i].transport == KG_WSS)
            return true;
    return false;
}

struct kg_files *kg_files_load(const struct kg_config *config, char *error, size_t size)
{
    struct reading *r = calloc(1, sizeof *r);
    struct kg_files *files = calloc(1, sizeof *files);
    int failed = r && files ? 0 : ENOMEM;
    snprintf(error, size, "Out of memory while reading web.root.");
    if (!failed) {
        *r = (struct reading){.files = files, .root = -1, .folders = 1, .error = error, .size = size};
        atomic_init(&files->references, 1);
    }
    if (!failed && config->web.root[0]) {
        r->root = open(config->web.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        failed = r->root < 0 ? errno : add_info(r, config);
        if (r->root < 0)
            snprintf(error, size, "web.root: %s cannot be read: %s. Correct web.root, or remove it.",
                     config->web.root, strerror(failed));
        for (size_t i = 0; !failed && i < r->folders; i++)
            failed = read_folder(r, r->folder[i]);
        if (!failed && r->left_out)
            kg_info(
                "web",
                "%s: %zu files are not served: links, hidden ones, names with other characters than letters, "
                "digits and ._-, or too deep",
                config->web.root, r->left_out);
    }
    if (!failed && config->web.root[0] && !any_browser_listener(config))
        kg_warn("web", "%s is served to nobody: sip.listen has no ws or wss address", config->web.root);
    if (r && r->root >= 0)
        close(r->root);
    free(r);
    if (!failed)
        return files;
    kg_files_unref(files);
    return NULL;
}

struct kg_files *kg_files_ref(struct kg_files *files)
{
    atomic_fetch_add(&files->references, 1);
    return files;
}

void kg_files_unref(struct kg_files *files)
{
    if (!files || atomic_fetch_sub(&files->references, 1) > 1)
        return;
    for (size_t i = 0; i < files->count; i++)
        free(files->file[i].data);
    free(files);
}

const struct kg_file *kg_files_find(const struct kg_files *files, struct kg_span path)
{
    for (size_t i = 0; i < files->count; i++)
        if (kg_span_is(path, files->file[i].path) ||
            (kg_span_is(path, "/") && strcmp(files->file[i].path, "/index.html") == 0))
            return &files->file[i];
    return NULL;
}
