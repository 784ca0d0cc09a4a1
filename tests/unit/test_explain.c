/* What is said of a call (explain, JSON), and the notes that snapshots are made of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "b2bua/call/notes.h"
#include "b2bua/call/record.h"

static struct kg_addr addr(const char *text)
{
    struct kg_addr out = {0};
    assert_int_equal(kg_addr_parse(text, &out), 0);
    return out;
}

/* ---- explain ---- */

static struct kg_record *record(void)
{
    struct kg_record *r = kg_record_new("0123456789abcdef");
    r->from = strdup("sip:alice@example.org");
    r->to = strdup("sip:bob@example.org");
    r->started_ms = 1700000000000;
    r->path = "anchored";
    r->reason = "neither side offered ICE";
    r->leg[KG_SIDE_A] =
        (struct kg_record_leg){.user = strdup("alice"),
                               .call_id = strdup("a@b"),
                               .remote = addr("203.0.113.5:5060"),
                               .nat = true,
                               .nat_reasons = strdup("Contact says 10.0.0.5\nSDP says 10.0.0.5")};
    r->leg[KG_SIDE_B] = (struct kg_record_leg){.user = strdup("bob"), .remote = addr("198.51.100.7:5060")};
    return r;
}

static void set_media(struct kg_record *r, struct kg_media_stats a, struct kg_media_stats b)
{
    struct kg_media_session_info info = {.stream_count = 1};
    memcpy(a.kind, "audio", 6);
    memcpy(b.kind, "audio", 6);
    a.local = addr("192.0.2.1:30000");
    b.local = addr("192.0.2.1:30002");
    info.stats[KG_SIDE_A][0] = a;
    info.stats[KG_SIDE_B][0] = b;
    kg_record_set_stats(r, &info);
}

static bool says(const json_t *list, const char *part)
{
    size_t i;
    json_t *line;
    json_array_foreach(list, i, line)
    {
        if (strstr(json_string_value(line), part))
            return true;
    }
    return false;
}

static void assert_says(struct kg_record *r, const char *part)
{
    json_t *list = kg_record_explain(r, "talk");
    if (!says(list, part)) {
        char *text = json_dumps(list, JSON_INDENT(1));
        fail_msg("\"%s\" is not in %s", part, text);
    }
    json_decref(list);
}

static void assert_says_not(struct kg_record *r, const char *part)
{
    json_t *list = kg_record_explain(r, "talk");
    if (says(list, part))
        fail_msg("\"%s\" is said", part);
    json_decref(list);
}

static void test_explains_a_good_call(void **state)
{
    (void)state;
    struct kg_record *r = record();
    r->answered_ms = r->started_ms + 2500;
    set_media(r,
              (struct kg_media_stats){.packets_in = 100,
                                      .packets_out = 90,
                                      .proof = KG_PROOF_SAME_ADDRESS,
                                      .remote = addr("203.0.113.5:4000")},
              (struct kg_media_stats){.packets_in = 90,
                                      .packets_out = 100,
                                      .proof = KG_PROOF_SDP,
                                      .remote = addr("198.51.100.7:4000")});
    assert_says(r, "alice called bob");
    assert_says(r, "alice is a phone at 203.0.113.5:5060, signalling over udp, behind a NAT");
    assert_says(r, "SDP says 10.0.0.5");
    assert_says(r, "Media is anchored: neither side offered ICE.");
    assert_says(r, "bob hears alice: 100 audio packets");
    assert_says(r, "alice hears bob: 90 audio packets");
    assert_says(r, "proven by packets from exactly the address in its SDP");
    r->ended_ms = r->answered_ms + 60000;
    r->why = "the caller hung up";
    assert_says(r, "answered after 2.5 s and lasted 60.0 s; it ended because the caller hung up");
    kg_record_free(r);
}

