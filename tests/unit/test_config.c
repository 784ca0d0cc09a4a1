/* conf: the schema and the loader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/config.h"

static struct kg_config config;
static struct kg_config_errors errors;

static int parse(const char *text)
{
    return kg_config_parse(text, strlen(text), &config, &errors);
}

static void must_parse(const char *text)
{
    if (parse(text) != 0)
        fail_msg("line %d: %s", errors.item[0].line, errors.item[0].text);
    assert_int_equal(errors.count, 0);
}

/* Exactly one error, at this line, with these words. */
static void must_fail(const char *text, int line, const char *words)
{
    if (parse(text) == 0)
        fail_msg("accepted: %s", text);
    for (size_t i = 1; i < errors.count; i++)
        print_message("also line %d: %s\n", errors.item[i].line, errors.item[i].text);
    if (errors.item[0].line != line || strstr(errors.item[0].text, words) == NULL)
        fail_msg("for %s\ngot line %d: %s", text, errors.item[0].line, errors.item[0].text);
    assert_int_equal(errors.count, 1);
}

static void assert_endpoint(const struct kg_endpoint *endpoint, enum kg_transport transport, const char *text)
{
    char buf[KG_ADDR_STR];

    assert_int_equal(endpoint->transport, transport);
    assert_string_equal(kg_addr_format(&endpoint->addr, buf), text);
}

static void defaults(void **state)
{
    struct kg_config fresh;

    (void)state;
    kg_config_defaults(&fresh);
    must_parse("");
    assert_memory_equal(&fresh, &config, sizeof fresh);
    must_parse("# only a comment\n");
    assert_int_equal(config.sip.listen_count, 3);
    assert_endpoint(&config.sip.listen[2], KG_TLS, "0.0.0.0:5061");
    assert_false(kg_addr_is_set(&config.media.advertise));
    assert_int_equal(config.media.port_min, 30000);
    assert_int_equal(config.media.port_max, 39999);
    assert_int_equal(config.media.latch_packets, 4);
    assert_int_equal(config.media.latch_window_ms, 3000);
    assert_int_equal(config.media.silence_timeout_ms, 60000);
    assert_int_equal(config.media.hold_timeout_ms, 1800000);
    assert_int_equal(config.media.unanswered_timeout_ms, 180000);
    assert_int_equal(config.registration.keepalive_udp_ms, 25000);
    assert_int_equal(config.registration.pbx_expires_ms, 3600000);
    assert_int_equal(config.pbx_count, 0);
    assert_string_equal(config.store, "/var/lib/kedge/kedge.db");
    assert_string_equal(config.control, "/run/kedge/control.sock");
    assert_string_equal(config.log_level, "info");
}

static void whole_file(void **state)
{
    (void)state;
    must_parse("sip:\n"
               "  listen: [ \"udp:0.0.0.0:5060\", \"tls:[::]:5061\", tcp:192.0.2.1 ]\n"
               "  advertise: 203.0.113.7\n"
               "  domain: example.org\n"
               "tls: { certificate: /c.pem, key: /k.pem }\n"
               "media:\n"
               "  address: 2001:db8::1\n"
               "  ports: 20000 - 20003\n"
               "  policy: bypass\n"
               "  latch_window: 2.5 s\n"
               "  silence_timeout: 30s\n"
               "pbx: [ \"udp:192.0.2.10:5060\", \"tcp:192.0.2.11\" ]\n"
               "store: /tmp/k.db\n"
               "control: unix:/tmp/k.sock\n"
               "log: { level: debug }\n"
               "limits: { calls: 5 }\n");
    assert_int_equal(config.sip.listen_count, 3);
    assert_endpoint(&config.sip.listen[0], KG_UDP, "0.0.0.0:5060");
    assert_endpoint(&config.sip.listen[1], KG_TLS, "[::]:5061");
    assert_endpoint(&config.sip.listen[2], KG_TCP, "192.0.2.1:5060");
    assert_true(kg_addr_is_set(&config.sip.advertise));
    assert_string_equal(config.sip.domain, "example.org");
    assert_string_equal(config.tls.key, "/k.pem");
    assert_int_equal(kg_addr_family(&config.media.address), AF_INET6);
    assert_int_equal(config.media.port_min, 20000);
    assert_int_equal(config.media.port_max, 20003);
    assert_int_equal(config.media.policy, KG_POLICY_BYPASS);
    assert_int_equal(config.media.latch_window_ms, 2500);
    assert_int_equal(config.media.silence_timeout_ms, 30000);
    assert_int_equal(config.pbx_count, 2);
    assert_int_equal(config.pbx[1].transport, KG_TCP);
    assert_string_equal(config.pbx[1].host, "192.0.2.11");
    assert_string_equal(config.control, "/tmp/k.sock");
    assert_string_equal(config.log_level, "debug");
    assert_int_equal(config.limits.calls, 5);
}

