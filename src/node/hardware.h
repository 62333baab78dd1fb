/* Whether the machine has a GPU of NVIDIA's at all, told without a driver. */
#ifndef GPUSHARE_NODE_HARDWARE_H
#define GPUSHARE_NODE_HARDWARE_H

#include <stdbool.h>

/* Where Linux lists the PCI devices, a folder each with the files `vendor` and `class` ("0x10de", "0x030200"). */
#define NODE_DEFAULT_PCI_DIR "/sys/bus/pci/devices"

/* False when `pci_dir` lists devices and none of them is a display or 3D controller of NVIDIA's. True when there is
 * one, and when it can't be known: the folder is not there or empty, as in a virtual machine whose GPU is no PCI device
 * (WSL). */
bool node_may_have_gpu(const char *pci_dir);

#endif