static void test_explains_one_way_audio(void **state)
{
    (void)state;
    struct kg_record *r = record();
    r->answered_ms = r->started_ms + 1;
    set_media(r, (struct kg_media_stats){.packets_in = 100}, (struct kg_media_stats){.packets_in = 0});
    assert_says(r, "alice does not hear bob because no packet arrived from bob's phone at 192.0.2.1:30002");
    assert_says(
        r, "bob does not hear alice: packets arrive from alice, but kedge does not know yet where to send");
    set_media(r, (struct kg_media_stats){.packets_in = 100, .packets_out = 100},
              (struct kg_media_stats){.dropped = 7});
    assert_says(r, "7 packets reached 192.0.2.1:30002, but from addresses that neither bob's SDP nor");
    set_media(r, (struct kg_media_stats){.packets_in = 100, .packets_out = 10, .last_packet_ms_ago = 42000},
              (struct kg_media_stats){.packets_in = 10, .packets_out = 100});
    assert_says(r, "bob hears nothing from alice at the moment: the last packet came 42 s ago");
    set_media(r, (struct kg_media_stats){.packets_in = 100},
              (struct kg_media_stats){.packets_in = 10, .packets_out = 50, .ice_use = KG_ICE_STEER});
    assert_says(r, "bob hears nothing from alice at the moment: bob's phone answers no more ICE checks");
    kg_record_free(r);
}

/* ---- explain: ICE ---- */

static void test_explains_missing_keys(void **state)
{
    (void)state;
    struct kg_record *r = record();
    r->answered_ms = r->started_ms + 1;
    set_media(r, (struct kg_media_stats){.dropped = 90, .proof = KG_PROOF_ICE},
              (struct kg_media_stats){.packets_in = 80, .proof = KG_PROOF_SDP});
    r->leg[KG_SIDE_A].secure = KG_SECURE_DTLS;
    assert_says(r, "90 packets reached 192.0.2.1:30000, but kedge and alice have agreed on no keys");
    assert_says(r, "packets arrive from bob, but kedge and alice have agreed on no keys");
    assert_says_not(r, "vouches for");
    assert_says_not(r, "behind its NAT (");
    r->stats[KG_SIDE_A][0].suite = KG_SRTP_AEAD_AES_256_GCM;
    assert_says(r, "vouches for");
    kg_record_free(r);
}

static void name_candidate(struct kg_record *r, enum kg_side side, enum kg_candidate_type type,
                           const char *text)
{
    struct kg_record_leg *leg = &r->leg[side];
    leg->candidate = realloc(leg->candidate, (leg->candidate_count + 1u) * sizeof *leg->candidate);
    leg->candidate[leg->candidate_count++] =
        (struct kg_record_candidate){.type = (uint8_t)type, .component = 1, .addr = addr(text)};
}

static struct kg_media_pair seen(enum kg_side side, const char *local, const char *remote,
                                 enum kg_pair_state state)
{
    return (struct kg_media_pair){.side = side,
                                  .pair = {.component = 1,
                                           .state = (uint8_t)state,
                                           .rtt_ms = -1,
                                           .won_ms = -1,
                                           .local = {.addr = addr(local)},
                                           .remote = {.type = KG_CANDIDATE_PRFLX, .addr = addr(remote)}}};
}

/* Two ICE phones whose call is steered; the engine reports these pairs. */
static struct kg_record *steered(const char *path, struct kg_media_pair a, struct kg_media_pair b)
{
    struct kg_record *r = record();
    struct kg_media_pair pair[] = {a, b};
    struct kg_media_session_info info = {.stream_count = 1, .pair = pair, .pair_count = 2};
    for (int side = 0; side < 2; side++) {
        struct kg_media_stats *stats = &info.stats[side][0];
        memcpy(stats->kind, "audio", 6);
        stats->local = addr(side ? "192.0.2.1:30002" : "192.0.2.1:30000");
        stats->remote = (side ? b : a).pair.remote.addr;
        stats->ice_use = KG_ICE_STEER;
        stats->ice_connected_ms = -1;
    }
    r->answered_ms = r->started_ms + 1000;
    r->path = path;
    r->reason = "both phones do ICE";
    name_candidate(r, KG_SIDE_A, KG_CANDIDATE_HOST, "192.168.1.5:5000");
    name_candidate(r, KG_SIDE_A, KG_CANDIDATE_SRFLX, "203.0.113.5:40000");
    name_candidate(r, KG_SIDE_B, KG_CANDIDATE_HOST, "10.0.0.7:6000");
    name_candidate(r, KG_SIDE_B, KG_CANDIDATE_SRFLX, "198.51.100.7:41000");
    kg_record_set_stats(r, &info);
    return r;
}

