#include "media/dtls.h"

#include <openssl/err.h>
#include <openssl/srtp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "media/dtls_hello.h"
#include "media/identity.h"

#define MTU     1200
#define MTU_MIN 256 /* OpenSSL's */
/* RFC 6347 4.2.4.1 has 1 s and lets applications that cannot wait begin lower: nobody hears anything before
 * the handshake is over. OpenSSL gives up after 12. */
#define RETRANSMIT_FIRST_US (200 * 1000)
#define RETRANSMIT_MOST_US  (3000 * 1000)
#define HANDSHAKE_MS        30000 /* from its first ClientHello to its end */
#define QUEUE_MAX           32 /* datagrams of ours that nobody fetched; more are lost, as on any network */
/* RFC 6347 4.2.4: whoever sent the last flight sends it again when the peer repeats the flight before. */
#define LAST_FLIGHT_MAX 192 /* ChangeCipherSpec and Finished, with any of our suites */
#define REPEATS_MAX     32
#define REPEAT_GAP_MS   20
#define KEY_MAX         (32 + 14)

struct datagram {
    struct datagram *next;
    size_t len;
    uint8_t data[];
};

struct kg_dtls {
    enum kg_dtls_state state;
    const char *reason, *hint; /* hint: what could be the reason, told without proof */
    struct kg_dtls_identity *identity;
    const uint8_t *secret;
    uint16_t mtu;
    bool active, proven;
    bool opening;      /* OpenSSL answers our opener: not sent */
    SSL *ssl;          /* HANDSHAKE only */
    const uint8_t *in; /* what OpenSSL reads next; inside of a call only */
    size_t in_len;
    uint16_t in_epoch;
    uint64_t in_sequence; /* of epoch 0, next */
    struct datagram *first, **last;
    unsigned queued;
    uint64_t renumber;                      /* passive: added to the record numbers of epoch 0 */
    uint8_t parameters[KG_DTLS_PARAMETERS]; /* passive: of the ClientHello that is answered */
    int64_t due_ms, expires_ms;
    struct kg_dtls_peer peer;
    uint8_t suite; /* enum kg_srtp_suite */
    uint8_t ours[KEY_MAX], theirs[KEY_MAX];
    uint8_t flight[LAST_FLIGHT_MAX]; /* passive: our last */
    size_t flight_len;
    unsigned repeats;
    int64_t repeated_ms;
};

/* --- what OpenSSL reads and writes --- */

static void enqueue(struct kg_dtls *dtls, const uint8_t *data, size_t len)
{
    struct datagram *datagram;

    if (len > KG_DTLS_DATAGRAM_MAX || dtls->queued >= QUEUE_MAX ||
        !(datagram = malloc(sizeof *datagram + len)))
        return;
    datagram->next = NULL;
    datagram->len = len;
    memcpy(datagram->data, data, len);
    *dtls->last = datagram;
    dtls->last = &datagram->next;
    dtls->queued++;
}

static void drop_queue(struct kg_dtls *dtls)
{
    while (dtls->first) {
        struct datagram *next = dtls->first->next;
        free(dtls->first);
        dtls->first = next;
    }
    dtls->last = &dtls->first;
    dtls->queued = 0;
}

/* One record a call: a datagram's records reach OpenSSL one by one. What is not encrypted is numbered anew: a
 * single number far ahead, which anybody can send, would make OpenSSL take all that follow for replays. */
static int bio_read(BIO *bio, char *out, int size)
{
    struct kg_dtls *dtls = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (dtls->in_len == 0 || size <= 0 || dtls->in_len > (size_t)size) {
        dtls->in_len = 0;
        BIO_set_retry_read(bio);
        return -1;
    }
    int len = (int)dtls->in_len;
    memcpy(out, dtls->in, dtls->in_len);
    dtls->in_len = 0;
    if (dtls->in_epoch == 0)
        kg_dtls_record_renumber((uint8_t *)out, dtls->in_sequence++);
    return len;
}

