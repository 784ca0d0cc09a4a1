/* The engine's certificates over days. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "media/identities.h"

#define DAY_MS 86400000LL

static void test_a_new_one_a_day_and_the_last_are_kept(void **state)
{
    (void)state;
    struct kg_identities identities = {.lifetime_ms = DAY_MS};
    struct kg_fingerprint seen[KG_IDENTITIES_KEPT + 2];
    int64_t now = 5;
    assert_null(kg_identities_fingerprint(&identities));
    for (unsigned day = 0; day < KG_IDENTITIES_KEPT + 2; day++, now += DAY_MS) {
        assert_true(kg_identities_renew(&identities, now));
        assert_false(kg_identities_renew(&identities, now + DAY_MS - 1));
        seen[day] = *kg_identities_fingerprint(&identities);
        assert_int_equal(seen[day].hash, KG_FINGERPRINT_SHA256);
        for (unsigned before = 0; before <= day; before++) {
            struct kg_dtls_identity *found = kg_identities_find(&identities, &seen[before]);
            assert_int_equal(found != NULL, day - before < KG_IDENTITIES_KEPT);
            if (found)
                assert_memory_equal(kg_dtls_identity_fingerprint(found), &seen[before], sizeof seen[before]);
            kg_dtls_identity_unref(found);
            assert_int_equal(before < day && memcmp(&seen[before], &seen[day], sizeof seen[day]) == 0, 0);
        }
    }
    struct kg_dtls_identity *newest =
        kg_identities_find(&identities, &(struct kg_fingerprint){.hash = KG_FINGERPRINT_NONE});
    kg_identities_clear(&identities);
    assert_memory_equal(kg_dtls_identity_fingerprint(newest), &seen[KG_IDENTITIES_KEPT + 1], sizeof *seen);
    kg_dtls_identity_unref(newest); /* legs hold theirs longer */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_one_a_day_and_the_last_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