static void test_explains_a_direct_call(void **state)
{
    (void)state;
    struct kg_record *r =
        steered("direct", seen(KG_SIDE_A, "192.0.2.1:30000", "203.0.113.5:40000", KG_PAIR_SUCCEEDED),
                seen(KG_SIDE_B, "192.0.2.1:30002", "198.51.100.7:41000", KG_PAIR_FAILED));
    assert_says(r, "alice's phone does ICE and can be reached at: 192.168.1.5:5000 (its own address), "
                   "203.0.113.5:40000 (as a STUN server sees it).");
    assert_says(r, "alice's NAT gives a phone the same port towards everybody (cone)");
    assert_says(
        r,
        "Between kedge's 192.0.2.1:30000 and alice's 203.0.113.5:40000 (as a STUN server sees it): works.");
    assert_says(r, "bob's 198.51.100.7:41000 (as a STUN server sees it): does not work (no answer).");
    assert_says(r, "Which pair the phones selected is not known here");
    assert_says(
        r, "Who hears whom, and since when, is not known here: the audio of this call does not pass kedge.");
    assert_says_not(r, "does not hear");
    assert_says_not(r, "None better");
    r->stats[KG_SIDE_A][0].remote = (struct kg_addr){0}; /* its consent expired */
    assert_says(r, "alice's 203.0.113.5:40000 (as a STUN server sees it): has worked, is not in use now.");
    r->told[KG_SIDE_A] = addr("203.0.113.5:40000");
    r->told[KG_SIDE_B] = addr("198.51.100.7:41000");
    assert_says(r, "told kedge which pair the phones selected: alice's 203.0.113.5:40000 and bob's "
                   "198.51.100.7:41000.");
    assert_says_not(r, "is not known here: they check");
    kg_record_free(r);
}

static void test_explains_why_none_better(void **state)
{
    (void)state;
    struct kg_media_pair cone[] = {
        seen(KG_SIDE_A, "192.0.2.1:30000", "203.0.113.5:40000", KG_PAIR_SUCCEEDED),
        seen(KG_SIDE_B, "192.0.2.1:30002", "198.51.100.7:41000", KG_PAIR_SUCCEEDED)};
    struct kg_media_pair each[] = {
        seen(KG_SIDE_A, "192.0.2.1:30000", "203.0.113.5:51111", KG_PAIR_SUCCEEDED),
        seen(KG_SIDE_B, "192.0.2.1:30002", "198.51.100.7:52222", KG_PAIR_SUCCEEDED)};
    struct kg_record *r = steered("relayed by kedge", each[0], each[1]);
    assert_says(r, "alice's NAT gives each destination a port of its own (symmetric)");
    assert_says(r, "None better: both are behind NATs that give each destination its own port (symmetric)");
    kg_record_free(r);
    r = steered("relayed by kedge", cone[0], each[1]);
    assert_says(
        r,
        "None better: bob is behind a NAT that gives each destination its own port (symmetric), and what is "
        "in front of alice lets in only");
    kg_record_free(r);
    r = steered("relayed by kedge", cone[0], cone[1]);
    assert_says(r, "None better: the checks between the phones themselves do not pass kedge");
    r->leg[KG_SIDE_B].candidate_count = 1; /* no STUN server */
    assert_says(r, "None better: bob's phone names only addresses of its own network");
    r->leg[KG_SIDE_A].candidate_count = 1;
    assert_says(r, "None better: both phones name only addresses of their own networks");
    r->leg[KG_SIDE_B].candidate[0].addr = addr("[2001:db8::7]:6000");
    assert_says(r, "None better: one phone has only IPv4 addresses, the other only IPv6 ones.");
    kg_record_free(r);
}

