#define FNN_UNIT baseline
#define FNN_UNIT_NAME "baseline"
#include "cpu/unit.h"
