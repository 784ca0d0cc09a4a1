/* What many runs gave, added up. Lies in memory shared by the processes that run them. */
#ifndef KG_TESTS_SIM_STATS_H
#define KG_TESTS_SIM_STATS_H

#include "tests/sim/run.h"

#define SIM_BUCKET_MS 10
#define SIM_BUCKETS   6000
#define SIM_EXAMPLES  8

struct sim_histogram {
    uint32_t count[SIM_BUCKETS + 1];
    uint64_t total;
};
enum sim_histogram_name {
    SIM_HIST_VALID,
    SIM_HIST_VALID_BAD,
    SIM_HIST_REBIND,
    SIM_HIST_MOVE,
    SIM_HIST_MOVE_SLOW,
    SIM_HIST_PATH,
    SIM_HISTS
};

struct sim_stats {
    uint64_t runs, failed_runs, could_direct_bad, went_direct_bad, could_bad, missed_bad, good, worse,
        virtual_ms, requests;
    uint64_t first_failure; /* UINT64_MAX: none */
    struct sim_failure failure;
    struct sim_checks checks;
    uint64_t example[SIM_PROPERTIES]
                    [SIM_EXAMPLES]; /* numbers of failed runs, by their first broken property */
    uint32_t examples[SIM_PROPERTIES];
    uint32_t outcome[SIM_KINDS + 1][SIM_KINDS + 1][3]; /* by place of A, place of B, enum sim_path */
    struct sim_histogram histogram[SIM_HISTS];
    double cpu_s;
};

void sim_stats_init(struct sim_stats *stats);
void sim_stats_count(struct sim_stats *stats, const struct sim_run *run);
void sim_stats_add(struct sim_stats *to, const struct sim_stats *from);
void sim_stats_print(const struct sim_stats *stats, double seconds, bool table);

#endif