static void test_knows_mappings(void **state)
{
    (void)state;
    struct kg_record *r =
        steered("direct", seen(KG_SIDE_A, "192.0.2.1:30000", "192.168.1.5:5000", KG_PAIR_SUCCEEDED),
                seen(KG_SIDE_B, "192.0.2.1:30002", "198.51.100.99:1", KG_PAIR_SUCCEEDED));
    assert_int_equal(kg_record_mapping(r, KG_SIDE_A), KG_MAPPING_NONE);
    assert_int_equal(kg_record_mapping(r, KG_SIDE_B),
                     KG_MAPPING_UNKNOWN); /* another host: nothing can be said */
    assert_says(r, "alice's packets come from its own address: no NAT changes it.");
    kg_record_free(r);
}

static void test_explains_what_was_left_out(void **state)
{
    (void)state;
    struct kg_record *r = record();
    r->leg[KG_SIDE_A].unused[0] = (struct kg_record_unused){"it is not for UDP", 2};
    r->leg[KG_SIDE_A].unused[1] = (struct kg_record_unused){"its name ends with .local", 1};
    r->leg[KG_SIDE_A].pruned = 3;
    r->leg[KG_SIDE_A].useless = 5;
    assert_says(r, "2 of alice's candidates were not told to bob, who is in another network");
    assert_says(r, "2 of alice's candidates were not used: it is not for UDP.");
    assert_says(r, "1 of alice's candidates was not used: its name ends with .local.");
    assert_says(r, "3 of alice's candidates were left out of what bob was told");
    r->leg[KG_SIDE_B].too_big = true;
    assert_says(r, "What alice was told of bob does not fit into a datagram");
    assert_says_not(r, "does ICE, but not in this call");
    r->leg[KG_SIDE_B].ice_problem = "a=ice-ufrag or a=ice-pwd is missing";
    assert_says(r, "bob's phone does ICE, but not in this call: a=ice-ufrag or a=ice-pwd is missing.");
    kg_record_free(r);
}

static void test_tells_what_happened_later(void **state)
{
    (void)state;
    struct kg_record *r = record();
    struct kg_addr to = addr("198.18.0.9:7000");
    set_media(r,
              (struct kg_media_stats){.packets_in = 5,
                                      .first_packet_ms = 321,
                                      .ice_use = KG_ICE_AGENT,
                                      .ice_connected_ms = 210,
                                      .moves = 2,
                                      .move_gap_ms = 480},
              (struct kg_media_stats){.first_packet_ms = -1});
    assert_says(r, "From the INVITE to a first working pair with alice: 210 ms.");
    assert_says(r, "From the INVITE to the first media of alice: 321 ms.");
    assert_says_not(r, "first media of bob");
    for (int note = 0; note < KG_NOTE_COUNT; note++) /* each has words */
        kg_record_note(r, (enum kg_note)note, KG_SIDE_B, note == KG_NOTE_MOVED ? &to : NULL);
    assert_says(r, "bob's phone moved; its SIP came from another address: 198.18.0.9:7000.");
    assert_says(r, "bob's phone stopped answering kedge's consent checks.");
    assert_says(r, "kedge restarted ICE with bob.");
    assert_says(r, "the phones' path was given up for bob's sake");
    assert_says(r, "the media process went away; its successor counts anew.");
    assert_says_not(r, "From the INVITE to"); /* the new one does not know when that was */
    assert_says(
        r,
        "alice's media moved 2 times; before it was believed the last time, nothing was heard for 480 ms.");
    for (int i = 0; i < 100; i++)
        kg_record_note(r, KG_NOTE_RELAYED, KG_SIDE_A, NULL);
    kg_record_note(r, KG_NOTE_NO_PATH, KG_SIDE_A, NULL);
    assert_int_equal(r->event_count, KG_RECORD_EVENTS_MAX);
    assert_int_equal(r->events_lost, KG_NOTE_COUNT + 101 - KG_RECORD_EVENTS_MAX);
    assert_says(r, "ICE between kedge and bob was connected."); /* how it began */
    assert_says(r, "more things of this kind happened.");
    assert_says(r, "no path to alice was left."); /* how it ended */
    kg_record_free(r);
}

