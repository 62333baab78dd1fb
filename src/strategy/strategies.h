/* The sharing strategies that this version can run. */
#ifndef GPUSHARE_STRATEGY_STRATEGIES_H
#define GPUSHARE_STRATEGY_STRATEGIES_H

#include "strategy/life.h"

extern const struct gs_strategy gs_strategy_exclusive;
extern const struct gs_strategy gs_strategy_time_slicing;
extern const struct gs_strategy gs_strategy_mps;

/* For gs_plan_build: exclusive first. */
extern const struct gs_strategy *const gs_strategies[];
extern const size_t gs_strategy_count;

#endif
