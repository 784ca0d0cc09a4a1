#include "b2bua/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "b2bua/sip/files.h"
#include "b2bua/sip/tls.h"

/* A socket can be bound to it: port 0 takes none that anybody else wants. */
static int bind_error(const struct kg_addr *addr)
{
    struct kg_addr any_port = *addr;
    int fd = socket(kg_addr_family(addr), SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0;

    if (fd < 0)
        return errno;
    kg_addr_set_port(&any_port, 0);
    if (bind(fd, &any_port.sa, kg_addr_len(&any_port)) != 0)
        err = errno;
    close(fd);
    return err;
}

static int check_address(const char *row, const struct kg_addr *addr, char *error, size_t size)
{
    char text[KG_ADDR_STR];
    int err = kg_addr_is_set(addr) ? bind_error(addr) : 0;

    if (!err)
        return 0;
    kg_addr_format_host(addr, text);
    if (err == EADDRNOTAVAIL)
        snprintf(error, size, "%s: %s is no address of this machine. Give it to an interface, or correct %s.",
                 row, text, row);
    else
        snprintf(error, size, "%s: %s cannot be used: %s.", row, text, strerror(err));
    return EINVAL;
}

static int check_tls(const struct kg_config *config, char *error, size_t size)
{
    SSL_CTX *server = config->tls.certificate[0] ? kg_tls_server(config, error, size) : NULL;
    SSL_CTX *client = config->tls.ca[0] ? kg_tls_client(config, error, size) : NULL;
    bool good = (server || !config->tls.certificate[0]) && (client || !config->tls.ca[0]);

    SSL_CTX_free(server);
    SSL_CTX_free(client);
    return good ? 0 : EINVAL;
}

static int check_web(const struct kg_config *config, char *error, size_t size)
{
    struct kg_files *files = kg_files_load(config, error, size);

    kg_files_unref(files);
    return files ? 0 : EINVAL;
}

/* Of an absolute path. */
static void to_folder(char *path)
{
    char *slash = strrchr(path, '/');
    slash[slash == path] = '\0';
}

/* NULL, or why not. Who checks may be another user than the one that kedge will be. */
static const char *refusal(int err)
{
    return err == EACCES ? NULL : strerror(err);
}

/* Could a file be written at this path? makes_folders: kedge makes those that are missing when it starts. */
static int check_writable(const char *row, const char *path, bool makes_folders, char *error, size_t size)
{
    char place[KG_PATH_MAX];
    struct stat found;
    const char *why = NULL;

    snprintf(place, sizeof place, "%s", path);
    if (stat(place, &found) == 0) {
        if (S_ISDIR(found.st_mode))
            why = "it is a folder; name a file in it";
        else if (access(place, W_OK) != 0)
            why = refusal(errno);
    } else {
        do
            to_folder(place);
        while (makes_folders && stat(place, &found) != 0 && errno == ENOENT && place[1]);
        if (stat(place, &found) != 0)
            why = errno == ENOENT ? "there is no such folder" : refusal(errno);
        else if (!S_ISDIR(found.st_mode))
            why = "that is no folder";
        else if (access(place, W_OK | X_OK) != 0)
            why = refusal(errno);
    }
    if (!why)
        return 0;
    snprintf(error, size, "%s: %s cannot be written (%s): %s.", row, path, place, why);
    return EINVAL;
}

int kg_check_files(const struct kg_config *config, char *error, size_t size)
{
    return check_tls(config, error, size) || check_web(config, error, size) ? EINVAL : 0;
}

int kg_check_machine(const struct kg_config *config, char *error, size_t size)
{
    for (size_t i = 0; i < config->sip.listen_count; i++)
        if (check_address("sip.listen", &config->sip.listen[i].addr, error, size))
            return EINVAL;
    if (check_address("media.address", &config->media.address, error, size))
        return EINVAL;
    if (check_writable("store", config->store, true, error, size) ||
        check_writable("control", config->control, true, error, size) ||
        (config->cdr.file[0] && check_writable("cdr.file", config->cdr.file, false, error, size)))
        return EINVAL;
    return kg_check_files(config, error, size);
}
