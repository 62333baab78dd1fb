/* What Linux shows of a board in sysfs: DIR/root/sys/bus/pci/devices/ADDRESS is a link to the device below its root bus, as
 * tools that look for the root complex or read the configuration space expect it. */
#include "sim/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "sim/models.h"

enum {
	CONFIG_BYTES = 4096,
	RESOURCES = 7, /* six BARs and the expansion ROM */
	/* Of linux/ioport.h, and of a BAR's low bits. */
	RESOURCE_MEMORY = 0x200,
	RESOURCE_PREFETCH = 0x2000,
	RESOURCE_SIZE_ALIGN = 0x40000,
	RESOURCE_64_BITS = 0x100000,
	BAR_64_BITS = 0x4,
	BAR_PREFETCH = 0x8,
};

/* "0000:07:00.0", as Linux writes it. */
void sim_pci_address(const struct sim_gpu *gpu, char text[SIM_PCI_ADDRESS_SIZE])
{
	snprintf(text, SIM_PCI_ADDRESS_SIZE, "%04x:%02x:%02x.0", gpu->pci_domain & 0xFFFF, gpu->pci_bus & 0xFF,
		 gpu->pci_device & 0x1F);
}

/* Below DIR/root/sys/devices; neighbours are behind the same host bridge. */
static char *device_folder(const struct sim_gpu *gpu)
{
	char address[SIM_PCI_ADDRESS_SIZE];
	sim_pci_address(gpu, address);
	return gs_printf("pci%04x:%02x/%s", gpu->pci_domain & 0xFFFF, gpu->pci_bus & 0xE0, address);
}

/* One region of the board's memory. */
struct bar {
	unsigned number;
	uint64_t start, bytes;
	bool is_wide; /* 64 bits, which takes the next number too, and prefetchable */
};

/* The three regions of a board: its registers, the window to its memory, and a third of 32 MiB. No two boards overlap. */
static void fill_bars(const struct sim_gpu *gpu, struct bar bars[3])
{
	const uint64_t mebibyte = UINT64_C(1) << 20, slot = gpu->minor;
	uint64_t window = sim_models[gpu->model].bar1_total;
	bars[0] = (struct bar){0, 0x90000000 + slot * 32 * mebibyte, 16 * mebibyte, false};
	bars[1] = (struct bar){1, (UINT64_C(0x100) << 32) + slot * (UINT64_C(1) << 39), window, true};
	bars[2] = (struct bar){3, bars[1].start + (UINT64_C(1) << 38), 32 * mebibyte, true};
}

static uint64_t flags_of(const struct bar *bar)
{
	uint64_t flags = RESOURCE_MEMORY | RESOURCE_SIZE_ALIGN;
	return bar->is_wide ? flags | RESOURCE_PREFETCH | RESOURCE_64_BITS | BAR_64_BITS | BAR_PREFETCH : flags;
}

static int write_resource(const char *folder, const struct sim_gpu *gpu, struct gs_error *err)
{
	struct bar bars[3];
	uint64_t lines[RESOURCES][3] = {0};
	GS_AUTO_FREE char *path = gs_printf("%s/resource", folder);
	GS_AUTO_FCLOSE FILE *file = fopen(path, "we");
	if (!file)
		return gs_fail_errno(err, "cannot create %s", path);
	fill_bars(gpu, bars);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(bars); i++) {
		uint64_t *line = lines[bars[i].number];
		line[0] = bars[i].start;
		line[1] = bars[i].start + bars[i].bytes - 1;
		line[2] = flags_of(&bars[i]);
	}
	for (size_t i = 0; i < RESOURCES; i++)
		fprintf(file, "0x%016llx 0x%016llx 0x%016llx\n", (unsigned long long)lines[i][0],
			(unsigned long long)lines[i][1], (unsigned long long)lines[i][2]);
	return fflush(file) == 0 ? 0 : gs_fail_errno(err, "cannot write %s", path);
}

