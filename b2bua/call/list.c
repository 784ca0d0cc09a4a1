/* Calls as JSON. The figures are the engine's, so every list waits for it. */
#include "b2bua/call/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct listing {
    struct kg_calls *calls;
    json_t *list;
    char id[KG_CALL_ID_LEN + 1]; /* explain: whom the question was about */
    kg_calls_json_done *done;
    void *ctx;
};

static json_t *call_json(struct kg_call *call, const struct kg_media_session_info *info)
{
    if (info)
        kg_record_set_stats(call->record, info);
    return kg_record_json(call->record, kg_call_state_name(call->fsm.state));
}

static json_t *explained(const struct kg_record *record, const char *state)
{
    json_t *json = kg_record_json(record, state);
    json_object_set_new(json, "explain", kg_record_explain(record, state));
    return json;
}

/* ---- list ---- */

static void finish_list(struct listing *listing)
{
    struct kg_call *call, *next;
    HASH_ITER(hh, listing->calls->by_id, call, next)
    {
        if (!call->listed) /* the engine does not know it (yet), or did not answer */
            json_array_append_new(listing->list, call_json(call, NULL));
        call->listed = false;
    }
    listing->done(listing->ctx, listing->list);
    free(listing);
}

static void on_session(void *ctx, const struct kg_media_reply *reply)
{
    struct listing *listing = ctx;
    if (reply->error != KG_MEDIA_OK || !reply->info) {
        finish_list(listing);
        return;
    }
    struct kg_call *call = kg_calls_find(listing->calls, reply->info->id);
    if (!call || call->listed)
        return;
    call->listed = true;
    json_array_append_new(listing->list, call_json(call, reply->info));
}

static json_t *recent_json(const struct kg_calls *calls)
{
    json_t *list = json_array();
    for (size_t i = 1; i <= KG_RECENT_MAX; i++) { /* the latest first */
        const struct kg_record *record =
            calls->recent[(calls->recent_next + KG_RECENT_MAX - i) % KG_RECENT_MAX];
        if (!record)
            break;
        json_array_append_new(list, kg_record_json(record, kg_call_state_name(KG_CALL_ENDED)));
    }
    return list;
}

void kg_calls_list(struct kg_calls *calls, bool recent, kg_calls_json_done *done, void *ctx)
{
    if (recent) {
        done(ctx, recent_json(calls));
        return;
    }
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        done(ctx, json_array());
        return;
    }
    *listing = (struct listing){.calls = calls, .list = json_array(), .done = done, .ctx = ctx};
    if (calls->count == 0 || kg_media_query(calls->server->media, NULL, on_session, listing) != 0)
        finish_list(listing);
}

/* ---- explain ---- */

static const struct kg_record *find_recent(const struct kg_calls *calls, const char *prefix, size_t len,
                                           unsigned *matches)
{
    const struct kg_record *found = NULL;
    for (size_t i = 0; i < KG_RECENT_MAX; i++)
        if (calls->recent[i] && strncmp(calls->recent[i]->id, prefix, len) == 0) {
            found = calls->recent[i];
            ++*matches;
        }
    return found;
}

static struct kg_call *find_current(struct kg_calls *calls, const char *prefix, size_t len, unsigned *matches)
{
    struct kg_call *call, *next, *found = NULL;
    HASH_ITER(hh, calls->by_id, call, next)
    {
        if (strncmp(call->record->id, prefix, len) == 0) {
            found = call;
            ++*matches;
        }
    }
    return found;
}

static void on_figures(void *ctx, const struct kg_media_reply *reply)
{
    struct listing *listing = ctx;
    unsigned matches = 0;
    struct kg_call *call = kg_calls_find(listing->calls, listing->id);
    if (call && reply && reply->info)
        kg_record_set_stats(call->record, reply->info);
    const struct kg_record *record =
        call ? call->record : find_recent(listing->calls, listing->id, KG_CALL_ID_LEN, &matches);
    listing->done(listing->ctx,
                  record ? explained(record, kg_call_state_name(call ? call->fsm.state : KG_CALL_ENDED))
                         : NULL);
    free(listing);
}

void kg_calls_explain(struct kg_calls *calls, const char *id, kg_calls_json_done *done, void *ctx)
{
    unsigned matches = 0;
    size_t len = strlen(id);
    const struct kg_call *call = find_current(calls, id, len, &matches);
    const struct kg_record *record = find_recent(calls, id, len, &matches);
    struct listing *listing = len && matches == 1 ? calloc(1, sizeof *listing) : NULL;
    if (!listing) {
        done(ctx, NULL);
        return;
    }
    *listing = (struct listing){.calls = calls, .done = done, .ctx = ctx};
    memcpy(listing->id, call ? call->record->id : record->id, sizeof listing->id);
    if (!call || kg_media_query(calls->server->media, listing->id, on_figures, listing) != 0)
        on_figures(listing, NULL);
}

int kg_calls_hangup(struct kg_calls *calls, const char *id)
{
    unsigned matches = 0;
    struct kg_call *call = find_current(calls, id, strlen(id), &matches);
    if (!*id || matches != 1)
        return ENOENT;
    kg_call_event(call, &(struct kg_fsm_event){.type = KG_EV_HANGUP});
    return 0;
}
