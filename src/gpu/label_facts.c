#include "gpu/label_facts.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

enum {
	PCI_CONFIG_BYTES = 4096,
	PCI_VENDOR_NVIDIA = 0x10de,
	PCI_STATUS = 0x06, /* of the configuration space (PCI Local Bus Specification 3.0, section 6.2) */
	PCI_STATUS_CAPABILITIES = 0x10,
	PCI_CAPABILITIES = 0x34,
	PCI_CAPABILITY_VENDOR = 0x09,
	VGPU_RECORDS = 5, /* where they begin in the capability */
	VGPU_TEXT = 10,
};

/* Printable text of at most VGPU_TEXT bytes. */
static void take_text(const uint8_t *bytes, char text[16])
{
	size_t length = 0;
	while (length < VGPU_TEXT && isgraph(bytes[length])) {
		text[length] = (char)bytes[length];
		length++;
	}
	text[length] = '\0';
}

/* One vendor-specific capability. */
static bool read_records(const uint8_t *capability, size_t length, char version[16], char branch[16])
{
	if (length < VGPU_RECORDS || capability[3] != 'V' || capability[4] != 'F')
		return false;
	for (size_t at = VGPU_RECORDS; at + 2 <= length;) {
		if (capability[at] == 0) {
			if (at + 2 + 2 * VGPU_TEXT > length)
				return false;
			take_text(capability + at + 2, version);
			take_text(capability + at + 2 + VGPU_TEXT, branch);
			return true;
		}
		if (capability[at + 1] == 0)
			return false;
		at += capability[at + 1];
	}
	return false;
}

bool gs_vgpu_host_driver(const uint8_t *config, size_t length, char version[16], char branch[16])
{
	version[0] = branch[0] = '\0';
	if (length < 256 || !(config[PCI_STATUS] & PCI_STATUS_CAPABILITIES))
		return false;
	size_t at = config[PCI_CAPABILITIES];
	/* The list is in the first 256 bytes, four bytes each at the least: a longer one runs in circles. */
	for (unsigned i = 0; i < 64 && at >= 0x40 && at + 3 <= 256; i++) {
		size_t size = config[at + 2] < 256 - at ? config[at + 2] : 256 - at;
		if (config[at] == PCI_CAPABILITY_VENDOR && read_records(config + at, size, version, branch))
			return true;
		at = config[at + 1];
	}
	return false;
}

/* The folder of an NVIDIA device in sysfs, owned by the caller; NULL when there is none (a simulated node shares the host's
 * /sys). NVML writes "00000000:3B:00.0", sysfs "0000:3b:00.0". */