static void put(uint8_t *at, uint32_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t class_of(const struct sim_model *model)
{
	return model->display ? 0x030000 : 0x030200; /* VGA where a monitor can be plugged in, else 3D controller */
}

/* The header of PCI's configuration space; there are no capabilities behind it. */
static int write_config(const char *folder, const struct sim_gpu *gpu, struct gs_error *err)
{
	enum { IDS = 0x00, COMMAND = 0x04, REVISION = 0x08, CLASS = 0x09, BARS = 0x10, SUBSYSTEM = 0x2C };
	enum { MEMORY_AND_MASTER = 0x6, REVISION_A1 = 0xA1 };
	const struct sim_model *model = &sim_models[gpu->model];
	uint8_t config[CONFIG_BYTES] = {0};
	struct bar bars[3];
	GS_AUTO_FREE char *path = gs_printf("%s/config", folder);
	put(config + IDS, model->pci_device_id, 4); /* vendor, then device */
	put(config + COMMAND, MEMORY_AND_MASTER, 2);
	put(config + REVISION, REVISION_A1, 1);
	put(config + CLASS, class_of(model), 3);
	put(config + SUBSYSTEM, model->pci_subsystem_id, 4);
	fill_bars(gpu, bars);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(bars); i++) {
		uint8_t *at = config + BARS + 4 * bars[i].number;
		put(at, (uint32_t)bars[i].start | (bars[i].is_wide ? BAR_64_BITS | BAR_PREFETCH : 0), 4);
		if (bars[i].is_wide)
			put(at + 4, (uint32_t)(bars[i].start >> 32), 4);
	}
	GS_AUTO_FCLOSE FILE *file = fopen(path, "we");
	if (!file)
		return gs_fail_errno(err, "cannot create %s", path);
	bool written = fwrite(config, sizeof config, 1, file) == 1 && fflush(file) == 0;
	return written ? 0 : gs_fail_errno(err, "cannot write %s", path);
}

__attribute__((format(printf, 4, 5))) static int write_line(const char *folder, const char *name, struct gs_error *err,
							    const char *format, ...)
{
	char text[32];
	GS_AUTO_FREE char *path = gs_printf("%s/%s", folder, name);
	GS_AUTO_FCLOSE FILE *file = fopen(path, "we");
	if (!file)
		return gs_fail_errno(err, "cannot create %s", path);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	return fprintf(file, "%s\n", text) > 0 && fflush(file) == 0 ? 0 : gs_fail_errno(err, "cannot write %s", path);
}

int sim_pci_add(const char *dir, const struct sim_gpu *gpu, struct gs_error *err)
{
	const struct sim_model *model = &sim_models[gpu->model];
	char address[SIM_PCI_ADDRESS_SIZE];
	GS_AUTO_FREE char *device = device_folder(gpu);
	GS_AUTO_FREE char *folder = gs_printf("%s/root/sys/devices/%s", dir, device);
	GS_AUTO_FREE char *target = gs_printf("../../../devices/%s", device);
	sim_pci_address(gpu, address);
	GS_AUTO_FREE char *link = gs_printf("%s/root/sys/bus/pci/devices/%s", dir, address);
	if (gs_make_directories(folder, 0755, err) < 0 ||
	    write_line(folder, "numa_node", err, "%d", gpu->numa_node) < 0 ||
	    write_line(folder, "vendor", err, "0x%04x", model->pci_device_id & 0xFFFF) < 0 ||
	    write_line(folder, "device", err, "0x%04x", model->pci_device_id >> 16) < 0 ||
	    write_line(folder, "subsystem_vendor", err, "0x%04x", model->pci_subsystem_id & 0xFFFF) < 0 ||
	    write_line(folder, "subsystem_device", err, "0x%04x", model->pci_subsystem_id >> 16) < 0 ||
	    write_line(folder, "class", err, "0x%06x", class_of(model)) < 0 || write_resource(folder, gpu, err) < 0 ||
	    write_config(folder, gpu, err) < 0)
		return -1;
	return symlink(target, link) == 0 || errno == EEXIST ? 0 : gs_fail_errno(err, "cannot create %s", link);
}

void sim_pci_remove(const char *dir, const struct sim_gpu *gpu)
{
	char address[SIM_PCI_ADDRESS_SIZE];
	GS_AUTO_FREE char *device = device_folder(gpu);
	GS_AUTO_FREE char *folder = gs_printf("%s/root/sys/devices/%s", dir, device);
	sim_pci_address(gpu, address);
	GS_AUTO_FREE char *link = gs_printf("%s/root/sys/bus/pci/devices/%s", dir, address);
	unlink(link);
	sim_remove_tree(folder, NULL);
}