static void tolerant(void **state)
{
    (void)state;
    must_parse("media:\nsip:\n  listen: udp:192.0.2.1:5060\npbx: []\n"); /* an empty group; a list of one */
    assert_int_equal(config.sip.listen_count, 1);
    must_parse("\xef\xbb\xbfstore: /a\n"); /* byte order mark */
    must_parse("store: &p /a/b\ntls: { certificate: *p, key: *p }\n");
    assert_string_equal(config.tls.certificate, "/a/b");
}

static void each_error_has_its_line(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *words;
    } rows[] = {
        {"media:\n  ports: 39999-30000\n", 2,
         "media.ports must lie between 1024 and 65535, the lower port first"},
        {"media:\n\n  ports: 100-200\n", 3, "1024"},
        {"media:\n  ports: 30001-30003\n", 2, "two pairs"},
        {"media:\n  ports: 30000\n", 2, "range of ports"},
        {"media:\n  ports: 30000-70000\n", 2, "65535"},
        {"media:\n  ports: 30000-31000x\n", 2, "range of ports"},
        {"media:\n  ports: 300000-310000\n", 2, "range of ports"},
        {"media:\n  ports: [ 1, 2 ]\n", 2, "one value, not a list"},
        {"media:\n  policy: direct\n", 2, "auto, steer, anchor or bypass, not \"direct\""},
        {"media:\n  prots: 30000-39999\n", 2, "no setting media.prots; did you mean ports?"},
        {"media:\n  address: example.org\n", 2, "numeric address"},
        {"media:\n  address: 0.0.0.0\n", 2, "one address"},
        {"media:\n  address: 192.0.2.1:5000\n", 2, "numeric address"},
        {"media:\n  silence_timeout: 0\n", 2, "between 1 and 86400 seconds"},
        {"media:\n  silence_timeout: -5\n", 2, "a time in seconds"},
        {"media:\n  silence_timeout: 5 m\n", 2, "a time in seconds"},
        {"media:\n  silence_timeout: 99999999999999999999\n", 2, "a time in seconds"},
        {"media:\n  latch_packets: many\n", 2, "whole number"},
        {"media:\n  workers: 65\n", 2, "between 0 and 64"},
        {"media: 30000-39999\n", 1, "group of settings"},
        {"medai:\n  ports: 1\n", 1, "did you mean media?"},
        {"ports: 30000-39999\n", 1, "did you mean media.ports?"},
        {"colour: red\n", 1, "no setting colour; conf/README.md"},
        {"store:\n", 1, "store has no value"},
        {"store: kedge.db\n", 1, "whole path"},
        {"store: /var/lib/kedge/\n", 1, "whole path"},
        {"store: \"/a\\0b\"\n", 1, "NUL"},
        {"store: { path: /a }\n", 1, "not settings of its own"},
        {"store: /a\nlog:\n  level: info\nstore: /b\n", 4, "store is set twice; the first time in line 1"},
        {"log: { level: info }\nsip: {}\nlog: {}\n", 3, "log begins twice; the first time in line 1"},
        {"log:\n  level: loud\n", 2, "error, warn, info or debug"},
        {"control: /run/x.sock\n", 1, "unix:"},
        {"control: unix:x.sock\n", 1, "whole path"},
        {"sip:\n  listen: []\n", 2, "at least 1"},
        {"sip:\n  listen:\n    - udp:0.0.0.0:5060\n    - udp:0.0.0.0:5060\n", 4, "twice"},
        {"sip:\n  listen:\n    - udp:0.0.0.0:5060\n    - sctp:0.0.0.0:5060\n", 4, "begin with udp:"},
        {"sip:\n  listen: [ \"udp:sip.example.org:5060\" ]\n", 2, "numeric address"},
        {"sip:\n  listen: [ \"5060\" ]\n", 2, "begin with udp:"},
        {"sip:\n  listen: [ [ \"udp:0.0.0.0:1\" ] ]\n", 2, "plain texts"},
        {"dns:\n  servers: ns.example\n", 2, "numeric addresses"},
        {"dns:\n  servers: 0.0.0.0\n", 2, "one machine"},
        {"sip:\n  domain: \"a b\"\n", 2, "domain"},
        {"sip:\n  domain: \"a\\r\\nb\"\n", 2, "not \"a??b\""},
        {"pbx: [ \"udp:0.0.0.0:5060\" ]\n", 1, "one machine"},
        {"tls:\n  certificate: /a.pem\n", 2, "needs its tls.key"},
        {"tls:\n  key: /a.pem\n", 2, "needs its tls.certificate"},
        {"ice:\n  consent: 10\n  consent_expiry: 10\n", 2,
         "ice.consent must be shorter than ice.consent_expiry"},
        {"ice:\n\n  consent_expiry: 5\n", 3, "ice.consent must be shorter than ice.consent_expiry"},
        {"ice:\n  consent_expiry: 5\n  consent: 6\n", 3, "ice.consent must be shorter"},
        {"ice:\n  consent: 30\n", 2, "ice.consent must be shorter"},
        {"store: /a\n---\nstore: /b\n", 2, "second YAML document"},
        {"sip:\n  listen: [ tls:[::]:5061 ]\n", 2, "not YAML"},
        {"sip:\n\tdomain: x\n", 2, "not YAML"},
        {"store: /a\n  key: b\n", 2, "not YAML"},
        {"store: *x\n", 1, "not YAML"},
        {"- a\n- b\n", 1, "made of lines"},
        {"hello\n", 1, "made of lines"},
        {"? [ a ]\n: b\n", 1, "plain text"},
        {"store: \xff\xfe\n", 1, "not YAML"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        must_fail(rows[i].text, rows[i].line, rows[i].words);
}

/* ---- records ---- */

static const char two_trunks[] = "trunks:\n"
                                 "  - name: itsp\n"
                                 "    server: sip:sip.itsp.example\n"
                                 "    user: me\n"
                                 "    password: \"s3cret words\"\n"
                                 "  - { name: second, probe: 0, server: [ \"udp:192.0.2.7\",\n"
                                 "      \"tls:[2001:db8::7]:5071;priority=2;weight=10;verify=no\" ] }\n";

static void records(void **state)
{
    const struct kg_trunk_config *trunk = config.trunk;
    char text[KG_SERVER_AT_STR];

    (void)state;
    must_parse(two_trunks);
    assert_int_equal(config.trunk_count, 2);
    assert_string_equal(trunk[0].name, "itsp");
    assert_string_equal(trunk[0].password, "s3cret words");
    assert_int_equal(trunk[0].probe_ms, 30000); /* the default, in each element */
    assert_int_equal(trunk[0].server_count, 1);
    assert_true(trunk[0].server[0].located);
    assert_string_equal(trunk[0].server[0].host, "sip.itsp.example");
    assert_int_equal(trunk[1].probe_ms, 0);
    assert_string_equal(trunk[1].password, "");
    assert_int_equal(trunk[1].server_count, 2);
    assert_string_equal(kg_server_at_format(&trunk[1].server[0], text), "udp:192.0.2.7");
    assert_string_equal(kg_server_at_format(&trunk[1].server[1], text),
                        "tls:[2001:db8::7]:5071;priority=2;weight=10;verify=no");
    must_parse("trunks: []\n");
    assert_int_equal(config.trunk_count, 0);
}

static void each_record_error_has_its_line(void **state)
{
    static const struct {
        const char *text;
        int line;
        const char *words;
    } rows[] = {
        {"trunks:\n  - server: udp:192.0.2.1\n", 2, "this entry of trunks needs a name"},
        {"trunks:\n  - name: a\n    server: udp:192.0.2.1\n  - name: b\n", 4, "needs a server"},
        {"trunks:\n  - name: a\n    server: udp:192.0.2.1\n  - name: a\n    server: udp:192.0.2.2\n", 4,
         "a second entry of trunks has the name a"},
        {"trunks:\n  - name: a\n    sevrer: udp:192.0.2.1\n", 3,
         "no setting trunks.sevrer; did you mean server?"},
        {"trunks:\n  - name: a\n    name: b\n    server: udp:192.0.2.1\n", 3,
         "trunks.name is set twice; the first time in line 2"},
        {"trunks:\n  - name: a\n    server: []\n", 3, "trunks.server needs at least 1 entry"},
        {"trunks:\n  - name: a\n    server: [ udp:192.0.2.1,\n      udp:192.0.2.1 ]\n", 4, "twice"},
        {"trunks:\n  - name: a b\n    server: udp:192.0.2.1\n", 2, "letters, digits"},
        {"trunks:\n  - name: a\n    server: { x: y }\n", 3, "takes a list"},
        {"trunks:\n  - name:\n    server: udp:192.0.2.1\n", 2, "trunks.name has no value"},
        {"trunks:\n  - name: a\n    server: udp:192.0.2.1\n    probe: 4000\n", 4, "between 0 and 3600"},
        {"trunks:\n  - itsp\n", 2, "an entry of trunks is made of lines such as \"name: ...\""},
        {"trunks:\n  name: a\n", 2, "trunks is a list: begin each entry with \"- name: ...\""},
        {"trunks: itsp\n", 1, "trunks is a list"},
        {"trunks:\n  - ? [ a ]\n    : b\n", 2, "plain text"},
        {"trunks:\n  - { name: a, password: \"x\\n\", server: udp:192.0.2.1 }\n", 2,
         "trunks.password has a control character"},
        {"trunks:\n  - name: a\n    password: b\n    password_file: /c\n    server: udp:192.0.2.1\n", 4,
         "trunks.password_file and trunks.password in line 3 are one setting"},
        {"trunks:\n  - name: a\n    password_file: c\n    server: udp:192.0.2.1\n", 3, "the whole path"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        must_fail(rows[i].text, rows[i].line, rows[i].words);
}

static void records_have_a_bound(void **state)
{
    static char text[KG_TRUNKS_MAX * 64 + 256];
    size_t used = (size_t)snprintf(text, sizeof text, "trunks:\n");

    (void)state;
    for (int i = 0; i <= KG_TRUNKS_MAX; i++)
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "- { name: t%d, server: udp:192.0.2.1 }\n", i);
    must_fail(text, KG_TRUNKS_MAX + 2, "trunks has more than 32 entries");
}

static void servers(void **state)
{
    static const struct {
        const char *text, *words; /* words NULL: good, and reads back the same */
    } rows[] = {
        {"udp:192.0.2.1:5070", NULL},
        {"tcp:pbx.example.org", NULL},
        {"sip:example.org;priority=65535;weight=65535", NULL},
        {"sips:example.org:5081", NULL},
        {"tls:a-b.example;verify=no", NULL},
        {"udp:localhost", NULL},
        {"http:192.0.2.1", "must begin with udp:"},
        {"192.0.2.1", "must begin with udp:"},
        {"udp:", "needs a host"},
        {"udp::5060", "needs a host"},
        {"udp:192.0.2.1:0", "needs a host"},
        {"udp:192.0.2.1:65536", "needs a host"},
        {"udp:192.0.2.1:50 60", "needs a host"},
        {"udp:[2001:db8::1", "needs a host"},
        {"udp:[2001:db8::1]5060", "needs a host"},
        {"udp:2001:db8::1", "needs a host"},
        {"udp:[pbx]", "needs a host name"},
        {"udp:192.0.2.300", "needs a host name"},
        {"udp:a..b", "needs a host name"},
        {"udp:a_b.example", "needs a host name"},
        {"udp:-a.example", "needs a host name"},
        {"udp:0.0.0.0", "one machine"},
        {"udp:224.0.0.1", "one machine"},
        {"udp:a.example;verify=no", "knows only"},
        {"udp:a.example;priority=", "knows only"},
        {"udp:a.example;priority=65536", "knows only"},
        {"udp:a.example;weight=-1", "knows only"},
        {"udp:a.example;;", "knows only"},
    };
    char text[512], back[KG_SERVER_AT_STR];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "trunks:\n- name: a\n  server: \"%s\"\n", rows[i].text);
        if (rows[i].words == NULL) {
            must_parse(text);
            assert_string_equal(kg_server_at_format(&config.trunk[0].server[0], back), rows[i].text);
        } else {
            must_fail(text, 3, rows[i].words);
        }
    }
}

