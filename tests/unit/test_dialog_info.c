/* b2bua/request/dialog_info.h: bodies of pick-up lamps (RFC 4235). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2bua/request/dialog_info.h"

/* kedge's dialog "pbx-id" is the phone's "phone-id"; who is at kedge's address is called by his name. */
static bool translate(void *ctx, struct kg_dialog_info_id *id)
{
    ++*(int *)ctx;
    if (strcmp(id->call_id, "pbx-id") != 0)
        return false;
    snprintf(id->call_id, sizeof id->call_id, "phone-id");
    snprintf(id->local_tag, sizeof id->local_tag, "<l&\"'>");
    snprintf(id->remote_tag, sizeof id->remote_tag, "r2");
    return true;
}

static bool name_target(void *ctx, const char *uri, const char *name, char *out, size_t size)
{
    (void)ctx;
    if (!strstr(uri, "@kedge") || !name[0])
        return false;
    snprintf(out, size, "%s", name);
    return true;
}

static void expect(const char *in, const char *wanted)
{
    int dialogs = 0;
    const struct kg_dialog_info_words words = {&dialogs, translate, name_target};
    size_t len = 0;
    char *out = kg_dialog_info_rewrite(in, strlen(in), &words, &len);
    if (!wanted) {
        assert_null(out);
        return;
    }
    assert_non_null(out);
    assert_int_equal(len, strlen(out));
    assert_string_equal(out, wanted);
    free(out);
}

/* As Kamailio's pua_dialoginfo writes it. Every byte that need not change stays. */
static void as_a_pbx_writes_it(void **state)
{
    (void)state;
#define DOCUMENT(CALL_ID, LOCAL, REMOTE, TARGET)                                                             \
    "<?xml version=\"1.0\"?>\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" "                    \
    "version=\"00000000\" "                                                                                  \
    "state=\"full\" entity=\"sip:bob@pbx.test\">\r\n  <dialog id=\"a&amp;b\" call-id=\"" CALL_ID             \
    "\"\n local-tag = '" LOCAL "' remote-tag=\"" REMOTE "\" direction=\"recipient\">\n    "                  \
    "<state>early</state><!-- call-id=\"pbx-id\" -->\n    <remote>\n      <identity display='A'> "           \
    "sip:alice@pbx.test </identity>\n      <target uri=\"" TARGET "\"/>\n    </remote>\n  </dialog>\n"       \
    "</dialog-info>\n"
    expect(DOCUMENT("pbx-id", "l1", "r1", "sip:call@kedge:5060"),
           DOCUMENT("phone-id", "&lt;l&amp;&quot;&apos;&gt;", "r2", "sip:alice@pbx.test"));
    expect(DOCUMENT("other", "l1", "r1", "sip:alice@192.0.2.7"), NULL);
}

static void odd_but_good(void **state)
{
    (void)state;
    /* a prefix; order of attributes; a target before its identity; attributes that only look alike */
    expect("<d:dialog-info xmlns:d='x'><d:dialog x-call-id='pbx-id' remote-tag='r' call-id='pbx-id'>"
           "<d:local><d:target uri='sip:x@kedge'/><d:identity>sip:bob@h</d:identity></d:local></d:dialog>"
           "</d:dialog-info>",
           "<d:dialog-info xmlns:d='x'><d:dialog x-call-id='pbx-id' remote-tag='r2' call-id='phone-id'>"
           "<d:local><d:target uri='sip:bob@h'/><d:identity>sip:bob@h</d:identity></d:local></d:dialog>"
           "</d:dialog-info>");
    /* no tags yet: none are made up */
    expect("<dialog-info><dialog call-id='pbx-id'/></dialog-info>",
           "<dialog-info><dialog call-id='phone-id'/></dialog-info>");
    /* several */
    expect("<dialog-info><dialog call-id='1'/><dialog call-id='pbx-id'/><dialog "
           "call-id='pbx-id'/></dialog-info>",
           "<dialog-info><dialog call-id='1'/><dialog call-id='phone-id'/><dialog "
           "call-id='phone-id'/></dialog-info>");
    /* a value with references in it */
    expect("<dialog-info><dialog call-id='pbx&#45;id'/></dialog-info>",
           "<dialog-info><dialog call-id='phone-id'/></dialog-info>");
    expect("<dialog-info/>", NULL);
}

static void what_is_not_understood_passes(void **state)
{
    (void)state;
    expect("", NULL);
    expect("<dialog-info><dialog call-id='pbx-id'/>", NULL);
    expect("<dialog-info><dialog call-id='pbx-id' call-id='x'/></dialog-info>", NULL);
    expect("<presence><dialog call-id='pbx-id'/></presence>", NULL);
    expect("<!DOCTYPE d [<!ENTITY a 'pbx-id'>]><dialog-info><dialog call-id='&a;'/></dialog-info>", NULL);
    expect("<!DOCTYPE d SYSTEM 'file:///etc/passwd'><dialog-info><dialog call-id='pbx-id'/></dialog-info>",
           NULL);
    expect("<dialog-info><dialog call-id='\xff'/></dialog-info>", NULL);
    expect("<dialog-info><x><dialog call-id='pbx-id'/></x></dialog-info>", NULL);
    expect("<dialog-info><dialog call-id='pbx-id'/>"
           "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a></a></a></a></"
           "a></a></a></a>"
           "</dialog-info>",
           NULL);
}

