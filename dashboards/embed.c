#include "dashboards.h"
