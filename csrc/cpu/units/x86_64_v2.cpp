#define FNN_UNIT x86_64_v2
#define FNN_UNIT_NAME "x86-64-v2"
#include "cpu/unit.h"
