/* A simulated node for a test, and NVML begun on it. */
#ifndef TESTS_SIM_NVML_NODE_H
#define TESTS_SIM_NVML_NODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gpushare/nvml.h"
#include "sim/mig.h"
#include "sim/state.h"

/* The node that the running test works on; GPUSHARE_SIM names it. */
extern struct sim_node *node;

/* Makes a node of SPEC, with the driver version of $NODE_DRIVER if set, and calls nvmlInit_v2. cmocka fixtures for the usual ones: node_begin has 2 A100-80GB. */
void node_make(const char *spec);
int node_begin(void **state);
/* Shuts NVML down as often as it was begun, and removes the node. */
int node_end(void **state);

nvmlDevice_t node_device(unsigned index);
/* This process, as a client of GPU `gpu` with `mib` MiB; returns its slot. */
int node_client(unsigned gpu, enum sim_client_kind kind, uint64_t mib);

#endif
