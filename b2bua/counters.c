#include "b2bua/server.h"

struct kg_counters kg_counters;
