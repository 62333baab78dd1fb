/* NVML calls about what a board is: names, numbers, PCI, firmware, modes. */
#include <stdio.h>
#include <string.h>

#include "sim/nvml/library.h"

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, uint32_t length)
{
	NVML_ANY_DEVICE_CALL(call, device, name != NULL);
	char text[NVML_DEVICE_NAME_V2_BUFFER_SIZE];
	snprintf(text, sizeof text, nvml_is_mig(&call) ? "%s MIG %s" : "%s", call.model->name, call.compute.name);
	return nvml_copy_text(name, length, text);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, uint32_t length)
{
	NVML_ANY_DEVICE_CALL(call, device, uuid != NULL);
	if (nvml_is_mig(&call))
		sim_mig_uuid(&call.gpu, call.instance.gpu_instance, call.instance.compute_instance, call.gpu.uuid);
	return nvml_copy_text(uuid, length, call.gpu.uuid);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, uint32_t *index)
{
	NVML_ANY_DEVICE_CALL(call, device, index != NULL);
	if (nvml_is_mig(&call))
		return nvml_mig_index(&call, index);
	uint32_t slots[SIM_GPUS_MAX], count = nvml_present(call.node, slots);
	for (uint32_t i = 0; i < count; i++)
		if (slots[i] == call.slot) {
			*index = i;
			return NVML_SUCCESS;
		}
	return NVML_ERROR_GPU_IS_LOST; /* unplugged since the call began */
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, uint32_t *minor)
{
	NVML_DEVICE_CALL(call, device, minor != NULL);
	*minor = call.gpu.minor;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, uint32_t length)
{
	NVML_DEVICE_CALL(call, device, serial != NULL);
	return nvml_copy_text(serial, length, call.gpu.serial);
}

nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *brand)
{
	NVML_DEVICE_CALL(call, device, brand != NULL);
	*brand = call.model->brand_code;
	return NVML_SUCCESS;
}

/* Boards with one GPU each, so the bus tells them apart. */
nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, uint32_t *id)
{
	NVML_DEVICE_CALL(call, device, id != NULL);
	*id = call.gpu.pci_bus << 8;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, uint32_t *yes)
{
	NVML_DEVICE_CALL(call, device, yes != NULL);
	*yes = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t a, nvmlDevice_t b, int *yes)
{
	NVML_DEVICE_CALL(call, a, b && yes);
	uint32_t slot;
	struct sim_gpu other;
	nvmlReturn_t code = nvml_resolve(call.node, b, &slot, &other);
	if (code == NVML_SUCCESS)
		*yes = slot == call.slot;
	return code;
}

/* Baseboards number their modules from 1; PCIe cards have none. */
nvmlReturn_t nvmlDeviceGetModuleId(nvmlDevice_t device, uint32_t *id)
{
	NVML_DEVICE_CALL(call, device, id != NULL);
	if (call.model->nvlinks < 6)
		return NVML_ERROR_NOT_SUPPORTED;
	*id = call.slot + 1;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char *number, uint32_t length)
{
	NVML_DEVICE_CALL(call, device, number != NULL);
	return nvml_copy_text(number, length, call.model->part_number);
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, uint32_t length)
{
	NVML_DEVICE_CALL(call, device, version != NULL);
	return nvml_copy_text(version, length, call.model->vbios);
}

nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, uint32_t object, char *version, uint32_t length)
{
	NVML_DEVICE_CALL(call, device, version && object < NVML_INFOROM_COUNT);
	if (object == NVML_INFOROM_POWER || object == NVML_INFOROM_DEN ||
	    (object == NVML_INFOROM_ECC && !call.model->ecc))
		return NVML_ERROR_NOT_SUPPORTED;
	if (object == NVML_INFOROM_OEM)
		return nvml_copy_text(version, length,
				      call.model->architecture >= NVML_DEVICE_ARCH_HOPPER ? "2.1" : "2.0");
	return nvml_copy_text(version, length, call.model->architecture >= NVML_DEVICE_ARCH_HOPPER ? "7.16" : "6.16");
}

/* The board's number, which the part number holds too: "G506" of 692-2G506-0210-002. */
nvmlReturn_t nvmlDeviceGetInforomImageVersion(nvmlDevice_t device, char *version, uint32_t length)
{
	NVML_DEVICE_CALL(call, device, version != NULL);
	char text[NVML_DEVICE_INFOROM_VERSION_BUFFER_SIZE];
	const char *board = strchr(call.model->part_number, '-');
	snprintf(text, sizeof text, "%.4s.0200.00.05", board && board[1] ? board + 2 : "0000");
	return nvml_copy_text(version, length, text);
}

