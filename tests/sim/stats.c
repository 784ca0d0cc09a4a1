#include "tests/sim/stats.h"

#include <stdio.h>
#include <string.h>

#define QUICK_SIGNALS_MS 500 /* an offer and its answer */

void sim_stats_init(struct sim_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->first_failure = UINT64_MAX;
}

static void put(struct sim_histogram *histogram, int64_t ms)
{
    int64_t bucket = ms < 0 ? 0 : ms / SIM_BUCKET_MS;
    histogram->count[bucket < SIM_BUCKETS ? bucket : SIM_BUCKETS]++;
    histogram->total++;
}

/* Who has moved waits for the answer to its restart first: that is signalling's time, not ICE's. */
static bool is_quick(const struct sim_scenario *scenario)
{
    return scenario->side[0].signal_ms + scenario->side[1].signal_ms <= QUICK_SIGNALS_MS;
}

void sim_stats_count(struct sim_stats *stats, const struct sim_run *run)
{
    const struct sim_scenario *scenario = &run->scenario;
    stats->runs++;
    stats->virtual_ms += (uint64_t)run->world.now_ms;
    stats->requests += run->peer[0].requests + run->peer[1].requests;
    if (scenario->lossless && run->happened_ms < 0 && run->best.path != SIM_PATH_NONE) {
        stats->good++;
        stats->worse += run->worse;
    }
    if (!scenario->lossless && run->best.path != SIM_PATH_NONE) {
        stats->could_bad++;
        stats->missed_bad += run->missed;
    }
    bool both = run->peer[0].connected_ms >= 0 && run->peer[1].connected_ms >= 0;
    if (run->happened_ms < 0) {
        enum sim_path path = both ? run->path : SIM_PATH_NONE;
        if (scenario->together == SIM_APART)
            stats->outcome[sim_scenario_kind(&scenario->side[0])][sim_scenario_kind(&scenario->side[1])]
                          [path]++;
        if (!scenario->lossless && run->best.path == SIM_PATH_DIRECT) {
            stats->could_direct_bad++;
            stats->went_direct_bad += path == SIM_PATH_DIRECT;
        }
    }
    if (both && run->remote_known_ms >= 0) {
        int64_t later_ms = run->peer[0].connected_ms > run->peer[1].connected_ms ? run->peer[0].connected_ms
                                                                                 : run->peer[1].connected_ms;
        put(&stats->histogram[scenario->lossless ? SIM_HIST_VALID : SIM_HIST_VALID_BAD],
            later_ms - run->remote_known_ms);
    }
    if (run->happened_ms >= 0 && scenario->lossless && run->best.path != SIM_PATH_NONE && !run->failure.is) {
        if (scenario->story == SIM_REBIND)
            put(&stats->histogram[SIM_HIST_REBIND], run->gap_ms);
        else if (scenario->story == SIM_MOVE && is_quick(scenario))
            put(&stats->histogram[SIM_HIST_MOVE], run->gap_ms);
        else if (scenario->story == SIM_MOVE)
            put(&stats->histogram[SIM_HIST_MOVE_SLOW], run->gap_ms);
        else if (scenario->story == SIM_DEAD_PATH)
            put(&stats->histogram[SIM_HIST_PATH], run->gap_ms);
    }
    if (!run->failure.is)
        return;
    stats->failed_runs++;
    if (scenario->number < stats->first_failure) {
        stats->first_failure = scenario->number;
        stats->failure = run->failure;
    }
    uint32_t *n = &stats->examples[run->failure.property];
    if (*n < SIM_EXAMPLES)
        stats->example[run->failure.property][*n] = scenario->number;
    (*n)++;
}

void sim_stats_add(struct sim_stats *to, const struct sim_stats *from)
{
    to->runs += from->runs;
    to->failed_runs += from->failed_runs;
    to->could_direct_bad += from->could_direct_bad;
    to->went_direct_bad += from->went_direct_bad;
    to->could_bad += from->could_bad;
    to->missed_bad += from->missed_bad;
    to->good += from->good;
    to->worse += from->worse;
    to->virtual_ms += from->virtual_ms;
    to->requests += from->requests;
    to->cpu_s += from->cpu_s;
    if (from->first_failure < to->first_failure) {
        to->first_failure = from->first_failure;
        to->failure = from->failure;
    }
    for (int p = 0; p < SIM_PROPERTIES; p++) {
        to->checks.looked[p] += from->checks.looked[p];
        to->checks.failed[p] += from->checks.failed[p];
        for (uint32_t i = 0; i < from->examples[p] && i < SIM_EXAMPLES; i++)
            if (to->examples[p] + i < SIM_EXAMPLES)
                to->example[p][to->examples[p] + i] = from->example[p][i];
        to->examples[p] += from->examples[p];
    }
    for (int h = 0; h < SIM_HISTS; h++) {
        for (int i = 0; i <= SIM_BUCKETS; i++)
            to->histogram[h].count[i] += from->histogram[h].count[i];
        to->histogram[h].total += from->histogram[h].total;
    }
    for (int a = 0; a <= SIM_KINDS; a++)
        for (int b = 0; b <= SIM_KINDS; b++)
            for (int path = 0; path < 3; path++)
                to->outcome[a][b][path] += from->outcome[a][b][path];
}

