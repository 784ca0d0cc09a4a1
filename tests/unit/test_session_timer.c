/* Session timers (RFC 4028): what is agreed in either role, and when what is due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "b2bua/call/session_timer.h"

static const struct kg_session_rules usual = {.offer_s = 1800, .min_s = 90},
                                     passive = {.offer_s = 0, .min_s = 90};

static void assert_answer(const struct kg_session_said asked, const struct kg_session_rules *rules,
                          const char *text)
{
    struct kg_session_timer timer = {0};
    char out[KG_SESSION_TEXT];
    assert_int_equal(kg_session_refusal(&asked, rules), 0);
    kg_session_accept(&timer, &asked, rules, 0);
    assert_int_equal(kg_session_response_text(&timer, out), text[0] != '\0');
    assert_string_equal(out, text);
}

/* RFC 4028 9, table 2. */
static void test_as_uas(void **state)
{
    (void)state;
    assert_answer((struct kg_session_said){.supported = true}, &usual, "1800;refresher=uas");
    assert_answer((struct kg_session_said){0}, &usual, "1800;refresher=uas"); /* the peer need not know */
    assert_answer((struct kg_session_said){.supported = true}, &passive, "");
    assert_answer((struct kg_session_said){.expires_s = 600, .supported = true}, &passive,
                  "600;refresher=uas");
    assert_answer((struct kg_session_said){600, 0, KG_REFRESHER_UAC, true}, &usual, "600;refresher=uac");
    assert_answer((struct kg_session_said){600, 0, KG_REFRESHER_UAS, true}, &usual, "600;refresher=uas");
    /* put there by a proxy: who does not know timers refreshes nothing */
    assert_answer((struct kg_session_said){600, 0, KG_REFRESHER_UAC, false}, &usual, "600;refresher=uas");
    assert_answer((struct kg_session_said){UINT32_MAX, 0, KG_REFRESHER_UAC, true}, &usual,
                  "86400;refresher=uac");
    assert_answer((struct kg_session_said){.min_s = 3600, .supported = true}, &usual, "3600;refresher=uas");
    assert_answer((struct kg_session_said){90, 90, KG_REFRESHER_UNSAID, true}, &usual, "90;refresher=uas");
}

static void test_too_short(void **state)
{
    (void)state;
    struct kg_session_rules strict = {.offer_s = 0, .min_s = 300}, lax = {.min_s = 1};
    struct kg_session_said asked = {.expires_s = 299, .supported = true};
    assert_int_equal(kg_session_refusal(&asked, &strict), 300);
    assert_int_equal(kg_session_refusal(&asked, &usual), 0);
    asked.expires_s = 89;
    assert_int_equal(kg_session_refusal(&asked, &lax), 90); /* RFC 4028 4 */
}

static void assert_result(const struct kg_session_said answer, uint32_t expires_s, bool ours)
{
    struct kg_session_timer timer = {0};
    kg_session_accepted(&timer, &answer, &usual, 1000);
    assert_int_equal(timer.expires_s, expires_s);
    assert_int_equal(timer.ours, ours);
}

static void test_as_uac(void **state)
{
    (void)state;
    struct kg_session_timer timer = {0};
    char out[KG_SESSION_TEXT];
    assert_true(kg_session_request_text(&timer, &usual, out));
    assert_string_equal(out, "1800"); /* who refreshes is for the UAS to say */
    assert_false(kg_session_request_text(&timer, &passive, out));
    assert_result((struct kg_session_said){0}, 0, false);
    assert_result((struct kg_session_said){900, 0, KG_REFRESHER_UAC, true}, 900, true);
    assert_result((struct kg_session_said){900, 0, KG_REFRESHER_UAS, true}, 900, false);
    assert_result((struct kg_session_said){900, 0, KG_REFRESHER_UNSAID, true}, 900, true);
    assert_result((struct kg_session_said){1, 0, KG_REFRESHER_UAC, true}, 90, true);
    /* RFC 4028 7.4: later requests keep the roles, also where nothing is offered of our own */
    kg_session_accepted(&timer, &(struct kg_session_said){900, 0, KG_REFRESHER_UAS, true}, &usual, 0);
    assert_true(kg_session_request_text(&timer, &passive, out));
    assert_string_equal(out, "900;refresher=uas");
    kg_session_accept(&timer, &(struct kg_session_said){600, 0, KG_REFRESHER_UAS, true}, &usual, 0);
    assert_true(kg_session_request_text(&timer, &usual, out));
    assert_string_equal(out, "600;refresher=uac");
}