/* RFC 6347 4.2.1: the record numbers of the server go on from that of the ClientHello with the cookie, since
 * HelloVerifyRequests have taken the ones below. What is not encrypted is not authenticated either. */
static void renumber(struct kg_dtls *dtls, uint8_t *data, size_t len)
{
    const uint8_t *at = data;
    struct kg_dtls_record record;

    while (kg_dtls_record_next(&at, &len, &record))
        if (record.epoch == 0)
            kg_dtls_record_renumber(data + (record.data - data), record.sequence + dtls->renumber);
}

static int bio_write(BIO *bio, const char *data, int len)
{
    struct kg_dtls *dtls = BIO_get_data(bio);
    uint8_t copy[KG_DTLS_DATAGRAM_MAX];

    BIO_clear_retry_flags(bio);
    if (dtls->opening || len <= 0 || len > KG_DTLS_DATAGRAM_MAX)
        return len;
    memcpy(copy, data, (size_t)len);
    renumber(dtls, copy, (size_t)len);
    enqueue(dtls, copy, (size_t)len);
    return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;
static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "datagrams");
    if (method && BIO_meth_set_read(method, bio_read) && BIO_meth_set_write(method, bio_write))
        BIO_meth_set_ctrl(method, bio_ctrl);
}

static unsigned retransmit_after(SSL *ssl, unsigned last_us)
{
    (void)ssl;
    if (last_us == 0)
        return RETRANSMIT_FIRST_US;
    return last_us * 2 < RETRANSMIT_MOST_US ? last_us * 2 : RETRANSMIT_MOST_US;
}

static bool make_ssl(struct kg_dtls *dtls)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_method);
    BIO *bio = method ? BIO_new(method) : NULL;
    SSL *ssl = bio ? SSL_new(kg_dtls_identity_context(dtls->identity)) : NULL;
    if (!ssl) {
        BIO_free(bio);
        return false;
    }
    BIO_set_data(bio, dtls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, &dtls->peer);
    SSL_set_mtu(ssl, dtls->mtu);
    DTLS_set_timer_cb(ssl, retransmit_after);
    if (dtls->active)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    dtls->ssl = ssl;
    return true;
}

/* --- how it ends --- */

static void free_ssl(struct kg_dtls *dtls)
{
    SSL_free(dtls->ssl);
    dtls->ssl = NULL;
    dtls->due_ms = INT64_MAX;
    ERR_clear_error();
}

static void fail(struct kg_dtls *dtls, const char *reason)
{
    free_ssl(dtls);
    OPENSSL_cleanse(dtls->ours, sizeof dtls->ours);
    OPENSSL_cleanse(dtls->theirs, sizeof dtls->theirs);
    dtls->suite = KG_SRTP_NONE;
    dtls->state = KG_DTLS_FAILED;
    dtls->reason = reason;
}

static const char wrong_certificate[] = "the peer's certificate is not the one whose fingerprint its SDP has";
static const char no_answer[] = "the peer did not answer the handshake in time";

/* What OpenSSL says, in words for people. */
static const char *sentence(const struct kg_dtls *dtls)
{
    static const struct {
        int reason;
        const char *text;
    } table[] = {
        {SSL_R_UNSUPPORTED_PROTOCOL, "the peer does not speak DTLS 1.2"},
        {SSL_R_VERSION_TOO_LOW, "the peer does not speak DTLS 1.2"},
        {SSL_R_WRONG_SSL_VERSION, "the peer does not speak DTLS 1.2"},
        {SSL_R_WRONG_VERSION_NUMBER, "the peer does not speak DTLS 1.2"},
        {SSL_R_NO_SHARED_CIPHER, "the peer has no cipher suite that is allowed here"},
        {SSL_R_WRONG_CIPHER_RETURNED, "the peer chose a cipher suite that was not offered"},
        {SSL_R_UNKNOWN_CIPHER_RETURNED, "the peer chose a cipher suite that was not offered"},
        {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, "the peer signs with no algorithm that is allowed here"},
        {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "the peer signs with no algorithm that is allowed here"},
        {SSL_R_WRONG_SIGNATURE_TYPE, "the peer signs with no algorithm that is allowed here"},
        {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "the peer showed no certificate"},
        {SSL_R_CERTIFICATE_VERIFY_FAILED, wrong_certificate},
        {SSL_R_READ_TIMEOUT_EXPIRED, no_answer},
    };
    unsigned long error = ERR_peek_error();

    if (SSL_get_verify_result(dtls->ssl) == X509_V_ERR_EE_KEY_TOO_SMALL)
        return "the key of the peer's certificate is too small";
    if (ERR_GET_LIB(error) == ERR_LIB_SSL)
        for (size_t i = 0; i < sizeof table / sizeof *table; i++)
            if (table[i].reason == ERR_GET_REASON(error))
                return table[i].text == no_answer && dtls->hint ? dtls->hint : table[i].text;
    return "the handshake broke off: the peer sent a message that does not fit";
}

