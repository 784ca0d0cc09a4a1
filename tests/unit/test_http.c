/* b2bua/sip: the head of HTTP requests (http), the opening handshake (handshake), and web.root (files). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "b2bua/sip/files.h"
#include "b2bua/sip/handshake.h"

#define GET "GET / HTTP/1.1\r\nHost: kedge.example\r\n"
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define UPGRADE                                                                                              \
    "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: " KEY                       \
    "\r\nSec-WebSocket-Version: 13\r\n"

/* Fed byte by byte, each time in a buffer of its own size. The status of a refusal, or 0. */
static int parse(const char *text, struct kg_http_request *out)
{
    static char copy[2 * KG_HTTP_HEAD_MAX];
    size_t len = strlen(text), used;
    int status = 0;
    for (size_t have = 0; have <= len; have++) {
        char *exact = malloc(have + 1);
        memcpy(exact, text, have);
        enum kg_http_parsed parsed = kg_http_parse(exact, have, out, &used, &status);
        free(exact);
        if (parsed == KG_HTTP_MORE)
            continue;
        if (parsed == KG_HTTP_REQUEST) { /* as spans that live on */
            memcpy(copy, text, have);
            assert_int_equal(kg_http_parse(copy, have, out, &used, &status), KG_HTTP_REQUEST);
            assert_int_equal(used, have);
        }
        return parsed == KG_HTTP_BAD ? status : 0;
    }
    return -1;
}

