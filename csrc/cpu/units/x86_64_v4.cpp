#define FNN_UNIT x86_64_v4
#define FNN_UNIT_NAME "x86-64-v4"
#include "cpu/unit.h"