static int percentile(const struct sim_histogram *histogram, unsigned percent)
{
    uint64_t need = (histogram->total * percent + 99) / 100, have = 0;
    for (int i = 0; i <= SIM_BUCKETS; i++) {
        have += histogram->count[i];
        if (have >= need && have > 0)
            return i * SIM_BUCKET_MS;
    }
    return 0;
}

static void print_outcomes(const struct sim_stats *stats)
{
    printf("# outcomes of the calls whose sides are apart: per cent direct/relayed/failed; row A, column "
           "B\n# %10s",
           "");
    for (unsigned b = 0; b <= SIM_KINDS; b++)
        printf(" %10s", sim_kind_name(b));
    for (unsigned a = 0; a <= SIM_KINDS; a++) {
        printf("\n# %10s", sim_kind_name(a));
        for (unsigned b = 0; b <= SIM_KINDS; b++) {
            const uint32_t *n = stats->outcome[a][b];
            uint32_t all = n[0] + n[1] + n[2];
            char text[16] = "-";
            if (all)
                snprintf(text, sizeof text, "%u/%u/%u", (n[2] * 100 + all / 2) / all,
                         (n[1] * 100 + all / 2) / all, (n[0] * 100 + all / 2) / all);
            printf(" %10s", text);
        }
    }
    putchar('\n');
}

void sim_stats_print(const struct sim_stats *stats, double seconds, bool table)
{
    static const char *const names[SIM_HISTS] = {
        "first valid pair on both sides after the answer came, good lines",
        "the same, bad lines",
        "silence after a NAT forgot its mappings, good lines",
        "silence after a move to another network, good lines",
        "the same, where the restart takes signalling more than 0.5 s",
        "silence after the direct path died, good lines"};
    uint64_t looked = 0;
    for (int p = 0; p < SIM_PROPERTIES; p++)
        looked += stats->checks.looked[p];
    printf("# %llu runs in %.1f s (%.1f s of CPU), %llu s of virtual time, %llu checks sent; %llu properties "
           "looked at\n",
           (unsigned long long)stats->runs, seconds, stats->cpu_s,
           (unsigned long long)(stats->virtual_ms / 1000), (unsigned long long)stats->requests,
           (unsigned long long)looked);
    for (int h = 0; h < SIM_HISTS; h++)
        if (stats->histogram[h].total)
            printf("# %s: p50 %d ms, p95 %d ms, p99 %d ms (%llu)\n", names[h],
                   percentile(&stats->histogram[h], 50), percentile(&stats->histogram[h], 95),
                   percentile(&stats->histogram[h], 99), (unsigned long long)stats->histogram[h].total);
    printf("# on good lines: %llu of %llu calls were not on the very best path\n",
           (unsigned long long)stats->worse, (unsigned long long)stats->good);
    if (stats->could_direct_bad)
        printf("# on bad lines: %llu of %llu that could connect did not, or do not agree; %llu of %llu that "
               "could go direct "
               "did (%.2f %%)\n",
               (unsigned long long)stats->missed_bad, (unsigned long long)stats->could_bad,
               (unsigned long long)stats->went_direct_bad, (unsigned long long)stats->could_direct_bad,
               100.0 * (double)stats->went_direct_bad / (double)stats->could_direct_bad);
    if (table)
        print_outcomes(stats);
    for (int p = 0; p < SIM_PROPERTIES; p++) {
        if (!stats->examples[p])
            continue;
        printf("# %u runs broke first: %s; seeds", stats->examples[p],
               sim_property_text((enum sim_property)p));
        for (uint32_t i = 0; i < stats->examples[p] && i < SIM_EXAMPLES; i++)
            printf(" %llu", (unsigned long long)stats->example[p][i]);
        putchar('\n');
    }
    if (stats->first_failure != UINT64_MAX)
        printf("# first failure: seed %llu: %s\n# repeat it: build/tests/sim_ice --seed %llu --verbose\n",
               (unsigned long long)stats->first_failure, stats->failure.text,
               (unsigned long long)stats->first_failure);
}