static void requests(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int status; /* 0: taken; -1: not whole */
    } rows[] = {
        {GET "\r\n", 0},
        {GET "X-Empty:\r\nAccept: */*\r\n\r\n", 0},
        {"GET /a?b=c HTTP/1.1\r\nhost:x\r\n\r\n", 0},
        {GET "Content-Length: 0\r\n\r\n", 0},
        {GET, -1},
        {"", -1},
        {"GET / HTTP/1.1\n\n", -1},
        {"\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
        {"GET / HTTP/1.0\r\nHost: x\r\n\r\n", 505},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
        {"GET / SIP/2.0\r\nHost: x\r\n\r\n", 400},
        {"GET /\r\nHost: x\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400},
        {"GET / x HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {GET "Host: other\r\n\r\n", 400},
        {GET "Origin: https://a\r\nOrigin: https://b\r\n\r\n", 400},
        {GET "X : 1\r\n\r\n", 400},
        {GET " folded\r\n\r\n", 400},
        {GET "no colon\r\n\r\n", 400},
        {GET ": no name\r\n\r\n", 400},
        {GET "X: a\rb\r\n\r\n", 400},
        {GET "X: a\nb\r\n\r\n", 400},
        {GET "X: \x1b[2J\r\n\r\n", 400},
        {GET "Content-Length: 5\r\n\r\nabcde", 400},
        {GET "Content-Length: -1\r\n\r\n", 400},
        {GET "Transfer-Encoding: chunked\r\n\r\n", 400},
    };
    struct kg_http_request request;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (parse(rows[i].text, &request) != rows[i].status)
            fail_msg("row %zu: %d instead of %d: %s", i, parse(rows[i].text, &request), rows[i].status,
                     rows[i].text);
    assert_int_equal(parse("GET /a?b=c HTTP/1.1\r\nhost: x \t\r\n\r\n", &request), 0);
    assert_true(kg_span_is(request.path, "/a"));
    assert_true(kg_span_is(request.host, "x"));
    assert_int_equal(request.method, KG_HTTP_GET);
    assert_false(request.upgrades);
}

static void limits(void **state)
{
    (void)state;
    static char text[2 * KG_HTTP_HEAD_MAX];
    struct kg_http_request request;
    size_t n = (size_t)snprintf(text, sizeof text, GET "X: ");
    memset(text + n, 'x', KG_HTTP_HEAD_MAX - n - 4);
    memcpy(text + KG_HTTP_HEAD_MAX - 4, "\r\n\r\n", 5);
    assert_int_equal(parse(text, &request), 0);
    memcpy(text + KG_HTTP_HEAD_MAX - 4, "x\r\n\r\n", 6);
    assert_int_equal(parse(text, &request), 431);
    n = (size_t)snprintf(text, sizeof text, GET);
    for (int i = 0; i < 64; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "A:\r\n");
    snprintf(text + n, sizeof text - n, "\r\n");
    assert_int_equal(parse(text, &request), 431);
}

/* RFC 6455 1.3 */
static void accept_of_the_rfc(void **state)
{
    (void)state;
    char out[KG_HANDSHAKE_ACCEPT];
    assert_int_equal(kg_handshake_accept((struct kg_span){KEY, strlen(KEY)}, out), 0);
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static int judge(const char *head, bool secure, const struct kg_web_config *web)
{
    struct kg_http_request request;
    const char *why = NULL;
    if (parse(head, &request) != 0 || !request.upgrades)
        return 0;
    int status = kg_handshake_judge(&request, secure, web, "sip.example", &why);
    assert_non_null(why);
    return status;
}

static void handshakes(void **state)
{
    (void)state;
#define SIP    "Sec-WebSocket-Protocol: sip\r\n"
#define ORIGIN "Origin: https://kedge.example\r\n"
#define WS     "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    static const struct {
        const char *text;
        int status; /* 0: no handshake at all */
    } rows[] = {
        {GET UPGRADE SIP ORIGIN "\r\n", 101},
        {"GET /ws HTTP/1.1\r\nHost: kedge.example\r\n" UPGRADE SIP ORIGIN "\r\n", 101},
        {"GET /ws?x=1 HTTP/1.1\r\nHost: kedge.example\r\n" UPGRADE SIP ORIGIN "\r\n", 101},
        {"GET /other HTTP/1.1\r\nHost: kedge.example\r\n" UPGRADE SIP ORIGIN "\r\n", 404},
        {GET UPGRADE "Sec-WebSocket-Protocol: msrp, sip\r\n" ORIGIN "\r\n", 101},
        {GET UPGRADE "Sec-WebSocket-Protocol: msrp\r\n" SIP ORIGIN "\r\n", 101},
        {GET UPGRADE ORIGIN "\r\n", 400},
        {GET UPGRADE "Sec-WebSocket-Protocol: sips\r\n" ORIGIN "\r\n", 400},
        {GET UPGRADE "Sec-WebSocket-Protocol: msrp\r\n" ORIGIN "\r\n", 400},
        {GET SIP ORIGIN "Connection: Upgrade\r\n\r\n", 0},
        {GET SIP ORIGIN "Upgrade: websocket\r\n\r\n", 0},
        {GET SIP ORIGIN "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 0},
        {GET WS SIP ORIGIN "Sec-WebSocket-Key: " KEY "\r\n\r\n", 426},
        {GET WS SIP ORIGIN "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 8\r\n\r\n", 426},
        {GET WS SIP ORIGIN "Sec-WebSocket-Version: 13\r\n\r\n", 400},
        {GET WS SIP ORIGIN "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n", 400},
        {GET WS SIP ORIGIN
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEhIQ==\r\n\r\n",
         400},
        {GET WS SIP ORIGIN "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==\r\n\r\n",
         400},
    };
    struct kg_web_config web = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (judge(rows[i].text, true, &web) != rows[i].status)
            fail_msg("row %zu: %d instead of %d", i, judge(rows[i].text, true, &web), rows[i].status);
}

static void origins(void **state)
{
    (void)state;
    static const struct {
        const char *host, *origin; /* NULL: none */
        bool secure;
        int status;
    } rows[] = {
        {"kedge.example", "https://kedge.example", true, 101},
        {"kedge.example:8443", "https://kedge.example:8443", true, 101},
        {"kedge.example:8443", "https://kedge.example", true, 101}, /* a web server beside kedge */
        {"Kedge.Example:8443", "https://kedge.example:444", true, 101},
        {"192.0.2.1:8080", "http://192.0.2.1:8080", false, 101},
        {"[2001:db8::1]:8443", "https://[2001:db8::1]", true, 101},
        {"[2001:db8::1]:8443", "https://[2001:db8::2]", true, 403},
        {"[2001:db8::1]", "https://[2001", true, 403},
        {"kedge.example", "http://kedge.example", true, 403}, /* a page that others could change */
        {"kedge.example", "https://kedge.example", false, 403},
        {"kedge.example", "https://evil.example", true, 403},
        {"kedge.example", "https://kedge.example.evil.example", true, 403},
        {"kedge.example", "https://evil-kedge.example", true, 403},
        {"kedge.example", "https://kedge.exampl", true, 403},
        {"kedge.example", "https://", true, 403},
        {"kedge.example", "", true, 403},
        {"kedge.example", "null", true, 403},
        {"kedge.example", "file://", true, 403},
        {"kedge.example", "kedge.example", true, 403},
        {":8443", "https://:8443", true, 403},
        {"kedge.example", NULL, true, 403},
        {"kedge.example", "https://www.example.org", true, 101}, /* listed, both */
        {"kedge.example", "https://dev.example.org:3000", false, 101},
        {"kedge.example", "https://dev.example.org", true, 403},
        {"kedge.example", "http://www.example.org", true, 403},
        /* DNS rebinding: without TLS a name proves nothing, unless nobody else could have it. */
        {"evil.example:8080", "http://evil.example:8080", false, 403},
        {"evil.example:8080", "http://evil.example", false, 403},
        {"evil-sip.example", "http://evil-sip.example", false, 403},
        {"sip.example.evil", "http://sip.example.evil", false, 403},
        {"192.0.2.1.evil.example", "http://192.0.2.1.evil.example", false, 403},
        {"[2001:db8::1", "http://[2001:db8::1", false, 403},
        {"[evil.example]", "http://[evil.example]", false, 403},
        {"evil.example", "https://dev.example.org:3000", false, 101}, /* the page itself is listed */
        {"sip.example:8080", "http://sip.example", false, 101},
        {"SIP.example", "http://sip.example", false, 101},
        {"www.sip.example:8080", "http://www.sip.example:8080", false, 101},
        {"localhost:8080", "http://localhost:8080", false, 101},
        {"[::1]:8080", "http://[::1]:8080", false, 101},
    };
    struct kg_web_config web = {.origin = {{"https://www.example.org"}, {"https://dev.example.org:3000"}},
                                .origin_count = 2};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char head[600];
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: %s\r\n" UPGRADE SIP "%s%s%s\r\n", rows[i].host,
                 rows[i].origin ? "Origin: " : "", rows[i].origin ? rows[i].origin : "",
                 rows[i].origin ? "\r\n" : "");
        int status = judge(head, rows[i].secure, &web);
        if (status != rows[i].status)
            fail_msg("row %zu: %d instead of %d", i, status, rows[i].status);
    }
    web.origin_missing = true; /* lets those in who name none, and nobody else */
    assert_int_equal(judge(GET UPGRADE SIP "\r\n", true, &web), 101);
    assert_int_equal(judge(GET UPGRADE SIP "Origin: null\r\n\r\n", true, &web), 403);
}

/* ---- web.root ---- */

static char root[64];

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const struct kg_file *find(const struct kg_files *files, const char *path)
{
    return kg_files_find(files, (struct kg_span){path, strlen(path)});
}

static void files_of_a_folder(void **state)
{
    (void)state;
    struct kg_config config;
    char error[300], path[200];
    kg_config_defaults(&config);
    struct kg_files *files = kg_files_load(&config, error, sizeof error);
    assert_non_null(files);
    assert_null(find(files, "/")); /* none configured: none served, /config.json neither */
    assert_null(find(files, "/config.json"));
    kg_files_unref(files);

    snprintf(root, sizeof root, "/tmp/kedge-test-web-%d", (int)getpid());
    mkdir(root, 0755);
    snprintf(config.web.root, sizeof config.web.root, "%s", root);
    put("index.html", "<p>");
    put("app.js", "1");
    put(".secret", "x");
    put("a name.txt", "x");
    snprintf(path, sizeof path, "%s/img", root);
    mkdir(path, 0755);
    put("img/a.svg", "<svg/>");
    snprintf(path, sizeof path, "%s/link.txt", root);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    snprintf(path, sizeof path, "%s/etc", root);
    assert_int_equal(symlink("/etc", path), 0);
    snprintf(path, sizeof path, "%s/pipe.txt", root);
    assert_int_equal(mkfifo(path, 0644), 0);
    files = kg_files_load(&config, error, sizeof error);
    if (!files)
        fail_msg("%s", error);
    const struct kg_file *index = find(files, "/");
    assert_non_null(index);
    assert_ptr_equal(index, find(files, "/index.html"));
    assert_string_equal(index->type, "text/html; charset=utf-8");
    assert_int_equal(index->len, 3);
    assert_memory_equal(index->data, "<p>", 3);
    assert_string_equal(find(files, "/app.js")->type, "text/javascript; charset=utf-8");
    assert_string_not_equal(find(files, "/app.js")->etag, index->etag);
    assert_string_equal(find(files, "/img/a.svg")->type, "image/svg+xml");
    assert_string_equal(find(files, "/config.json")->data, "{\"domain\":\"kedge\",\"websocket\":\"/ws\"}");
    static const char *const absent[] = {"",
                                         "/.secret",
                                         "/a name.txt",
                                         "/a%20name.txt",
                                         "/link.txt",
                                         "/etc/passwd",
                                         "/img",
                                         "/img/",
                                         "/pipe.txt",
                                         "//app.js",
                                         "/./app.js",
                                         "/img/../app.js",
                                         "/../etc/passwd",
                                         "/%2e%2e/etc/passwd",
                                         "app.js",
                                         "/APP.JS",
                                         "/app.js/"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (find(files, absent[i]))
            fail_msg("%s is served", absent[i]);
    struct kg_files *second = kg_files_ref(files);
    kg_files_unref(files);
    assert_non_null(find(second, "/app.js"));
    kg_files_unref(second);
    snprintf(path, sizeof path, "rm -r %s", root);
    assert_int_equal(system(path), 0);
    assert_null(kg_files_load(&config, error, sizeof error));
    assert_non_null(strstr(error, root));
}

static void too_much(void **state)
{
    (void)state;
    struct kg_config config;
    char error[300], path[200];
    kg_config_defaults(&config);
    snprintf(root, sizeof root, "/tmp/kedge-test-web-%d", (int)getpid());
    mkdir(root, 0755);
    snprintf(config.web.root, sizeof config.web.root, "%s", root);
    put("big.bin", "");
    snprintf(path, sizeof path, "%s/big.bin", root);
    assert_int_equal(truncate(path, (off_t)KG_FILES_BYTES_MAX + 1), 0); /* a hole: no disk */
    assert_null(kg_files_load(&config, error, sizeof error));
    assert_non_null(strstr(error, "more than kedge serves"));
    unlink(path);
    for (int i = 0; i < KG_FILES_MAX; i++) { /* and /config.json */
        snprintf(path, sizeof path, "%d.txt", i);
        put(path, "x");
    }
    assert_null(kg_files_load(&config, error, sizeof error));
    snprintf(path, sizeof path, "rm -r %s", root);
    assert_int_equal(system(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),   cmocka_unit_test(limits),  cmocka_unit_test(accept_of_the_rfc),
        cmocka_unit_test(handshakes), cmocka_unit_test(origins), cmocka_unit_test(files_of_a_folder),
        cmocka_unit_test(too_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
