/* The words that may stand next on a command line: the answer to a shell's script. */
#ifndef GPUSHARE_CLI_COMPLETION_H
#define GPUSHARE_CLI_COMPLETION_H

/* Runs the hidden command __complete with what follows its name (completion.c says how it answers). An exit code. */
int gs_complete(int count, char **words);

#endif