static void write_file(const char *path, const char *text, int mode)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fchmod(fileno(file), (mode_t)mode), 0);
    fclose(file);
}

static void passwords_from_files(void **state)
{
    char dir[] = "/tmp/kedge-config-XXXXXX", conf[64], secret[64], text[256];

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(conf, sizeof conf, "%s/kedge.yaml", dir);
    snprintf(secret, sizeof secret, "%s/secret", dir);
    snprintf(text, sizeof text,
             "trunks:\n- name: a\n  user: me\n  server: udp:192.0.2.1\n  password_file: %s\n", secret);
    write_file(conf, text, 0600);
    assert_int_not_equal(kg_config_load(conf, &config, &errors), 0);
    assert_int_equal(errors.item[0].line, 5);
    assert_non_null(strstr(errors.item[0].text, "No such file"));
    write_file(secret, "pass word\nmore\n", 0640);
    if (kg_config_load(conf, &config, &errors) != 0)
        fail_msg("%s", errors.item[0].text);
    assert_string_equal(config.trunk[0].password, "pass word");
    write_file(secret, "pass word\n", 0644);
    assert_int_not_equal(kg_config_load(conf, &config, &errors), 0);
    assert_non_null(strstr(errors.item[0].text, "everybody can read"));
    write_file(secret, "\n", 0600);
    assert_int_not_equal(kg_config_load(conf, &config, &errors), 0);
    assert_non_null(strstr(errors.item[0].text, "is empty"));
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    write_file(secret, text, 0600);
    assert_int_not_equal(kg_config_load(conf, &config, &errors), 0);
    assert_non_null(strstr(errors.item[0].text, "longer than"));
    assert_null(strstr(errors.item[0].text, "xxxx"));
    must_parse("trunks: [ { name: a, server: udp:192.0.2.1, user: me, password_file: /nonexistent } ]\n");
    unlink(secret);
    unlink(conf);
    rmdir(dir);
}