static uint8_t suite_of(SSL *ssl)
{
    const SRTP_PROTECTION_PROFILE *profile = SSL_get_selected_srtp_profile(ssl);

    switch (profile ? profile->id : 0) {
    case SRTP_AEAD_AES_256_GCM:
        return KG_SRTP_AEAD_AES_256_GCM;
    case SRTP_AEAD_AES_128_GCM:
        return KG_SRTP_AEAD_AES_128_GCM;
    case SRTP_AES128_CM_SHA1_80:
        return KG_SRTP_AES_CM_128_SHA1_80;
    case SRTP_AES128_CM_SHA1_32:
        return KG_SRTP_AES_CM_128_SHA1_32;
    default:
        return KG_SRTP_NONE;
    }
}

/* RFC 5764 4.2: client's key, server's key, client's salt, server's salt. */
static bool export_keys(struct kg_dtls *dtls)
{
    static const char label[] = "EXTRACTOR-dtls_srtp";
    uint8_t material[2 * KEY_MAX];
    size_t both = kg_srtp_suite_key_len((enum kg_srtp_suite)dtls->suite);
    size_t salt =
        dtls->suite == KG_SRTP_AEAD_AES_256_GCM || dtls->suite == KG_SRTP_AEAD_AES_128_GCM ? 12 : 14;
    size_t key = both - salt;
    uint8_t *client = dtls->active ? dtls->ours : dtls->theirs,
            *server = dtls->active ? dtls->theirs : dtls->ours;

    if (SSL_export_keying_material(dtls->ssl, material, 2 * both, label, sizeof label - 1, NULL, 0, 0) != 1)
        return false;
    memcpy(client, material, key);
    memcpy(server, material + key, key);
    memcpy(client + key, material + 2 * key, salt);
    memcpy(server + key, material + 2 * key + salt, salt);
    OPENSSL_cleanse(material, sizeof material);
    return true;
}

static void judge(struct kg_dtls *dtls)
{
    if (dtls->peer.expected_count == 0)
        return;
    if (kg_dtls_peer_fits(&dtls->peer))
        dtls->state = KG_DTLS_ESTABLISHED;
    else
        fail(dtls, wrong_certificate);
}

/* The call that ended the handshake has queued our last flight behind `before`: one datagram, the latest,
 * since OpenSSL may have repeated the flight before first. */
static void keep_last_flight(struct kg_dtls *dtls, struct datagram *const *before)
{
    const struct datagram *flight = *before;

    while (flight && flight->next)
        flight = flight->next;
    if (dtls->active || !flight || flight->len > LAST_FLIGHT_MAX)
        return;
    memcpy(dtls->flight, flight->data, flight->len);
    dtls->flight_len = flight->len;
}

static void finish(struct kg_dtls *dtls)
{
    dtls->suite = suite_of(dtls->ssl);
    if (dtls->suite == KG_SRTP_NONE) {
        fail(dtls, "the peer offers no SRTP profile that is known here (use_srtp, RFC 5764)");
        return;
    }
    if (!dtls->peer.seen || !export_keys(dtls)) {
        fail(dtls, "no keys could be made");
        return;
    }
    free_ssl(dtls);
    dtls->state = KG_DTLS_UNVERIFIED;
    judge(dtls);
}

