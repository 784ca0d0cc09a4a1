/* The properties, each with its name, how often it was looked at and how often it did not hold. */
#ifndef KG_TESTS_SIM_CHECK_H
#define KG_TESTS_SIM_CHECK_H

#include <stdbool.h>
#include <stdint.h>

enum sim_property {
    SIM_TERMINATES,
    SIM_AGREES,
    SIM_WORKS,
    SIM_BEST,
    SIM_FAILS_RIGHTLY,
    SIM_PACED,
    SIM_KNOWN_PLACES,
    SIM_CONSENT,
    SIM_MEDIA,
    SIM_ROLES,
    SIM_EVENTS,
    SIM_RECOVERS,
    SIM_MODEL,
    SIM_PROPERTIES,
};
const char *sim_property_text(enum sim_property property);

struct sim_checks {
    uint64_t looked[SIM_PROPERTIES], failed[SIM_PROPERTIES];
};
struct sim_failure {
    bool is;
    enum sim_property property;
    char text[240];
};

struct sim_run;
/* Counts, and keeps the first failure of the run with its words. Returns `right`. */
__attribute__((format(printf, 4, 5))) bool sim_expect(struct sim_run *run, enum sim_property property,
                                                      bool right, const char *format, ...);

/* Called while it runs. */
void sim_check_sent(struct sim_run *run, unsigned who, const void *datagram); /* struct kg_ice_datagram */
void sim_check_selected(struct sim_run *run, unsigned who);
void sim_check_media(struct sim_run *run, unsigned who, uint8_t stream, uint8_t component);
/* Called once it is over. */
void sim_check_end(struct sim_run *run);
bool sim_agree(const struct sim_run *run); /* on every pair; with an aggressive peer: hear each other */
/* Both sides have nothing left to do until somebody moves. */
bool sim_is_settled(const struct sim_run *run);

#endif
