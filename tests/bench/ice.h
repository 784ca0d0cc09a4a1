/* rtpload's side of ICE: every end of every call is the same agent with one host candidate, which answers
 * checks, asks each call's relay until it answered, and goes on asking for consent. Component 1 alone
 * (rtcp-mux). */
#ifndef KG_TESTS_BENCH_ICE_H
#define KG_TESTS_BENCH_ICE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "ice/stun/integrity.h"

/* Of all ends of side A, of all ends of side B; calls.py puts them into the SDP. */
static const char *const ice_ufrag[2] = {"loadA", "loadB"};
static const char *const ice_pwd[2] = {"loadPasswordOfSideA00000", "loadPasswordOfSideB00000"};

struct ice_peer {
    char ufrag[64], pwd[64];
    bool answered;
};

/* Side A made the offer: it is controlling, and nominates at once what the relay answers. */
static size_t ice_check(unsigned side, const struct ice_peer *peer, uint8_t *out, size_t size)
{
    struct kg_stun_writer w;
    uint8_t id[KG_STUN_ID];
    char user[160];
    if (getrandom(id, sizeof id, 0) != (ssize_t)sizeof id)
        return 0;
    kg_stun_begin(&w, out, size, KG_STUN_REQUEST, KG_STUN_BINDING, id);
    int len = snprintf(user, sizeof user, "%s:%s", peer->ufrag, ice_ufrag[side]);
    kg_stun_put(&w, KG_STUN_USERNAME, user, (size_t)len);
    kg_stun_put_u32(&w, KG_STUN_PRIORITY, 0x6e0001ff);
    kg_stun_put_u64(&w, side == 0 ? KG_STUN_ICE_CONTROLLING : KG_STUN_ICE_CONTROLLED,
                    0x7000000000000000ULL + side);
    if (side == 0)
        kg_stun_put(&w, KG_STUN_USE_CANDIDATE, NULL, 0);
    kg_stun_put_integrity(&w, peer->pwd, strlen(peer->pwd));
    kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

/* The success response to a request. */
static size_t ice_answer(unsigned side, const struct kg_stun_message *request, const struct sockaddr_in *from,
                         uint8_t *out, size_t size)
{
    struct kg_stun_writer w;
    struct kg_addr source = {.in4 = *from};
    kg_stun_begin(&w, out, size, KG_STUN_SUCCESS, KG_STUN_BINDING, request->id);
    kg_stun_put_address(&w, KG_STUN_XOR_MAPPED_ADDRESS, &source);
    kg_stun_put_integrity(&w, ice_pwd[side], strlen(ice_pwd[side]));
    kg_stun_put_fingerprint(&w);
    return kg_stun_end(&w);
}

#endif
