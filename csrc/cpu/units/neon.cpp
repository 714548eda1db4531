#define FNN_UNIT neon
#define FNN_UNIT_NAME "neon"
#include "cpu/unit.h"
