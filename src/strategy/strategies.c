#include "strategy/strategies.h"

#include "base/cleanup.h"

const struct gs_strategy *const gs_strategies[] = {
	&gs_strategy_exclusive,
	&gs_strategy_time_slicing,
	&gs_strategy_mps,
};
const size_t gs_strategy_count = GS_ARRAY_LENGTH(gs_strategies);
