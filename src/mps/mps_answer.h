/* The answers of nvidia-cuda-mps-control, as R550 prints them. Another program may listen at the socket and answer
 * anything. */
#ifndef GPUSHARE_MPS_ANSWER_H
#define GPUSHARE_MPS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

/* `get_server_list`: one pid a line, up to the first line that is none. How many are in `servers`, at most `most`. */
size_t mps_answer_servers(const char *output, int *servers, size_t most);
/* Whether the last line is this percentage: each set command answers with what holds then, as the question does. */
bool mps_answer_has_percentage(const char *output, unsigned percentage);
/* `get_server_status` of some servers: whether one of them is in FAULT. */
bool mps_answer_has_fault(const char *output);
/* The first line of the program's output, for a reason: plain UTF-8. Returns `line`, or a sentence when there was no
 * output. */
const char *mps_answer_line(const char *output, char *line, size_t size);

#endif