static char *sysfs_folder(const char *sysfs, const char *bus_id)
{
	size_t length = strlen(bus_id), read;
	if (length < 12)
		return NULL;
	char address[16];
	snprintf(address, sizeof address, "%s", bus_id + length - 12);
	for (char *c = address; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	char *folder = gs_printf("%s/bus/pci/devices/%s", sysfs, address);
	GS_AUTO_FREE char *path = gs_printf("%s/vendor", folder);
	GS_AUTO_FREE char *vendor = gs_read_file(path, 64, &read, NULL);
	if (vendor && strtol(vendor, NULL, 0) == PCI_VENDOR_NVIDIA)
		return folder;
	free(folder);
	return NULL;
}

static uint32_t class_from_sysfs(const char *folder)
{
	size_t length;
	GS_AUTO_FREE char *path = gs_printf("%s/class", folder);
	GS_AUTO_FREE char *text = gs_read_file(path, 64, &length, NULL);
	return text ? (uint32_t)strtoul(text, NULL, 0) & 0xffffff : 0;
}

/* Older drivers than 550 do not tell through NVML. */
static uint32_t read_class(const struct gs_nvml *nvml, nvmlDevice_t device, const char *folder)
{
	nvmlPciInfoExt_v1_t pci = {.version = nvmlPciInfoExt_v1};
	uint32_t class = folder ? class_from_sysfs(folder) : 0;
	if (!class && device && GS_NVML(nvml, DeviceGetPciInfoExt, device, &pci) == NVML_SUCCESS)
		class = (pci.baseClass & 0xff) << 16 | (pci.subClass & 0xff) << 8;
	return class;
}

static void read_fabric(const struct gs_nvml *nvml, nvmlDevice_t device, struct gs_gpu_facts *facts)
{
	nvmlGpuFabricInfo_v2_t info = {.version = nvmlGpuFabricInfo_v2};
	if (GS_NVML(nvml, DeviceGetGpuFabricInfoV, device, &info) != NVML_SUCCESS || info.status != NVML_SUCCESS ||
	    info.state != NVML_GPU_FABRIC_STATE_COMPLETED)
		return;
	const uint8_t *b = info.clusterUuid;
	facts->fabric = true;
	facts->fabric_clique = info.cliqueId;
	snprintf(facts->fabric_cluster, sizeof facts->fabric_cluster,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4],
		 b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static void read_gpu(const struct gs_nvml *nvml, const char *sysfs, const struct gs_gpu *gpu,
		     const struct gs_label_facts *previous, struct gs_gpu_facts *facts, struct gs_label_facts *all)
{
	nvmlDevice_t device;
	uint32_t mode = NVML_GPU_VIRTUALIZATION_MODE_NONE;
	memcpy(facts->uuid, gpu->uuid, sizeof facts->uuid);
	if (GS_NVML(nvml, DeviceGetHandleByUUID, gpu->uuid, &device) != NVML_SUCCESS) {
		device = NULL;
		const struct gs_gpu_facts *before = gs_label_facts_of_gpu(previous, gpu->uuid);
		if (before)
			*facts = *before;
	}
	GS_AUTO_FREE char *folder = sysfs_folder(sysfs, gpu->pci_bus_id);
	uint32_t class = read_class(nvml, device, folder);
	if (class)
		facts->pci_class = class;
	if (device) {
		read_fabric(nvml, device, facts);
		facts->vgpu = GS_NVML(nvml, DeviceGetVirtualizationMode, device, &mode) == NVML_SUCCESS &&
			      mode == NVML_GPU_VIRTUALIZATION_MODE_VGPU;
	}
	char version[16], branch[16];
	size_t length;
	GS_AUTO_FREE char *path = folder ? gs_printf("%s/config", folder) : NULL;
	GS_AUTO_FREE char *config = path ? gs_read_file(path, PCI_CONFIG_BYTES, &length, NULL) : NULL;
	if (!config || !gs_vgpu_host_driver((const uint8_t *)config, length, version, branch))
		return;
	facts->vgpu = true;
	/* One hypervisor has one driver; should GPUs disagree, the greater text stands, whatever their order. */
	if (strcmp(version, all->vgpu_host_driver_version) > 0) {
		memcpy(all->vgpu_host_driver_version, version, sizeof version);
		memcpy(all->vgpu_host_driver_branch, branch, sizeof branch);
	}
}

static void read_mig(const struct gs_nvml *nvml, const struct gs_device *device, const struct gs_label_facts *previous,
		     struct gs_label_facts *facts)
{
	nvmlDevice_t handle;
	nvmlDeviceAttributes_t attributes = {0};
	if (GS_NVML(nvml, DeviceGetHandleByUUID, device->uuid, &handle) != NVML_SUCCESS ||
	    GS_NVML(nvml, DeviceGetAttributes, handle, &attributes) != NVML_SUCCESS) {
		const struct gs_mig_facts *before = gs_label_facts_of_mig(previous, device->uuid);
		if (before)
			facts->mig[facts->mig_count++] = *before;
		return;
	}
	struct gs_mig_facts *mig = &facts->mig[facts->mig_count++];
	*mig = (struct gs_mig_facts){
		.multiprocessors = attributes.multiprocessorCount,
		.slices_gi = attributes.gpuInstanceSliceCount,
		.slices_ci = attributes.computeInstanceSliceCount,
		.engines_copy = attributes.sharedCopyEngineCount,
		.engines_decoder = attributes.sharedDecoderCount,
		.engines_encoder = attributes.sharedEncoderCount,
		.engines_jpeg = attributes.sharedJpegCount,
		.engines_ofa = attributes.sharedOfaCount,
		.memory_mib = attributes.memorySizeMB,
	};
	memcpy(mig->uuid, device->uuid, sizeof mig->uuid);
}

void gs_label_facts_read(const struct gs_nvml *nvml, const char *sysfs, const struct gs_inventory *inventory,
			 const struct gs_label_facts *previous, struct gs_label_facts *facts)
{
	if (GS_NVML(nvml, SystemGetDriverVersion, facts->driver_version, sizeof facts->driver_version) != NVML_SUCCESS)
		facts->driver_version[0] = '\0';
	facts->driver_version[sizeof facts->driver_version - 1] = '\0';
	if (GS_NVML(nvml, SystemGetCudaDriverVersion, &facts->cuda_version) != NVML_SUCCESS)
		facts->cuda_version = 0;
	facts->gpus = gs_calloc(inventory->gpu_count, sizeof *facts->gpus);
	facts->mig = gs_calloc(inventory->device_count, sizeof *facts->mig);
	facts->gpu_count = inventory->gpu_count;
	for (size_t i = 0; i < inventory->gpu_count; i++)
		read_gpu(nvml, sysfs, &inventory->gpus[i], previous, &facts->gpus[i], facts);
	for (size_t i = 0; i < inventory->device_count; i++)
		if (inventory->devices[i].mig)
			read_mig(nvml, &inventory->devices[i], previous, facts);
}
