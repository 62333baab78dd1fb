/* Names that processes outside gpushare meet. */
#ifndef GPUSHARE_ABI_H
#define GPUSHARE_ABI_H

/* Set in a container (or by hand) to the ids of the shares it holds, comma separated: "GPU-...::0". A process is
 * traced to its share through it. */
#define GPUSHARE_ENV_SHARES "GPUSHARE_SHARES"
/* The directory of the simulated node a process runs on. */
#define GPUSHARE_ENV_SIM "GPUSHARE_SIM"
/* Where a container of a simulated node has its device nodes: it sees only what it has nodes of. */
#define GPUSHARE_ENV_SIM_DEVICES "GPUSHARE_SIM_DEVICES"

#endif
