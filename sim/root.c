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

/* A device node that any user can open and that does nothing, or a plain file where nodes cannot be made. */
static int make_device(const char *dir, const char *name, mode_t mode, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/root/dev/%s", dir, name);
	if (mknod(path, S_IFCHR | mode, makedev(1, 3)) == 0) {
		if (chmod(path, mode) == 0)
			return 0;
		return gs_fail_errno(err, "cannot open %s to all", path);
	}
	if (errno == EEXIST)
		return 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
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

int sim_root_add_gpu(const char *dir, const struct sim_state *state, const struct sim_gpu *gpu, struct gs_error *err)
{
	char address[SIM_PCI_ADDRESS_SIZE], name[32];
	sim_pci_address(gpu, address);
	snprintf(name, sizeof name, "nvidia%u", gpu->minor);
	if (make_device(dir, name, 0666, err) < 0 || add_proc(dir, address, state, gpu, err) < 0)
		return -1;
	return sim_pci_add(dir, gpu, err);
}

/* MIG's capabilities: a file tells the minor number of the device that grants the right, and what may open that. */
enum { CAP_MODE_CONFIG = 0400, CAP_MODE = 0444 };

static int write_cap(const char *directory, const char *name, uint32_t minor, mode_t mode, struct gs_error *err)
{
	return write_file(directory, name, err, "DeviceFileMinor: %u\nDeviceFileMode: %u\nDeviceFileModify: 1\n", minor,
			  (unsigned)mode);
}

/* Below DIR: the folder of a GPU's instances, of a GPU instance, or of a compute instance. */
static char *cap_folder(const struct sim_gpu *gpu, uint32_t gpu_instance, uint32_t compute_instance)
{
	char *below = gs_printf("root/proc/driver/nvidia/capabilities/gpu%u/mig", gpu->minor);
	if (gpu_instance != SIM_MIG_NONE) {
		GS_AUTO_FREE char *parent = below;
		below = gs_printf("%s/gi%u", parent, gpu_instance);
	}
	if (compute_instance != SIM_MIG_NONE) {
		GS_AUTO_FREE char *parent = below;
		below = gs_printf("%s/ci%u", parent, compute_instance);
	}
	return below;
}

void sim_root_set_mig(const char *dir, const struct sim_gpu *gpu, bool enabled)
{
	GS_AUTO_FREE char *below = cap_folder(gpu, SIM_MIG_NONE, SIM_MIG_NONE);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, below);
	if (enabled)
		make_directories(dir, below, NULL);
	else
		sim_remove_tree(path, NULL);
}

/* Where an instance's folder waits while there is no such instance: on a disk, making and removing folders takes longer
 * than everything else that a change of instances does. What is in it never changes. */
static char *waiting_folder(const char *dir, const struct sim_gpu *gpu, uint32_t gpu_instance,
			    uint32_t compute_instance)
{
	return gs_printf("%s/root/.instances/%u", dir, sim_mig_cap_minor(gpu->minor, gpu_instance, compute_instance));
}

void sim_root_add_instance(const char *dir, const struct sim_gpu *gpu, uint32_t gpu_instance, uint32_t compute_instance)
{
	GS_AUTO_FREE char *below = cap_folder(gpu, gpu_instance, compute_instance);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, below);
	GS_AUTO_FREE char *waiting = waiting_folder(dir, gpu, gpu_instance, compute_instance);
	uint32_t minor = sim_mig_cap_minor(gpu->minor, gpu_instance, compute_instance);
	char device[48];
	if (rename(waiting, path) == 0)
		return;
	snprintf(device, sizeof device, "nvidia-caps/nvidia-cap%u", minor);
	if (make_directories(dir, below, NULL) == 0)
		write_cap(path, "access", minor, CAP_MODE, NULL);
	make_device(dir, device, CAP_MODE, NULL);
}

/* The device node stays, as nothing removes those on a real node. */
void sim_root_remove_instance(const char *dir, const struct sim_gpu *gpu, uint32_t gpu_instance,
			      uint32_t compute_instance)
{
	GS_AUTO_FREE char *below = cap_folder(gpu, gpu_instance, compute_instance);
	GS_AUTO_FREE char *path = gs_printf("%s/%s", dir, below);
	GS_AUTO_FREE char *waiting = waiting_folder(dir, gpu, gpu_instance, compute_instance);
	if (rename(path, waiting) < 0)
		sim_remove_tree(path, NULL);
}

