#define FNN_UNIT x86_64_v3
#define FNN_UNIT_NAME "x86-64-v3"
#include "cpu/unit.h"