static void long_ones(void **state)
{
    (void)state;
    char text[2048], id[300];
    memset(id, 'x', sizeof id - 1);
    id[sizeof id - 1] = '\0';
    snprintf(text, sizeof text, "<dialog-info><dialog call-id='pbx-id' local-tag='%s'/></dialog-info>", id);
    expect(text, NULL);
    /* an identity that is longer than any URI of ours is cut, and never overruns */
    snprintf(
        text, sizeof text,
        "<dialog-info><dialog><local><identity>%s%s%s</identity><target uri='sip:x@kedge'/></local></dialog>"
        "</dialog-info>",
        id, id, id);
    const struct kg_dialog_info_words words = {&(int){0}, translate, name_target};
    size_t len;
    char *out = kg_dialog_info_rewrite(text, strlen(text), &words, &len);
    assert_non_null(out);
    assert_true(len < sizeof text);
    free(out);
}

/* More dialogs than places to change: all or nothing. */
static void too_many(void **state)
{
    (void)state;
    static char text[65536];
    size_t used = (size_t)snprintf(text, sizeof text, "<dialog-info>");
    for (int i = 0; i < 1100; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "<dialog call-id='pbx-id'/>");
    snprintf(text + used, sizeof text - used, "</dialog-info>");
    expect(text, NULL);
}

/* A list of lamps, as a resource list server sends it. */
static void lists(void **state)
{
    (void)state;
    int dialogs = 0;
    const struct kg_dialog_info_words words = {&dialogs, translate, name_target};
#define LIST(ID, ENCODED)                                                                                    \
    "preamble --b!\r\n--b!\r\nContent-Type: application/rlmi+xml\r\n\r\n<list><dialog "                      \
    "call-id='pbx-id'/></list>\r\n"                                                                          \
    "--b!\r\ncontent-type:\tApplication/dialog-info+xml;charset=\"UTF-8\"\r\nContent-ID: <1>\r\n\r\n"        \
    "<dialog-info>\r\n<dialog call-id='" ID "'/></dialog-info>\r\n--b!\r\n"                                  \
    "Content-Type: application/dialog-info+xml\r\nContent-Length: 3\r\n\r\n"                                 \
    "<dialog-info><dialog call-id='" ENCODED "'/></dialog-info>\r\n--b!--\r\n"
    static const char in[] = LIST("pbx-id", "pbx-id"), wanted[] = LIST("phone-id", "pbx-id");
    size_t len;
    char *out = kg_dialog_info_rewrite_parts(in, sizeof in - 1, "b!", &words, &len);
    assert_non_null(out);
    assert_string_equal(out, wanted);
    assert_int_equal(len, sizeof wanted - 1);
    free(out);
    assert_null(kg_dialog_info_rewrite_parts(in, sizeof in - 1, "c", &words, &len));
    assert_null(kg_dialog_info_rewrite_parts(in, sizeof in - 1, "", &words, &len));
    /* cut anywhere, it is left alone or changed in what is whole */
    for (size_t cut = 0; cut < sizeof in - 1; cut++) {
        char *exact = malloc(cut ? cut : 1);
        assert_non_null(exact);
        memcpy(exact, in, cut);
        free(kg_dialog_info_rewrite_parts(exact, cut, "b!", &words, &len));
        free(exact);
    }
}

/* What kedge writes can be read, and its own reader finds every text in it. */
static bool check_first(void *ctx, struct kg_dialog_info_id *id)
{
    if (++*(int *)ctx > 1) /* the second has no names */
        return false;
    assert_string_equal(id->call_id, "a&b<c>\"d");
    assert_string_equal(id->local_tag, "l");
    assert_string_equal(id->remote_tag, "");
    snprintf(id->call_id, sizeof id->call_id, "pbx-id");
    return true;
}

static void what_kedge_writes(void **state)
{
    (void)state;
    char calls[1024] = "", out[2048], small[64] = "";
    struct kg_dialog_info_entry entry = {.id = "c1",
                                         .state = "early",
                                         .local = "sip:bob@h",
                                         .remote = "sip:\xff\r\nalice@kedge",
                                         .named = true,
                                         .dialog = {"a&b<c>\"d", "l", ""}};
    size_t used = kg_dialog_info_append(calls, sizeof calls, 0, &entry);
    assert_true(used > 0 && used == strlen(calls));
    assert_non_null(strstr(calls, "<identity>sip:???alice@kedge</identity>"));
    entry.named = false;
    used = kg_dialog_info_append(calls, sizeof calls, used, &entry);
    size_t len = kg_dialog_info_document(out, sizeof out, "sip:bob@h", 7, "bob", calls), again_len;
    assert_true(len > used && len == strlen(out));
    int dialogs = 0;
    const struct kg_dialog_info_words words = {&dialogs, check_first, name_target};
    char *again = kg_dialog_info_rewrite(out, len, &words, &again_len);
    assert_non_null(again);
    assert_int_equal(dialogs, 2);
    assert_non_null(strstr(again, "call-id=\"pbx-id\""));
    assert_non_null(strstr(again, "<target uri=\"sip:???alice@kedge\"/>"));
    free(again);
    /* what does not fit leaves the rest as it was */
    assert_int_equal(kg_dialog_info_append(small, sizeof small, 0, &entry), 0);
    assert_string_equal(small, "");
    assert_int_equal(kg_dialog_info_document(small, sizeof small, "sip:bob@h", 7, "bob", calls), 0);
    assert_true(kg_dialog_info_document(out, sizeof out, "sip:bob@h", 8, "bob", "") > 0);
    assert_non_null(strstr(out, "<dialog id=\"bob\"><state>terminated</state></dialog>"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_a_pbx_writes_it),
                                       cmocka_unit_test(odd_but_good),
                                       cmocka_unit_test(what_is_not_understood_passes),
                                       cmocka_unit_test(long_ones),
                                       cmocka_unit_test(too_many),
                                       cmocka_unit_test(what_kedge_writes),
                                       cmocka_unit_test(lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