/* Every capability that the driver can have, whatever instances there are. */
static int write_minors(const char *dir, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/root/proc/driver/nvidia-caps/mig-minors", dir);
	GS_AUTO_FCLOSE FILE *file = fopen(path, "we");
	if (!file)
		return gs_fail_errno(err, "cannot create %s", path);
	fprintf(file, "config %d\nmonitor %d\n", SIM_MIG_CAP_CONFIG, SIM_MIG_CAP_MONITOR);
	for (uint32_t gpu = 0; gpu < SIM_GPUS_MAX; gpu++)
		for (uint32_t gi = 0; gi < SIM_MIG_INSTANCES_MAX; gi++) {
			fprintf(file, "gpu%u/gi%u/access %u\n", gpu, gi, sim_mig_cap_minor(gpu, gi, SIM_MIG_NONE));
			for (uint32_t ci = 0; ci < SIM_MIG_COMPUTES_MAX; ci++)
				fprintf(file, "gpu%u/gi%u/ci%u/access %u\n", gpu, gi, ci,
					sim_mig_cap_minor(gpu, gi, ci));
		}
	return fflush(file) == 0 ? 0 : gs_fail_errno(err, "cannot write %s", path);
}

static int add_caps(const char *dir, struct gs_error *err)
{
	GS_AUTO_FREE char *path = gs_printf("%s/root/proc/driver/nvidia/capabilities/mig", dir);
	GS_AUTO_FREE char *proc = gs_printf("%s/root/proc", dir);
	if (write_minors(dir, err) < 0 || write_cap(path, "config", SIM_MIG_CAP_CONFIG, CAP_MODE_CONFIG, err) < 0 ||
	    write_cap(path, "monitor", SIM_MIG_CAP_MONITOR, CAP_MODE, err) < 0 ||
	    make_device(dir, "nvidia-caps/nvidia-cap1", CAP_MODE_CONFIG, err) < 0 ||
	    make_device(dir, "nvidia-caps/nvidia-cap2", CAP_MODE, err) < 0)
		return -1;
	/* Tools look the major numbers up here. */
	return write_file(proc, "devices", err,
			  "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n236 nvidia-caps\n"
			  "508 nvidia-uvm\n\nBlock devices:\n");
}

/* As on a real node the device node stays: nothing removes those when a board goes. */
void sim_root_remove_gpu(const char *dir, const struct sim_gpu *gpu)
{
	char address[SIM_PCI_ADDRESS_SIZE];
	sim_pci_address(gpu, address);
	GS_AUTO_FREE char *proc = gs_printf("%s/root/proc/driver/nvidia/gpus/%s", dir, address);
	sim_root_set_mig(dir, gpu, false);
	sim_remove_tree(proc, NULL);
	sim_pci_remove(dir, gpu);
}

int sim_root_create(const char *dir, const struct sim_state *state, struct gs_error *err)
{
	static const char *const directories[] = {
		"root/.instances",
		"root/dev/nvidia-caps",
		"root/proc/driver/nvidia/gpus",
		"root/proc/driver/nvidia/capabilities/mig",
		"root/proc/driver/nvidia-caps",
		"root/sys/bus/pci/devices",
	};
	static const char *const devices[] = {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"};
	GS_AUTO_FREE char *root = gs_printf("%s/root", dir);
	GS_AUTO_FREE char *driver = gs_printf("%s/root/proc/driver/nvidia", dir);
	if (sim_remove_tree(root, err) < 0)
		return -1;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(directories); i++)
		if (make_directories(dir, directories[i], err) < 0)
			return -1;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(devices); i++)
		if (make_device(dir, devices[i], 0666, err) < 0)
			return -1;
	if (write_file(driver, "version", err,
		       "NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  simulated by gpushare\n"
		       "GCC version:  gcc version 12.2.0 (simulated)\n",
		       state->driver_version) < 0 ||
	    add_caps(dir, err) < 0)
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