/* Sentences and data are of one source: what explain says is in the JSON too. */
static void test_json_of_ice(void **state)
{
    (void)state;
    struct kg_record *r = steered(
        "relayed by kedge", seen(KG_SIDE_A, "192.0.2.1:30000", "203.0.113.5:51111", KG_PAIR_SUCCEEDED),
        seen(KG_SIDE_B, "192.0.2.1:30002", "198.51.100.7:41000", KG_PAIR_IN_PROGRESS));
    kg_record_note(r, KG_NOTE_RELAYED, KG_SIDE_A, NULL);
    r->leg[KG_SIDE_A].unused[0] = (struct kg_record_unused){"it is not for UDP", 2};
    json_t *json = kg_record_json(r, "talk");
    json_t *leg = json_array_get(json_object_get(json, "legs"), 0);
    assert_string_equal(json_string_value(json_object_get(leg, "nat_mapping")), "symmetric");
    assert_int_equal(json_array_size(json_object_get(leg, "candidates")), 2);
    assert_int_equal(json_array_size(json_object_get(leg, "unused")), 1);
    json_t *pair = json_array_get(json_object_get(json, "pairs"), 0);
    assert_string_equal(json_string_value(json_object_get(pair, "remote")), "203.0.113.5:51111");
    assert_string_equal(json_string_value(json_object_get(pair, "side")), "caller");
    assert_true(json_is_null(json_object_get(pair, "rtt_ms")));
    json_t *event = json_array_get(json_object_get(json, "events"), 0);
    assert_string_equal(json_string_value(json_object_get(event, "what")), "relayed");
    assert_true(json_is_null(json_object_get(json, "selected_by_phones")));
    json_t *medium = json_array_get(json_object_get(leg, "media"), 0);
    assert_string_equal(json_string_value(json_object_get(medium, "ice")), "steer");
    json_decref(json);
    kg_record_free(r);
}

static void test_explains_failures(void **state)
{
    (void)state;
    struct kg_record *r = record();
    r->ended_ms = r->started_ms + 100;
    r->status = 486;
    assert_says(r, "It failed: the callee's side answered 486.");
    r->why = "the caller hung up before the answer";
    assert_says(r, "It failed with status 486: the caller hung up before the answer.");
    free(r->leg[KG_SIDE_A].user);
    r->leg[KG_SIDE_A].user = strdup("al\xff"
                                    "ice"); /* not UTF-8 */
    assert_says(r, "al?ice called bob");
    kg_record_free(r);
}