/* --- the handshake --- */

static void look_at_timer(struct kg_dtls *dtls, int64_t now_ms)
{
    struct timeval left;

    dtls->due_ms = dtls->expires_ms;
    if (DTLSv1_get_timeout(dtls->ssl, &left)) {
        int64_t ms = (int64_t)left.tv_sec * 1000 + (left.tv_usec + 999) / 1000;
        /* A system clock that was put back must not hold us up. */
        int64_t due_ms = now_ms + (ms < RETRANSMIT_MOST_US / 1000 ? ms : RETRANSMIT_MOST_US / 1000);
        if (due_ms < dtls->due_ms)
            dtls->due_ms = due_ms;
    }
}

/* Lets OpenSSL read one record; NULL: lets it begin. */
static void drive(struct kg_dtls *dtls, const struct kg_dtls_record *record, int64_t now_ms)
{
    struct datagram *const *before = dtls->last;

    ERR_clear_error();
    if (record) {
        dtls->in = record->data;
        dtls->in_len = record->len;
        dtls->in_epoch = record->epoch;
    }
    int done = SSL_do_handshake(dtls->ssl);
    dtls->in_len = 0;
    if (done == 1) {
        keep_last_flight(dtls, before);
        finish(dtls);
    } else if (SSL_get_error(dtls->ssl, done) != SSL_ERROR_WANT_READ) {
        fail(dtls, sentence(dtls));
    } else {
        look_at_timer(dtls, now_ms);
    }
}

static void begin(struct kg_dtls *dtls, int64_t now_ms)
{
    if (dtls->ssl)
        free_ssl(dtls);
    dtls->hint = NULL;
    dtls->in_sequence = 0;
    dtls->peer.seen = false;
    if (!make_ssl(dtls)) {
        fail(dtls, "no memory for a handshake");
        return;
    }
    dtls->state = KG_DTLS_HANDSHAKE;
    dtls->expires_ms = now_ms + HANDSHAKE_MS;
}

/* A ClientHello whose cookie is right, or needs none: its sender is where it says (RFC 6347 4.2.1). */
static void answer_hello(struct kg_dtls *dtls, const struct kg_dtls_hello *hello, int64_t now_ms)
{
    uint8_t opener[KG_DTLS_OPENER_LEN];

    drop_queue(dtls);
    begin(dtls, now_ms);
    if (dtls->state != KG_DTLS_HANDSHAKE)
        return;
    memcpy(dtls->parameters, hello->parameters, sizeof dtls->parameters);
    if (hello->message == 0) {
        SSL_clear_options(dtls->ssl, SSL_OP_COOKIE_EXCHANGE);
        dtls->renumber = hello->sequence;
        return;
    }
    dtls->renumber = hello->sequence > 0 ? hello->sequence - 1 : 0; /* OpenSSL's next is 1 */
    kg_dtls_opener(opener);
    dtls->opening = true;
    drive(dtls, &(struct kg_dtls_record){.data = opener, .len = sizeof opener}, now_ms);
    dtls->opening = false;
}

/* The first fragment of a ClientHello that came to a passive side. True: OpenSSL is to have it. */
static bool hear_hello(struct kg_dtls *dtls, const struct kg_dtls_record *record, const void *source,
                       size_t source_len, int64_t now_ms)
{
    struct kg_dtls_hello hello;
    uint8_t verify[KG_DTLS_VERIFY_LEN];

    if (!kg_dtls_hello_read(record, &hello))
        return dtls->state == KG_DTLS_HANDSHAKE; /* a later fragment */
    bool idle = dtls->state == KG_DTLS_IDLE;
    bool known = !idle && memcmp(hello.parameters, dtls->parameters, sizeof dtls->parameters) == 0;
    bool first = hello.message == 0 && hello.cookie_len == 0;
    bool right = hello.message == 1 && kg_dtls_cookie_right(&hello, dtls->secret, source, source_len, now_ms);
    /* RFC 6347 4.2.8: who is another client, and proves that it is there, takes the place of a handshake that
     * is under way. */
    if ((right && !known) || (first && idle && dtls->proven)) {
        answer_hello(dtls, &hello, now_ms);
        return dtls->state == KG_DTLS_HANDSHAKE;
    }
    if (right || (known && dtls->proven))
        return true;
    if (first && kg_dtls_hello_verify(&hello, dtls->secret, source, source_len, now_ms, verify))
        enqueue(dtls, verify, sizeof verify);
    return false;
}

