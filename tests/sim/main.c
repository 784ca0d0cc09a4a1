/* build/tests/sim_ice: see README.md. Prints TAP: one line a property and one a test of the model itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/selftest.h"
#include "tests/sim/stats.h"

#define RUNS      100000
#define PROCESSES 2
/* Of the calls over bad lines that could go direct, so many per cent must: with a third of all packets lost
 * there is always a run in which every check of the direct pair is. */
#define DIRECT_PERCENT     98
#define MISSED_OF_THOUSAND 1
/* On good lines, where one side nominates before the other one has the answer, or an address is asked late
 * behind a hundred others: so many may be direct by a worse address or relayed. */
#define WORSE_OF_THOUSAND 1

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct sim_run *new_run(void)
{
    struct sim_run *run = calloc(1, sizeof *run);
    if (run)
        run->relay = sim_relay_new();
    if (!run || !run->relay) {
        fprintf(stderr, "sim_ice: no memory\n");
        exit(2);
    }
    return run;
}

static void work(struct sim_stats *stats, uint64_t first, uint64_t runs, unsigned step)
{
    struct sim_run *run = new_run();
    for (uint64_t n = first; n < runs; n += step) {
        struct sim_scenario scenario;
        sim_scenario_make(&scenario, n);
        sim_run(run, &scenario, &stats->checks, false);
        sim_stats_count(stats, run);
    }
    stats->cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    sim_relay_free(run->relay);
    free(run);
}

static int run_one(uint64_t number, bool verbose)
{
    static struct sim_checks checks;
    struct sim_run *run = new_run();
    struct sim_scenario scenario;
    sim_scenario_make(&scenario, number);
    sim_scenario_print(&scenario);
    sim_run(run, &scenario, &checks, verbose);
    printf("%s after %d ms: %s; possible: %s\n", run->failure.is ? "BROKEN" : "right", (int)run->world.now_ms,
           run->failure.is ? run->failure.text : sim_path_name(run->path), sim_path_name(run->best.path));
    bool broken = run->failure.is;
    sim_relay_free(run->relay);
    free(run);
    return broken;
}

/* Runs first..runs-1 in two processes. Returns the number of failed TAP lines. */
static int run_many(uint64_t first, uint64_t runs, bool table)
{
    double start = seconds(CLOCK_MONOTONIC);
    struct sim_stats *stats = mmap(NULL, (PROCESSES + 1) * sizeof *stats, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int failed = 0, lost = 0;
    pid_t child[PROCESSES];
    if (stats == MAP_FAILED)
        return 1;
    for (int i = 0; i <= PROCESSES; i++)
        sim_stats_init(&stats[i]);
    fflush(stdout);
    for (unsigned i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            work(&stats[i], first + i, runs, PROCESSES);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        if (child[i] < 0 || waitpid(child[i], &status, 0) < 0 || status != 0) {
            printf("# a process of the simulation ended with status %d after run %llu of its share\n", status,
                   (unsigned long long)stats[i].runs);
            lost++;
        }
        sim_stats_add(&stats[PROCESSES], &stats[i]);
    }
    const struct sim_stats *all = &stats[PROCESSES];
    sim_stats_print(all, seconds(CLOCK_MONOTONIC) - start, table);
    for (int p = 0; p < SIM_PROPERTIES; p++) {
        bool right = all->checks.failed[p] == 0 && all->checks.looked[p] > 0;
        failed += !right;
        printf("%sok %d - %s (%llu looked at, %llu broken)\n", right ? "" : "not ", p + 1,
               sim_property_text((enum sim_property)p), (unsigned long long)all->checks.looked[p],
               (unsigned long long)all->checks.failed[p]);
    }
    bool often = all->went_direct_bad * 100 >= all->could_direct_bad * DIRECT_PERCENT;
    bool whole = lost == 0 && all->runs == runs - first;
    printf("%sok %d - on bad lines %d %% of the calls that could go direct do\n", often ? "" : "not ",
           SIM_PROPERTIES + 1, DIRECT_PERCENT);
    bool hardly = all->missed_bad * 1000 <= all->could_bad * MISSED_OF_THOUSAND;
    printf("%sok %d - on bad lines at most %d of 1000 calls that could connect do not, or do not agree\n",
           hardly ? "" : "not ", SIM_PROPERTIES + 2, MISSED_OF_THOUSAND);
    printf("%sok %d - all runs came to their end\n", whole ? "" : "not ", SIM_PROPERTIES + 3);
    bool best = all->worse * 1000 <= all->good * WORSE_OF_THOUSAND;
    printf("%sok %d - on good lines at most %d of 1000 calls are not on the very best path\n",
           best ? "" : "not ", SIM_PROPERTIES + 4, WORSE_OF_THOUSAND);
    failed += !often + !hardly + !whole + !best;
    munmap(stats, (PROCESSES + 1) * sizeof *stats);
    return failed;
}

int main(int argc, char **argv)
{
    uint64_t runs = RUNS, first = 0, seed = 0;
    bool one = false, verbose = false, table = false, alone = false;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--seed") == 0 && more) {
            seed = strtoull(argv[++i], NULL, 10);
            one = true;
        } else if (strcmp(argv[i], "--runs") == 0 && more) {
            runs = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--first") == 0 && more) {
            first = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--table") == 0) {
            table = true;
        } else if (strcmp(argv[i], "--selftest") == 0) {
            alone = true;
        } else {
            fprintf(stderr,
                    "usage: sim_ice [--runs N] [--first N] [--table] | --seed N [--verbose] | --selftest\n");
            return 2;
        }
    }
    if (one)
        return run_one(seed, verbose);
    struct sim_run *run = new_run();
    int failed = sim_selftest(run, SIM_PROPERTIES + 5);
    sim_relay_free(run->relay);
    free(run);
    if (!alone)
        failed += run_many(first, first + runs, table);
    return failed != 0;
}