static void test_json_has_what_scripts_need(void **state)
{
    (void)state;
    struct kg_record *r = record();
    set_media(r, (struct kg_media_stats){.packets_in = 3, .rtt_ms = -1}, (struct kg_media_stats){.mos = 4.4});
    json_t *json = kg_record_json(r, "talk");
    static const char *const call_keys[] = {"id", "state", "from", "to", "started", "path", "reason", "legs"};
    static const char *const leg_keys[] = {"user", "call_id", "transport", "remote", "nat", "media"};
    static const char *const medium_keys[] = {"kind",      "local",      "remote",      "proof",
                                              "codec",     "packets_in", "packets_out", "bytes_in",
                                              "bytes_out", "lost",       "jitter_ms",   "mos"};
    json_t *leg = json_array_get(json_object_get(json, "legs"), 0);
    json_t *medium = json_array_get(json_object_get(leg, "media"), 0);
    for (size_t i = 0; i < sizeof call_keys / sizeof call_keys[0]; i++)
        assert_non_null(json_object_get(json, call_keys[i]));
    for (size_t i = 0; i < sizeof leg_keys / sizeof leg_keys[0]; i++)
        assert_non_null(json_object_get(leg, leg_keys[i]));
    for (size_t i = 0; i < sizeof medium_keys / sizeof medium_keys[0]; i++)
        assert_non_null(json_object_get(medium, medium_keys[i]));
    assert_string_equal(json_string_value(json_object_get(json, "started")), "2023-11-14T22:13:20.000Z");
    assert_int_equal(json_integer_value(json_object_get(medium, "packets_in")), 3);
    assert_int_equal(json_array_size(json_object_get(leg, "nat_reasons")), 2);
    json_decref(json);
    kg_record_free(r);
}

/* ---- notes ---- */

static void test_notes_keep_any_text(void **state)
{
    (void)state;
    char buf[256];
    struct kg_notes notes = {.buf = buf, .size = sizeof buf};
    kg_notes_put(&notes, "sdp", "v=0\r\nsdp 3\nabc\n");
    kg_notes_put(&notes, "none", NULL);
    kg_notes_put(&notes, "empty", "");
    kg_notes_put_number(&notes, "zero", 0); /* as good as absent */
    notes.prefix = 'a';
    kg_notes_put_number(&notes, "n", UINT64_MAX);
    assert_false(notes.full);
    char *sdp = kg_notes_get(buf, notes.len, "sdp"), *empty = kg_notes_get(buf, notes.len, "empty");
    assert_string_equal(sdp, "v=0\r\nsdp 3\nabc\n");
    assert_string_equal(empty, "");
    assert_null(kg_notes_get(buf, notes.len, "none"));
    assert_null(kg_notes_get(buf, notes.len, "sd"));
    assert_null(kg_notes_get(buf, notes.len, "n"));
    assert_true(kg_notes_get_number(buf, notes.len, "a.n") == UINT64_MAX);
    assert_null(kg_notes_get(buf, notes.len, "zero"));
    free(sdp);
    free(empty);
}

static void test_notes_that_do_not_fit(void **state)
{
    (void)state;
    char buf[8];
    struct kg_notes notes = {.buf = buf, .size = sizeof buf};
    kg_notes_put(&notes, "a", "bc"); /* "a 2\nbc\n": 7 bytes */
    assert_false(notes.full);
    kg_notes_put(&notes, "d", "");
    assert_true(notes.full);
    assert_int_equal(notes.len, 7);
}

static void test_damaged_notes(void **state)
{
    (void)state;
    static const char *const text[] = {"",          "a",         "a ",
                                       "a 1",       "a 1\n",     "a 9\nbc\n",
                                       "a x\nb\n",  "a -1\nb\n", "a 18446744073709551615\nb\n",
                                       "a 1\nbc\n", "\n\n",      "a 99999999999999999999\n"};
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
        assert_null(kg_notes_get(text[i], strlen(text[i]), "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_explains_a_good_call),
        cmocka_unit_test(test_explains_one_way_audio),
        cmocka_unit_test(test_explains_missing_keys),
        cmocka_unit_test(test_explains_a_direct_call),
        cmocka_unit_test(test_explains_why_none_better),
        cmocka_unit_test(test_knows_mappings),
        cmocka_unit_test(test_explains_what_was_left_out),
        cmocka_unit_test(test_tells_what_happened_later),
        cmocka_unit_test(test_json_of_ice),
        cmocka_unit_test(test_explains_failures),
        cmocka_unit_test(test_json_has_what_scripts_need),
        cmocka_unit_test(test_notes_keep_any_text),
        cmocka_unit_test(test_notes_that_do_not_fit),
        cmocka_unit_test(test_damaged_notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