static void secrets_stay_secret(void **state)
{
    static char whole[sizeof config];
    char long_one[300];

    (void)state;
    must_parse(two_trunks);
    kg_config_forget_secrets(&config);
    assert_string_equal(config.trunk[0].name, "itsp");
    memcpy(whole, &config, sizeof whole);
    assert_null(memmem(whole, sizeof whole, "s3cret", 6));
    snprintf(long_one, sizeof long_one, "trunks:\n- { name: a, server: udp:192.0.2.1, password: %0200d }\n",
             7);
    must_fail(long_one, 2, "trunks.password is longer than 127 bytes");
    assert_null(strstr(errors.item[0].text, "0007"));
}

static void finds_every_error(void **state)
{
    (void)state;
    config.limits.calls = 77;
    assert_int_not_equal(parse("media:\n  ports: x\n  policy: y\nstore: z\ncolour: red\n"), 0);
    assert_int_equal(errors.count, 4);
    assert_int_equal(errors.item[0].line, 2);
    assert_int_equal(errors.item[1].line, 3);
    assert_int_equal(errors.item[2].line, 4);
    assert_int_equal(errors.item[3].line, 5);
    assert_int_equal(config.limits.calls, 77); /* untouched */
}

static void repeat(char *out, size_t size, const char *piece)
{
    size_t len = strlen(piece);

    memset(out, 0, size);
    for (size_t used = 0; used + len < size; used += len)
        memcpy(out + used, piece, len);
}

