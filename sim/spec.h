/* The spec of a simulated node, as a user writes it. */
#ifndef GPUSHARE_SIM_SPEC_H
#define GPUSHARE_SIM_SPEC_H

#include <stddef.h>

#include "sim/state.h"

/* "[N x]MODEL[,...]", blanks allowed between the parts: "8xA100-80GB", "2xH100-80GB, T4". Fills `spec`'s groups and
 * leaves its other members. Errors name the character (1 is the first) and suggest a model. */
int sim_spec_parse(const char *text, struct sim_spec *spec, struct gs_error *err);

/* A YAML document with the keys gpus, driverVersion and seed (docs/simulator.md). `file` is the name for errors, which
 * are "file:line:column: what; how to fix it". `text` may hold any bytes. */
int sim_spec_parse_yaml(const char *text, size_t length, const char *file, struct sim_spec *spec, struct gs_error *err);

/* What the command line gives: a path to a YAML file if it has a '/' or ends in .yaml or .yml, else a SPEC. */
int sim_spec_load(const char *argument, struct sim_spec *spec, struct gs_error *err);

/* A driver's version: two to four dotted numbers, "550.163.01". */
int sim_spec_set_driver_version(const char *text, struct sim_spec *spec, struct gs_error *err);
/* Every GPU that has MIG starts with this layout (sim/mig.h); fails when no group has MIG, or one lacks a profile. */
int sim_spec_set_mig(const char *layout, struct sim_spec *spec, struct gs_error *err);
/* A decimal number up to 2^64 - 1. */
int sim_spec_set_seed(const char *text, struct sim_spec *spec, struct gs_error *err);

#endif