/* RFC 6347 4.1.2.7: an alert without encryption could be anybody's, and so could application data. */
static bool worth_reading(struct kg_dtls *dtls, const struct kg_dtls_record *record)
{
    if (record->type == KG_DTLS_ALERT && record->epoch == 0)
        dtls->hint = "the peer did not answer the handshake in time; somebody, perhaps the peer, refused it "
                     "by an alert";
    if (dtls->active && kg_dtls_is_hello(record))
        dtls->hint = "both sides began the handshake: the peer did not keep to a=setup";
    if (record->type == KG_DTLS_CHANGE_CIPHER_SPEC)
        return record->epoch == 0 && record->len == KG_DTLS_RECORD_HEADER + 1 &&
               record->data[KG_DTLS_RECORD_HEADER] == 1;
    if (record->epoch == 0)
        return record->type == KG_DTLS_HANDSHAKE_MESSAGE && kg_dtls_is_whole(record) &&
               !(dtls->active && kg_dtls_is_hello(record));
    return record->epoch == 1 && record->type != KG_DTLS_APPLICATION_DATA;
}

/* The peer repeats its last flight, so it has not got ours. Its Finished cannot be read any more; whoever
 * imitates it gets fewer bytes than he would think. */
static void repeat_last_flight(struct kg_dtls *dtls, const struct kg_dtls_record *record, int64_t now_ms)
{
    if (dtls->flight_len == 0 || record->type != KG_DTLS_HANDSHAKE_MESSAGE || record->epoch != 1 ||
        dtls->repeats >= REPEATS_MAX || (dtls->repeats > 0 && now_ms - dtls->repeated_ms < REPEAT_GAP_MS))
        return;
    dtls->repeats++;
    dtls->repeated_ms = now_ms;
    enqueue(dtls, dtls->flight, dtls->flight_len);
}

static void receive_record(struct kg_dtls *dtls, const struct kg_dtls_record *record, const void *source,
                           size_t source_len, int64_t now_ms)
{
    switch (dtls->state) {
    case KG_DTLS_IDLE:
        if (dtls->active || !kg_dtls_is_hello(record) ||
            !hear_hello(dtls, record, source, source_len, now_ms))
            return;
        drive(dtls, record, now_ms);
        return;
    case KG_DTLS_HANDSHAKE:
        if (!worth_reading(dtls, record) ||
            (kg_dtls_is_hello(record) && !hear_hello(dtls, record, source, source_len, now_ms)))
            return;
        drive(dtls, record, now_ms);
        return;
    case KG_DTLS_UNVERIFIED:
    case KG_DTLS_ESTABLISHED:
        repeat_last_flight(dtls, record, now_ms);
        return;
    case KG_DTLS_FAILED:
        return;
    }
}

void kg_dtls_receive(struct kg_dtls *dtls, const uint8_t *data, size_t len, const void *source,
                     size_t source_len, int64_t now_ms)
{
    struct kg_dtls_record record;

    while (kg_dtls_record_next(&data, &len, &record))
        receive_record(dtls, &record, source, source_len, now_ms);
}

void kg_dtls_start(struct kg_dtls *dtls, int64_t now_ms)
{
    if (!dtls->active || dtls->state != KG_DTLS_IDLE)
        return;
    begin(dtls, now_ms);
    if (dtls->state == KG_DTLS_HANDSHAKE)
        drive(dtls, NULL, now_ms);
}