nvmlReturn_t nvmlDeviceGetInforomConfigurationChecksum(nvmlDevice_t device, uint32_t *checksum)
{
	NVML_DEVICE_CALL(call, device, checksum != NULL);
	*checksum = call.model->pci_device_id ^ call.model->pci_subsystem_id;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceValidateInforom(nvmlDevice_t device)
{
	NVML_DEVICE_CALL(call, device, true);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *architecture)
{
	NVML_DEVICE_CALL(call, device, architecture != NULL);
	*architecture = call.model->architecture;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	NVML_DEVICE_CALL(call, device, major && minor);
	*major = (int)call.model->compute_major;
	*minor = (int)call.model->compute_minor;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNumGpuCores(nvmlDevice_t device, uint32_t *cores)
{
	NVML_DEVICE_CALL(call, device, cores != NULL);
	*cores = call.model->cores;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t device, uint32_t *bits)
{
	NVML_DEVICE_CALL(call, device, bits != NULL);
	*bits = call.model->memory_bus_bits;
	return NVML_SUCCESS;
}

/* The firmware of the board's own processor exists from Turing on and carries the driver's version. */
nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *version)
{
	NVML_DEVICE_CALL(call, device, version != NULL);
	if (call.model->architecture < NVML_DEVICE_ARCH_TURING)
		return NVML_ERROR_NOT_SUPPORTED;
	return nvml_copy_text(version, NVML_GSP_FIRMWARE_VERSION_BUF_SIZE, sim_node_driver_version(call.node));
}

nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, uint32_t *enabled, uint32_t *by_default)
{
	NVML_DEVICE_CALL(call, device, enabled && by_default);
	*enabled = *by_default = call.model->architecture >= NVML_DEVICE_ARCH_TURING;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIrqNum(nvmlDevice_t device, uint32_t *irq)
{
	NVML_DEVICE_CALL(call, device, irq != NULL);
	*irq = 64 + call.slot;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerSource(nvmlDevice_t device, uint32_t *source)
{
	NVML_DEVICE_CALL(call, device, source != NULL);
	*source = 0; /* mains */
	return NVML_SUCCESS;
}

/* PCI. */

static void legacy_bus_id(const struct sim_gpu *gpu, char text[16])
{
	char whole[NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE];
	nvml_bus_id(gpu, whole);
	memcpy(text, whole + 4, strlen(whole + 4) + 1); /* a domain of 4 digits; simulated ones fit */
}

/* The first release's struct ended after the device id, and the second's busId is not there yet. */
nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	NVML_DEVICE_CALL(call, device, pci != NULL);
	legacy_bus_id(&call.gpu, pci->busIdLegacy);
	pci->domain = call.gpu.pci_domain;
	pci->bus = call.gpu.pci_bus;
	pci->device = call.gpu.pci_device;
	pci->pciDeviceId = call.model->pci_device_id;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	NVML_DEVICE_CALL(call, device, pci != NULL);
	legacy_bus_id(&call.gpu, pci->busIdLegacy);
	pci->domain = call.gpu.pci_domain;
	pci->bus = call.gpu.pci_bus;
	pci->device = call.gpu.pci_device;
	pci->pciDeviceId = call.model->pci_device_id;
	pci->pciSubSystemId = call.model->pci_subsystem_id;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	NVML_DEVICE_CALL(call, device, pci != NULL);
	nvml_fill_pci(&call.gpu, pci);
	return NVML_SUCCESS;
}

void nvml_fill_pci(const struct sim_gpu *gpu, nvmlPciInfo_t *pci)
{
	const struct sim_model *model = &sim_models[gpu->model];
	memset(pci, 0, sizeof *pci);
	legacy_bus_id(gpu, pci->busIdLegacy);
	nvml_bus_id(gpu, pci->busId);
	pci->domain = gpu->pci_domain;
	pci->bus = gpu->pci_bus;
	pci->device = gpu->pci_device;
	pci->pciDeviceId = model->pci_device_id;
	pci->pciSubSystemId = model->pci_subsystem_id;
}

nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_v1_t *pci)
{
	NVML_DEVICE_CALL(call, device, pci != NULL);
	if (!nvml_version_is(pci->version, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	pci->domain = call.gpu.pci_domain;
	pci->bus = call.gpu.pci_bus;
	pci->device = call.gpu.pci_device;
	pci->pciDeviceId = call.model->pci_device_id;
	pci->pciSubSystemId = call.model->pci_subsystem_id;
	pci->baseClass = 0x03; /* a display controller, */
	pci->subClass = 0x02;  /* of the 3D kind */
	nvml_bus_id(&call.gpu, pci->busId);
	return NVML_SUCCESS;
}

/* No fabric of several nodes is simulated. */
nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfo_v2_t *info)
{
	NVML_DEVICE_CALL(call, device, info != NULL);
	return NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t device, uint32_t *type)
{
	NVML_DEVICE_CALL(call, device, type != NULL);
	*type = NVML_BUS_TYPE_PCIE;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t device, uint32_t *generation)
{
	NVML_DEVICE_CALL(call, device, generation != NULL);
	*generation = call.model->pcie_generation;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuMaxPcieLinkGeneration(nvmlDevice_t device, uint32_t *generation)
{
	NVML_DEVICE_CALL(call, device, generation != NULL);
	*generation = call.model->pcie_generation;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device, uint32_t *generation)
{
	NVML_DEVICE_CALL(call, device, generation != NULL);
	*generation = call.model->pcie_generation;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t device, uint32_t *width)
{
	NVML_DEVICE_CALL(call, device, width != NULL);
	*width = call.model->pcie_width;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, uint32_t *width)
{
	NVML_DEVICE_CALL(call, device, width != NULL);
	*width = call.model->pcie_width;
	return NVML_SUCCESS;
}

/* NVML numbers the speeds of the generations 1, 2, ... by the generation. */
nvmlReturn_t nvmlDeviceGetPcieLinkMaxSpeed(nvmlDevice_t device, uint32_t *speed)
{
	NVML_DEVICE_CALL(call, device, speed != NULL);
	*speed = call.model->pcie_generation;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPcieSpeed(nvmlDevice_t device, uint32_t *megabits)
{
	static const uint32_t by_generation[] = {0, 2500, 5000, 8000, 16000, 32000, 64000};
	NVML_DEVICE_CALL(call, device, megabits != NULL);
	if (call.model->pcie_generation >= GS_ARRAY_LENGTH(by_generation))
		return NVML_ERROR_NOT_SUPPORTED;
	*megabits = by_generation[call.model->pcie_generation];
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t device, uint32_t *count)
{
	NVML_DEVICE_CALL(call, device, count != NULL);
	*count = 0;
	return NVML_SUCCESS;
}