static void hostile_files(void **state)
{
    static char text[KG_CONFIG_FILE_MAX + 2];
    static const char bomb[] = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                               "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                               "sip: { listen: *d }\npbx: &p [ *p, *p ]\n";

    (void)state;
    assert_int_not_equal(parse(bomb), 0);
    assert_true(errors.count >= 5);
    repeat(text, KG_CONFIG_FILE_MAX, "[");
    assert_int_not_equal(parse(text), 0);
    repeat(text, KG_CONFIG_FILE_MAX, "{a: ");
    assert_int_not_equal(parse(text), 0);
    repeat(text, KG_CONFIG_FILE_MAX, "media: {}\n");
    assert_int_not_equal(parse(text), 0);
    assert_int_equal(errors.count, KG_CONFIG_ERRORS_MAX); /* and no more */
    repeat(text, sizeof text, "#");
    assert_int_equal(strlen(text), KG_CONFIG_FILE_MAX + 1);
    must_fail(text, 0, "larger than 65536 bytes");
    text[KG_CONFIG_FILE_MAX] = '\0';
    must_parse(text);
}

static void reload(void **state)
{
    struct kg_config running;
    char names[256], small[8];

    (void)state;
    must_parse("");
    running = config;
    assert_int_equal(kg_config_restart_rows(&running, &config, names, sizeof names), 0);
    assert_string_equal(names, "");
    must_parse("sip: { listen: [ \"udp:0.0.0.0:5070\" ] }\nstore: /b\n"
               "media: { ports: 20000-20999, silence_timeout: 5 }\nlog: { level: debug }\n");
    assert_int_equal(kg_config_restart_rows(&running, &config, names, sizeof names), 2);
    assert_string_equal(names, "sip.listen, store");
    assert_int_equal(kg_config_restart_rows(&running, &config, small, sizeof small), 2);
    assert_string_equal(small, "sip.lis");
    kg_config_apply_reloadable(&running, &config);
    assert_int_equal(running.media.port_min, 20000);
    assert_int_equal(running.media.port_max, 20999);
    assert_int_equal(running.media.silence_timeout_ms, 5000);
    assert_string_equal(running.log_level, "debug");
    assert_int_equal(running.sip.listen_count, 3); /* needs the restart */
    assert_string_equal(running.store, "/var/lib/kedge/kedge.db");
    must_parse("pbx: [ udp:192.0.2.1 ]\n"); /* none and some are two ways of serving */
    assert_int_equal(kg_config_restart_rows(&running, &config, names, sizeof names), 1);
    assert_string_equal(names, "pbx");
    kg_config_apply_reloadable(&running, &config);
    assert_int_equal(running.pbx_count, 0);
    running.pbx_count = 1;
    must_parse(
        "pbx: [ udp:192.0.2.1, sip:pbx.example ]\nsip: { listen: [ \"udp:0.0.0.0:5070\" ] }\nstore: /b\n");
    kg_config_apply_reloadable(&running, &config);
    assert_int_equal(running.pbx_count, 2);
    assert_string_equal(running.pbx[1].host, "pbx.example");
    must_parse("dns: { servers: [ 192.0.2.53, \"[2001:db8::53]:5353\" ] }\n");
    assert_int_equal(kg_addr_port(&config.dns.server[0]), 53);
    assert_int_equal(kg_addr_port(&config.dns.server[1]), 5353);
    running.pbx_count = 0;
    must_parse(two_trunks); /* records change as a whole */
    assert_int_equal(kg_config_restart_rows(&running, &config, names, sizeof names), 0);
    kg_config_apply_reloadable(&running, &config);
    assert_int_equal(running.trunk_count, 2);
    assert_string_equal(running.trunk[1].name, "second");
}