void kg_dtls_expect(struct kg_dtls *dtls, const struct kg_fingerprint *fingerprint, size_t count)
{
    if (count == 0)
        return;
    dtls->peer.expected_count = (uint8_t)(count < KG_FINGERPRINTS_MAX ? count : KG_FINGERPRINTS_MAX);
    memcpy(dtls->peer.expected, fingerprint, dtls->peer.expected_count * sizeof *fingerprint);
    if (dtls->state == KG_DTLS_UNVERIFIED || dtls->state == KG_DTLS_ESTABLISHED)
        judge(dtls);
}

/* --- time and what is sent --- */

static void handle_time(struct kg_dtls *dtls, int64_t now_ms)
{
    if (dtls->state != KG_DTLS_HANDSHAKE || now_ms < dtls->due_ms)
        return;
    if (now_ms >= dtls->expires_ms) {
        fail(dtls, dtls->hint ? dtls->hint : no_answer);
        return;
    }
    ERR_clear_error();
    if (DTLSv1_handle_timeout(dtls->ssl) < 0)
        fail(dtls, sentence(dtls));
    else
        look_at_timer(dtls, now_ms);
}

bool kg_dtls_poll(struct kg_dtls *dtls, int64_t now_ms, uint8_t out[static KG_DTLS_DATAGRAM_MAX], size_t *len)
{
    struct datagram *datagram;

    handle_time(dtls, now_ms);
    datagram = dtls->first;
    if (!datagram)
        return false;
    memcpy(out, datagram->data, datagram->len);
    *len = datagram->len;
    dtls->first = datagram->next;
    if (!dtls->first)
        dtls->last = &dtls->first;
    dtls->queued--;
    free(datagram);
    return true;
}

int64_t kg_dtls_next_ms(const struct kg_dtls *dtls)
{
    return dtls->due_ms;
}

enum kg_dtls_state kg_dtls_state(const struct kg_dtls *dtls)
{
    return dtls->state;
}

bool kg_dtls_is_stranger(const struct kg_dtls *dtls)
{
    return dtls->state == KG_DTLS_FAILED && dtls->reason == wrong_certificate;
}

const char *kg_dtls_reason(const struct kg_dtls *dtls)
{
    return dtls->reason;
}

bool kg_dtls_keys(const struct kg_dtls *dtls, struct kg_srtp_keys *send, struct kg_srtp_keys *receive)
{
    size_t len = kg_srtp_suite_key_len((enum kg_srtp_suite)dtls->suite);

    *send = *receive = (struct kg_srtp_keys){.suite = KG_SRTP_NONE};
    if (dtls->state != KG_DTLS_ESTABLISHED)
        return false;
    send->suite = receive->suite = dtls->suite;
    send->count = receive->count = 1;
    memcpy(send->key[0].bytes, dtls->ours, len);
    memcpy(receive->key[0].bytes, dtls->theirs, len);
    return true;
}

struct kg_dtls *kg_dtls_new(const struct kg_dtls_settings *settings)
{
    struct kg_dtls *dtls = calloc(1, sizeof *dtls);

    if (!dtls)
        return NULL;
    dtls->identity = kg_dtls_identity_ref(settings->identity);
    dtls->secret = settings->secret;
    dtls->active = settings->active;
    dtls->proven = settings->proven;
    dtls->mtu = settings->mtu >= MTU_MIN && settings->mtu <= KG_DTLS_DATAGRAM_MAX ? settings->mtu : MTU;
    dtls->last = &dtls->first;
    dtls->due_ms = INT64_MAX;
    return dtls;
}

void kg_dtls_free(struct kg_dtls *dtls)
{
    if (!dtls)
        return;
    free_ssl(dtls);
    drop_queue(dtls);
    kg_dtls_identity_unref(dtls->identity);
    OPENSSL_cleanse(dtls, sizeof *dtls);
    free(dtls);
}
