#include "obs_protobufs.h"
