/* b2bua/sip: which datagrams to a SIP port get a STUN answer, and which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/sip/stun.h"
#include "conf/bytes.h"
#include "ice/stun/message.h"

#define IP4_UDP 28u /* bytes of headers */
#define IP6_UDP 48u

static const uint8_t id[KG_STUN_ID] = "transaction";
static uint8_t asked[256], answered[KG_SIP_STUN_MAX];
static struct kg_stun_message answer;

static struct kg_addr address(const char *text)
{
    struct kg_addr addr;
    assert_int_equal(kg_addr_parse(text, &addr), 0);
    return addr;
}

/* A message with these attributes, each of four bytes; returns its length. */
static size_t make(enum kg_stun_class class, uint16_t method, const uint16_t *types, size_t count,
                   bool fingerprint)
{
    struct kg_stun_writer w;
    kg_stun_begin(&w, asked, sizeof asked, class, method, id);
    for (size_t i = 0; i < count; i++)
        kg_stun_put(&w, types[i], "\0\0\0\0", 4);
    if (fingerprint)
        kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

static size_t ask(size_t len, const char *source)
{
    struct kg_addr addr = address(source);
    size_t size = kg_sip_stun_answer(asked, len, &addr, answered);
    unsigned headers = kg_addr_family(&addr) == AF_INET6 ? IP6_UDP : IP4_UDP;
    if (size) {
        assert_int_equal(kg_stun_parse(answered, size, &answer), KG_STUN_OK);
        assert_memory_equal(answer.id, id, sizeof id);
        assert_true(size + headers < 2 * (len + headers));
    }
    return size;
}

static void source_is_told(void **state)
{
    static const char *const sources[] = {"192.0.2.7:40000", "[2001:db8::7]:5060"};
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool fingerprint = i & 1;
        struct kg_addr told, source = address(sources[i / 2]);
        assert_true(ask(make(KG_STUN_REQUEST, KG_STUN_BINDING, NULL, 0, fingerprint), sources[i / 2]) > 0);
        assert_int_equal(answer.class, KG_STUN_SUCCESS);
        assert_int_equal(answer.method, KG_STUN_BINDING);
        assert_true(kg_stun_get_address(&answer, KG_STUN_XOR_MAPPED_ADDRESS, &told));
        assert_true(kg_addr_equal(&told, &source));
        assert_int_equal(answer.has_fingerprint, fingerprint);
        assert_int_equal(answer.count, fingerprint ? 2 : 1);
    }
}

static void unknown_is_refused(void **state)
{
    static const uint16_t types[] = {0x7001, 0x9001, KG_STUN_CHANGE_REQUEST, 0x7002};
    const struct kg_stun_value *unknown;
    int code;
    (void)state;
    for (size_t count = 1; count <= 4; count++) {
        assert_true(ask(make(KG_STUN_REQUEST, KG_STUN_BINDING, types, count, false), "192.0.2.7:4000") > 0);
        assert_int_equal(answer.class, KG_STUN_ERROR);
        assert_true(kg_stun_get_error(&answer, &code, NULL, NULL));
        assert_int_equal(code, 420);
        assert_null(kg_stun_find(&answer, KG_STUN_XOR_MAPPED_ADDRESS));
        unknown = kg_stun_find(&answer, KG_STUN_UNKNOWN_ATTRIBUTES);
        assert_non_null(unknown);
        assert_int_equal(unknown->len, count < 3 ? 2 : 2 * (count - 1)); /* 0x9001 may be ignored */
        assert_int_equal(kg_read16(unknown->data), 0x7001);
    }
    /* As many as an answer has room for. */
    uint16_t many[40];
    for (uint16_t i = 0; i < 40; i++)
        many[i] = (uint16_t)(0x7100 + i);
    assert_true(ask(make(KG_STUN_REQUEST, KG_STUN_BINDING, many, 25, true), "[2001:db8::7]:4000") > 0);
    assert_int_equal(kg_stun_find(&answer, KG_STUN_UNKNOWN_ATTRIBUTES)->len, 32);
}

static void others_get_nothing(void **state)
{
    size_t len;
    (void)state;
    assert_int_equal(ask(make(KG_STUN_INDICATION, KG_STUN_BINDING, NULL, 0, false), "192.0.2.7:4000"), 0);
    assert_int_equal(ask(make(KG_STUN_SUCCESS, KG_STUN_BINDING, NULL, 0, false), "192.0.2.7:4000"), 0);
    assert_int_equal(ask(make(KG_STUN_ERROR, KG_STUN_BINDING, NULL, 0, false), "192.0.2.7:4000"), 0);
    assert_int_equal(ask(make(KG_STUN_REQUEST, KG_STUN_ALLOCATE, NULL, 0, false), "192.0.2.7:4000"), 0);
    len = make(KG_STUN_REQUEST, KG_STUN_BINDING, NULL, 0, true);
    for (size_t shorter = 0; shorter < len; shorter++)
        assert_int_equal(ask(shorter, "192.0.2.7:4000"), 0);
    asked[len - 1] ^= 1; /* a wrong fingerprint */
    assert_int_equal(ask(len, "192.0.2.7:4000"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(source_is_told),
        cmocka_unit_test(unknown_is_refused),
        cmocka_unit_test(others_get_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