/* In front of a PBX kedge does not know who calls: no route may lead phones past it, also between a reload
 * that takes the PBX away and the restart that this needs. */
static void reload_takes_no_routes_of_the_other_way_of_serving(void **state)
{
    static struct kg_config running;
    char names[256];

    (void)state;
    must_parse("pbx: [ udp:192.0.2.1 ]\ntrunks: [ { name: itsp, server: udp:192.0.2.9 } ]\n"
               "routes: [ { from: pbx, to: itsp } ]\n");
    running = config;
    must_parse("trunks: [ { name: itsp, server: udp:192.0.2.10 } ]\nroutes: [ { from: phone, to: itsp } ]\n"
               "numbers: [ { where: to-itsp, match: \"+*\", becomes: \"00*\" } ]\nlog: { level: debug }\n");
    assert_int_equal(kg_config_restart_rows(&running, &config, names, sizeof names), 4);
    assert_string_equal(names, "pbx, trunks, routes, numbers");
    kg_config_apply_reloadable(&running, &config);
    assert_int_equal(running.pbx_count, 1);
    assert_int_equal(running.route_count, 1);
    assert_string_equal(running.route[0].from, "pbx");
    assert_string_equal(running.trunk[0].server[0].host, "192.0.2.9");
    assert_int_equal(running.number_count, 0);
    assert_string_equal(running.log_level, "debug");
}

