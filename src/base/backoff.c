#include "base/backoff.h"

unsigned gs_backoff_ms(unsigned first_ms, unsigned most_ms, unsigned failures)
{
	unsigned pause_ms = first_ms;
	for (; failures > 0 && pause_ms > 0 && pause_ms < most_ms; failures--)
		pause_ms = pause_ms <= most_ms / 2 ? pause_ms * 2 : most_ms;
	return pause_ms < most_ms ? pause_ms : most_ms;
}
