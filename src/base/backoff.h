/* How long to wait before the next attempt after a failure. */
#ifndef GPUSHARE_BASE_BACKOFF_H
#define GPUSHARE_BASE_BACKOFF_H

/* The pause after a failure: `first_ms` after the first one, twice as long after each further one, `most_ms` at most.
 * `failures` is how many there were in a row before this one, so that a success sets the caller's count to 0:
 *
 *     wait(gs_backoff_ms(100, 5000, thing->failures++));
 */
unsigned gs_backoff_ms(unsigned first_ms, unsigned most_ms, unsigned failures);

#endif
