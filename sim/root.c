/* The files of a simulated node: what a driver would put in /dev, /proc and /sys, under DIR/root. */
#include "sim/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "sim/models.h"

enum { PCI_ADDRESS_SIZE = 32 };

/* "0000:07:00.0", as Linux writes it. */
static void pci_address(const struct sim_gpu *gpu, char text[PCI_ADDRESS_SIZE])
{
	snprintf(text, PCI_ADDRESS_SIZE, "%04x:%02x:%02x.0", gpu->pci_domain & 0xFFFF, gpu->pci_bus & 0xFF,
		 gpu->pci_device & 0x1F);
}

/* Creates the directory and those above it, below `dir`. */
static int make_directories(const char *dir, const char *below, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, below);
	for (char *slash = strchr(path + strlen(dir) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return gs_fail_errno(err, "cannot create %s", path);
		*slash = '/';
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return gs_fail_errno(err, "cannot create %s", path);
	return 0;
}

__attribute__((format(printf, 4, 5))) static int write_file(const char *directory, const char *name,
							    struct gs_error *err, const char *format, ...)
{
	GS_AUTO_FREE char *path = gs_printf("%s/%s", directory, name);
	GS_AUTO_FCLOSE FILE *file = fopen(path, "we");
	if (!file)
		return gs_fail_errno(err, "cannot create %s", path);
	va_list args;
	va_start(args, format);
	vfprintf(file, format, args);
	va_end(args);
	if (fflush(file) != 0)
		return gs_fail_errno(err, "cannot write %s", path);
	return 0;
}

/* A device node that can be opened by anybody and does nothing, or a plain file where nodes cannot be made. */
static int make_device(const char *dir, const char *name, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/root/dev/%s", dir, name);
	if (mknod(path, S_IFCHR | 0666, makedev(1, 3)) == 0) {
		if (chmod(path, 0666) == 0)
			return 0;
		return gs_fail_errno(err, "cannot open %s to all", path);
	}
	if (errno == EEXIST)
		return 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return gs_fail_errno(err, "cannot create %s", path);
	close(fd);
	return 0;
}

static int add_proc(const char *dir, const char *address, const struct sim_state *state, const struct sim_gpu *gpu,
		    struct gs_error *err)
{
	const struct sim_model *model = &sim_models[gpu->model];
	GS_AUTO_FREE char *below = gs_printf("root/proc/driver/nvidia/gpus/%s", address);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, below);
	if (make_directories(dir, below, err) < 0)
		return -1;
	return write_file(path, "information", err,
			  "Model: \t\t %s\n"
			  "IRQ:   \t\t %u\n"
			  "GPU UUID: \t %s\n"
			  "Video BIOS: \t %s\n"
			  "Bus Type: \t PCIe\n"
			  "DMA Size: \t 47 bits\n"
			  "DMA Mask: \t 0x7fffffffffff\n"
			  "Bus Location: \t %s\n"
			  "Device Minor: \t %u\n"
			  "GPU Excluded:\t No\n",
			  model->name, 64 + gpu->minor, gpu->uuid, model->vbios, address, gpu->minor);
}

static int add_sysfs(const char *dir, const char *address, const struct sim_gpu *gpu, struct gs_error *err)
{
	const struct sim_model *model = &sim_models[gpu->model];
	GS_AUTO_FREE char *below = gs_printf("root/sys/bus/pci/devices/%s", address);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, below);
	if (make_directories(dir, below, err) < 0 || write_file(path, "numa_node", err, "%d\n", gpu->numa_node) < 0 ||
	    write_file(path, "vendor", err, "0x%04x\n", model->pci_device_id & 0xFFFF) < 0 ||
	    write_file(path, "device", err, "0x%04x\n", model->pci_device_id >> 16) < 0 ||
	    write_file(path, "subsystem_vendor", err, "0x%04x\n", model->pci_subsystem_id & 0xFFFF) < 0 ||
	    write_file(path, "subsystem_device", err, "0x%04x\n", model->pci_subsystem_id >> 16) < 0)
		return -1;
	/* 3D controller, or VGA where a monitor can be plugged in. */
	return write_file(path, "class", err, "0x%06x\n", model->display ? 0x030000 : 0x030200);
}

int sim_root_add_gpu(const char *dir, const struct sim_state *state, const struct sim_gpu *gpu, struct gs_error *err)
{
	char address[PCI_ADDRESS_SIZE], name[32];
	pci_address(gpu, address);
	snprintf(name, sizeof name, "nvidia%u", gpu->minor);
	if (make_device(dir, name, err) < 0 || add_proc(dir, address, state, gpu, err) < 0)
		return -1;
	return add_sysfs(dir, address, gpu, err);
}

/* As on a real node the device node stays: nothing removes those when a board goes. */
void sim_root_remove_gpu(const char *dir, const struct sim_gpu *gpu)
{
	static const char *const trees[] = {"proc/driver/nvidia/gpus", "sys/bus/pci/devices"};
	char address[PCI_ADDRESS_SIZE];
	pci_address(gpu, address);
	for (size_t i = 0; i < GS_ARRAY_LENGTH(trees); i++) {
		GS_AUTO_FREE char *path = gs_printf("%s/root/%s/%s", dir, trees[i], address);
		sim_remove_tree(path, NULL);
	}
}

int sim_root_create(const char *dir, const struct sim_state *state, struct gs_error *err)
{
	static const char *const directories[] = {"root/dev", "root/proc/driver/nvidia/gpus",
						  "root/sys/bus/pci/devices"};
	static const char *const devices[] = {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"};
	GS_AUTO_FREE char *root = gs_printf("%s/root", dir);
	GS_AUTO_FREE char *driver = gs_printf("%s/root/proc/driver/nvidia", dir);
	if (sim_remove_tree(root, err) < 0)
		return -1;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(directories); i++)
		if (make_directories(dir, directories[i], err) < 0)
			return -1;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(devices); i++)
		if (make_device(dir, devices[i], err) < 0)
			return -1;
	if (write_file(driver, "version", err,
		       "NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  simulated by gpushare\n"
		       "GCC version:  gcc version 12.2.0 (simulated)\n",
		       state->driver_version) < 0)
		return -1;
	for (uint32_t i = 0; i < sim_slots(state); i++)
		if (sim_root_add_gpu(dir, state, &state->gpus[i], err) < 0)
			return -1;
	return 0;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
	return remove(path);
}

int sim_remove_tree(const char *path, struct gs_error *err)
{
	if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT)
		return gs_fail_errno(err, "cannot remove %s", path);
	return 0;
}