/* Its Supported does not name timer: it answers, and that is enough. */
static void test_a_peer_without_timers(void **state)
{
    (void)state;
    struct kg_session_timer timer = {0};
    const struct kg_session_said nothing = {0};
    kg_session_accepted(&timer, &nothing, &usual, 0);
    assert_int_equal(timer.expires_s, 0); /* as a UAS it is left alone */
    kg_session_accept(&timer, &nothing, &usual, 0);
    assert_true(timer.ours);
    kg_session_accepted(&timer, &nothing, &usual, 900000);
    assert_int_equal(timer.expires_s, 1800);
    assert_int_equal(kg_session_due_ms(&timer), 1800000);
    /* who refreshed and says so no more has switched it off */
    kg_session_accept(&timer, &(struct kg_session_said){600, 0, KG_REFRESHER_UAC, true}, &usual, 0);
    kg_session_accepted(&timer, &nothing, &usual, 0);
    assert_int_equal(timer.expires_s, 0);
}

static void test_422(void **state)
{
    (void)state;
    struct kg_session_timer timer = {0};
    char out[KG_SESSION_TEXT];
    assert_true(kg_session_raise(&timer, &(struct kg_session_said){.min_s = 3600}, &usual));
    assert_true(kg_session_request_text(&timer, &usual, out));
    assert_string_equal(out, "3600");
    /* nothing that another try would help */
    assert_false(kg_session_raise(&timer, &(struct kg_session_said){.min_s = 3600}, &usual));
    assert_false(kg_session_raise(&timer, &(struct kg_session_said){.min_s = 0}, &usual));
    assert_false(kg_session_raise(&timer, &(struct kg_session_said){.min_s = UINT32_MAX}, &usual));
    /* one that never has enough */
    unsigned times = 1;
    while (times < 100 && kg_session_raise(&timer, &(struct kg_session_said){.min_s = 3600 + times}, &usual))
        times++;
    assert_int_equal(times, KG_SESSION_RAISES_MAX);
}

static void test_ours(void **state)
{
    (void)state;
    struct kg_session_timer timer = {0};
    assert_true(kg_session_due_ms(&timer) == INT64_MAX);
    assert_int_equal(kg_session_step(&timer, INT64_MAX - 1), KG_SESSION_WAIT);
    kg_session_accepted(&timer, &(struct kg_session_said){1800, 0, KG_REFRESHER_UAC, true}, &usual, 5000);
    assert_int_equal(kg_session_due_ms(&timer), 905000);
    assert_int_equal(kg_session_step(&timer, 904999), KG_SESSION_WAIT);
    assert_int_equal(kg_session_step(&timer, 905000), KG_SESSION_REFRESH);
    assert_int_equal(kg_session_step(&timer, 905001), KG_SESSION_WAIT); /* it is under way */
    assert_int_equal(kg_session_due_ms(&timer), 965000);
    assert_int_equal(kg_session_step(&timer, 965000), KG_SESSION_REFRESH);
    assert_int_equal(kg_session_end_ms(&timer), 1773000); /* 32 s before */
    assert_int_equal(kg_session_step(&timer, 1773000), KG_SESSION_EXPIRED);
    kg_session_accepted(&timer, &(struct kg_session_said){1800, 0, KG_REFRESHER_UAC, true}, &usual, 966000);
    assert_int_equal(kg_session_due_ms(&timer), 1866000);
}

static void test_the_peers(void **state)
{
    (void)state;
    struct kg_session_timer timer = {0};
    kg_session_accept(&timer, &(struct kg_session_said){90, 0, KG_REFRESHER_UAC, true}, &usual, 0);
    assert_int_equal(kg_session_due_ms(&timer), 60000); /* a third before */
    assert_int_equal(kg_session_step(&timer, 59999), KG_SESSION_WAIT);
    assert_int_equal(kg_session_step(&timer, 60000), KG_SESSION_EXPIRED);
}

/* The shortest of all: several tries before the end. */
static void test_tries(void **state)
{
    (void)state;
    struct kg_session_timer timer = {0};
    unsigned tries = 0;
    kg_session_accept(&timer, &(struct kg_session_said){90, 0, KG_REFRESHER_UAS, true}, &usual, 0);
    for (int64_t now = 0; kg_session_step(&timer, now) != KG_SESSION_EXPIRED; now = kg_session_due_ms(&timer))
        tries += now > 0;
    assert_int_equal(tries, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_uas),    cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_as_uac),    cmocka_unit_test(test_a_peer_without_timers),
        cmocka_unit_test(test_422),       cmocka_unit_test(test_ours),
        cmocka_unit_test(test_the_peers), cmocka_unit_test(test_tries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