/* The sample is correct, and says the defaults. Tests run in the root of the project. */
static void sample(void **state)
{
    struct kg_config fresh;
    char names[256];

    (void)state;
    if (kg_config_load("conf/kedge.yaml", &config, &errors) != 0)
        fail_msg("conf/kedge.yaml:%d: %s", errors.item[0].line, errors.item[0].text);
    kg_config_defaults(&fresh);
    kg_config_apply_reloadable(&fresh, &config);
    assert_int_equal(kg_config_restart_rows(&fresh, &config, names, sizeof names), 0);
    assert_int_equal(config.media.port_min, 30000);
    assert_int_not_equal(kg_config_load("/nonexistent/kedge.yaml", &config, &errors), 0);
    assert_int_equal(errors.item[0].line, 0);
    assert_non_null(strstr(errors.item[0].text, "No such file"));
    assert_int_not_equal(kg_config_load("/", &config, &errors), 0);
    assert_non_null(strstr(errors.item[0].text, "directory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(whole_file),
        cmocka_unit_test(tolerant),
        cmocka_unit_test(each_error_has_its_line),
        cmocka_unit_test(records),
        cmocka_unit_test(each_record_error_has_its_line),
        cmocka_unit_test(records_have_a_bound),
        cmocka_unit_test(servers),
        cmocka_unit_test(passwords_from_files),
        cmocka_unit_test(secrets_stay_secret),
        cmocka_unit_test(finds_every_error),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(reload),
        cmocka_unit_test(reload_takes_no_routes_of_the_other_way_of_serving),
        cmocka_unit_test(sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
