// Messages whose C is generated from proto/ (`make proto`).
#pragma once
#include "../otlp.pb-c.h"
