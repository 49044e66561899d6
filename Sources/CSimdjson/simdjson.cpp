#include "obs_simdjson.h"
