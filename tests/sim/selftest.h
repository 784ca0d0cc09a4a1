/* Is the model right, and can the checker fail? */
#ifndef KG_TESTS_SIM_SELFTEST_H
#define KG_TESTS_SIM_SELFTEST_H

#include "tests/sim/run.h"

/* Prints TAP lines from number `line` on; returns how many failed. */
int sim_selftest(struct sim_run *run, int line);

#endif
