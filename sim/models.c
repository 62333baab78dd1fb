#include "sim/models.h"

#include <string.h>
#include <strings.h>

#include "base/suggest.h"

#define MIB(count) ((uint64_t)(count) << 20)

/* Values of NVML's enums that the table needs. */
enum { BRAND_TESLA = 2, BRAND_NVIDIA = 14 };
enum { VOLTA = 5, TURING = 6, AMPERE = 7, ADA = 8, HOPPER = 9, BLACKWELL = 10 };

/* Packed by hand, so that a model is a dozen lines and not forty. */
/* clang-format off */
const struct sim_model sim_models[] = {
	{
		.spec_name = "A100-40GB", .name = "NVIDIA A100-SXM4-40GB", .brand_code = BRAND_NVIDIA,
		.architecture = AMPERE, .pci_device_id = 0x20B010DE, .pci_subsystem_id = 0x144E10DE,
		.compute_major = 8, .compute_minor = 0, .multiprocessors = 108, .cores = 6912,
		.memory_total = MIB(40960), .memory_reserved = MIB(571), .bar1_total = MIB(65536),
		.memory_bus_bits = 5120, .clock_sm_idle = 210, .clock_memory_idle = 1215, .clock_sm_max = 1410,
		.clock_memory_max = 1215, .clock_video_max = 1290, .power_idle_mw = 52000, .power_limit_mw = 400000,
		.power_min_mw = 100000, .power_max_mw = 400000, .temperature_idle = 29, .temperature_load = 62,
		.temperature_slowdown = 89, .temperature_shutdown = 92, .pcie_generation = 4, .pcie_width = 16,
		.nvlinks = 12, .nvlink_generation = 3, .ecc = true, .mig_capable = true, .display = false,
		.part_number = "692-2G506-0200-002", .vbios = "92.00.19.00.01",
	},
	{
		.spec_name = "A100-80GB", .name = "NVIDIA A100-SXM4-80GB", .brand_code = BRAND_NVIDIA,
		.architecture = AMPERE, .pci_device_id = 0x20B210DE, .pci_subsystem_id = 0x147F10DE,
		.compute_major = 8, .compute_minor = 0, .multiprocessors = 108, .cores = 6912,
		.memory_total = MIB(81920), .memory_reserved = MIB(634), .bar1_total = MIB(131072),
		.memory_bus_bits = 5120, .clock_sm_idle = 210, .clock_memory_idle = 1593, .clock_sm_max = 1410,
		.clock_memory_max = 1593, .clock_video_max = 1290, .power_idle_mw = 61000, .power_limit_mw = 400000,
		.power_min_mw = 100000, .power_max_mw = 400000, .temperature_idle = 31, .temperature_load = 64,
		.temperature_slowdown = 89, .temperature_shutdown = 92, .pcie_generation = 4, .pcie_width = 16,
		.nvlinks = 12, .nvlink_generation = 3, .ecc = true, .mig_capable = true, .display = false,
		.part_number = "692-2G506-0210-002", .vbios = "92.00.45.00.05",
	},
	{
		.spec_name = "A30", .name = "NVIDIA A30", .brand_code = BRAND_NVIDIA, .architecture = AMPERE,
		.pci_device_id = 0x20B710DE, .pci_subsystem_id = 0x153210DE, .compute_major = 8, .compute_minor = 0,
		.multiprocessors = 56, .cores = 3584, .memory_total = MIB(24576), .memory_reserved = MIB(512),
		.bar1_total = MIB(32768), .memory_bus_bits = 3072, .clock_sm_idle = 210, .clock_memory_idle = 1215,
		.clock_sm_max = 1440, .clock_memory_max = 1215, .clock_video_max = 1305, .power_idle_mw = 28000,
		.power_limit_mw = 165000, .power_min_mw = 100000, .power_max_mw = 165000, .temperature_idle = 30,
		.temperature_load = 60, .temperature_slowdown = 90, .temperature_shutdown = 93, .pcie_generation = 4,
		.pcie_width = 16, .nvlinks = 4, .nvlink_generation = 3, .ecc = true, .mig_capable = true,
		.display = false, .part_number = "900-21001-0040-000", .vbios = "92.00.66.00.02",
	},
	{
		.spec_name = "H100-80GB", .name = "NVIDIA H100 80GB HBM3", .brand_code = BRAND_NVIDIA,
		.architecture = HOPPER, .pci_device_id = 0x233010DE, .pci_subsystem_id = 0x16C110DE,
		.compute_major = 9, .compute_minor = 0, .multiprocessors = 132, .cores = 16896,
		.memory_total = MIB(81559), .memory_reserved = MIB(551), .bar1_total = MIB(131072),
		.memory_bus_bits = 5120, .clock_sm_idle = 345, .clock_memory_idle = 2619, .clock_sm_max = 1980,
		.clock_memory_max = 2619, .clock_video_max = 1545, .power_idle_mw = 70000, .power_limit_mw = 700000,
		.power_min_mw = 200000, .power_max_mw = 700000, .temperature_idle = 30, .temperature_load = 66,
		.temperature_slowdown = 87, .temperature_shutdown = 92, .pcie_generation = 5, .pcie_width = 16,
		.nvlinks = 18, .nvlink_generation = 4, .ecc = true, .mig_capable = true, .display = false,
		.part_number = "692-2G520-0200-000", .vbios = "96.00.74.00.01",
	},
	{
		.spec_name = "H200-141GB", .name = "NVIDIA H200", .brand_code = BRAND_NVIDIA, .architecture = HOPPER,
		.pci_device_id = 0x233510DE, .pci_subsystem_id = 0x18BE10DE, .compute_major = 9, .compute_minor = 0,
		.multiprocessors = 132, .cores = 16896, .memory_total = MIB(143771), .memory_reserved = MIB(614),
		.bar1_total = MIB(262144), .memory_bus_bits = 6144, .clock_sm_idle = 345, .clock_memory_idle = 3201,
		.clock_sm_max = 1980, .clock_memory_max = 3201, .clock_video_max = 1545, .power_idle_mw = 76000,
		.power_limit_mw = 700000, .power_min_mw = 200000, .power_max_mw = 700000, .temperature_idle = 30,
		.temperature_load = 66, .temperature_slowdown = 87, .temperature_shutdown = 92, .pcie_generation = 5,
		.pcie_width = 16, .nvlinks = 18, .nvlink_generation = 4, .ecc = true, .mig_capable = true,
		.display = false, .part_number = "692-2G520-0280-000", .vbios = "96.00.BC.00.01",
	},
	{
		.spec_name = "B200-180GB", .name = "NVIDIA B200", .brand_code = BRAND_NVIDIA,
		.architecture = BLACKWELL, .pci_device_id = 0x290110DE, .pci_subsystem_id = 0x199910DE,
		.compute_major = 10, .compute_minor = 0, .multiprocessors = 148, .cores = 18944,
		.memory_total = MIB(183359), .memory_reserved = MIB(723), .bar1_total = MIB(262144),
		.memory_bus_bits = 8192, .clock_sm_idle = 120, .clock_memory_idle = 3996, .clock_sm_max = 1965,
		.clock_memory_max = 3996, .clock_video_max = 1965, .power_idle_mw = 145000,
		.power_limit_mw = 1000000, .power_min_mw = 200000, .power_max_mw = 1000000, .temperature_idle = 32,
		.temperature_load = 68, .temperature_slowdown = 87, .temperature_shutdown = 92, .pcie_generation = 5,
		.pcie_width = 16, .nvlinks = 18, .nvlink_generation = 5, .ecc = true, .mig_capable = true,
		.display = false, .part_number = "692-2G525-0220-000", .vbios = "97.00.82.00.18",
	},
	{
		.spec_name = "L4", .name = "NVIDIA L4", .brand_code = BRAND_NVIDIA, .architecture = ADA,
		.pci_device_id = 0x27B810DE, .pci_subsystem_id = 0x16CA10DE, .compute_major = 8, .compute_minor = 9,
		.multiprocessors = 58, .cores = 7424, .memory_total = MIB(23034), .memory_reserved = MIB(453),
		.bar1_total = MIB(32768), .memory_bus_bits = 192, .clock_sm_idle = 210, .clock_memory_idle = 405,
		.clock_sm_max = 2040, .clock_memory_max = 6251, .clock_video_max = 1770, .power_idle_mw = 12000,
		.power_limit_mw = 72000, .power_min_mw = 40000, .power_max_mw = 72000, .temperature_idle = 35,
		.temperature_load = 70, .temperature_slowdown = 93, .temperature_shutdown = 96, .pcie_generation = 4,
		.pcie_width = 16, .ecc = true, .mig_capable = false, .display = false,
		.part_number = "900-2G193-0000-000", .vbios = "95.04.29.00.06",
	},
	{
		.spec_name = "L40S", .name = "NVIDIA L40S", .brand_code = BRAND_NVIDIA, .architecture = ADA,
		.pci_device_id = 0x26B910DE, .pci_subsystem_id = 0x185110DE, .compute_major = 8, .compute_minor = 9,
		.multiprocessors = 142, .cores = 18176, .memory_total = MIB(46068), .memory_reserved = MIB(598),
		.bar1_total = MIB(65536), .memory_bus_bits = 384, .clock_sm_idle = 210, .clock_memory_idle = 405,
		.clock_sm_max = 2520, .clock_memory_max = 9001, .clock_video_max = 1965, .power_idle_mw = 32000,
		.power_limit_mw = 350000, .power_min_mw = 100000, .power_max_mw = 350000, .temperature_idle = 31,
		.temperature_load = 68, .temperature_slowdown = 88, .temperature_shutdown = 93, .pcie_generation = 4,
		.pcie_width = 16, .ecc = true, .mig_capable = false, .display = false,
		.part_number = "900-2G133-0080-000", .vbios = "95.02.66.00.02",
	},
	{
		.spec_name = "T4", .name = "Tesla T4", .brand_code = BRAND_NVIDIA, .architecture = TURING,
		.pci_device_id = 0x1EB810DE, .pci_subsystem_id = 0x12A210DE, .compute_major = 7, .compute_minor = 5,
		.multiprocessors = 40, .cores = 2560, .memory_total = MIB(15360), .memory_reserved = MIB(430),
		.bar1_total = MIB(256), .memory_bus_bits = 256, .clock_sm_idle = 300, .clock_memory_idle = 405,
		.clock_sm_max = 1590, .clock_memory_max = 5001, .clock_video_max = 1470, .power_idle_mw = 9000,
		.power_limit_mw = 70000, .power_min_mw = 60000, .power_max_mw = 70000, .temperature_idle = 34,
		.temperature_load = 70, .temperature_slowdown = 93, .temperature_shutdown = 96, .pcie_generation = 3,
		.pcie_width = 16, .ecc = true, .mig_capable = false, .display = false,
		.part_number = "900-2G183-0000-001", .vbios = "90.04.38.00.03",
	},
	{
		.spec_name = "V100-32GB", .name = "Tesla V100-SXM2-32GB", .brand_code = BRAND_TESLA,
		.architecture = VOLTA, .pci_device_id = 0x1DB510DE, .pci_subsystem_id = 0x124910DE,
		.compute_major = 7, .compute_minor = 0, .multiprocessors = 80, .cores = 5120,
		.memory_total = MIB(32768), .memory_reserved = MIB(267), .bar1_total = MIB(32768),
		.memory_bus_bits = 4096, .clock_sm_idle = 135, .clock_memory_idle = 877, .clock_sm_max = 1530,
		.clock_memory_max = 877, .clock_video_max = 1372, .power_idle_mw = 42000, .power_limit_mw = 300000,
		.power_min_mw = 150000, .power_max_mw = 300000, .temperature_idle = 34, .temperature_load = 65,
		.temperature_slowdown = 87, .temperature_shutdown = 90, .pcie_generation = 3, .pcie_width = 16,
		.nvlinks = 6, .nvlink_generation = 2, .ecc = true, .mig_capable = false, .display = false,
		.part_number = "900-2G503-0010-000", .vbios = "88.00.48.00.02",
	},
	{
		.spec_name = "RTX-PRO-6000", .name = "NVIDIA RTX PRO 6000 Blackwell Server Edition",
		.brand_code = BRAND_NVIDIA, .architecture = BLACKWELL, .pci_device_id = 0x2BB510DE,
		.pci_subsystem_id = 0x204E10DE, .compute_major = 12, .compute_minor = 0, .multiprocessors = 188,
		.cores = 24064, .memory_total = MIB(97887), .memory_reserved = MIB(635), .bar1_total = MIB(131072),
		.memory_bus_bits = 512, .clock_sm_idle = 180, .clock_memory_idle = 405, .clock_sm_max = 2430,
		.clock_memory_max = 12481, .clock_video_max = 2430, .power_idle_mw = 33000, .power_limit_mw = 600000,
		.power_min_mw = 300000, .power_max_mw = 600000, .temperature_idle = 30, .temperature_load = 70,
		.temperature_slowdown = 90, .temperature_shutdown = 95, .pcie_generation = 5, .pcie_width = 16,
		.ecc = true, .mig_capable = true, .display = false, .part_number = "900-2G153-0000-000",
		.vbios = "98.02.8D.00.01",
	},
};
/* clang-format on */

enum { MODEL_COUNT = sizeof sim_models / sizeof sim_models[0] };
const size_t sim_model_count = MODEL_COUNT;

const struct sim_model *sim_model_by_name(const char *spec_name)
{
	for (size_t i = 0; i < sim_model_count; i++)
		if (strcasecmp(sim_models[i].spec_name, spec_name) == 0)
			return &sim_models[i];
	return NULL;
}

const char *sim_model_suggest(const char *typed)
{
	const char *names[MODEL_COUNT];
	for (size_t i = 0; i < sim_model_count; i++)
		names[i] = sim_models[i].spec_name;
	const char *near = gs_suggest(typed, names, sim_model_count);
	/* "A100", of which there are several sizes. */
	size_t length = strlen(typed);
	for (size_t i = 0; length && !near && i < sim_model_count; i++)
		if (strncasecmp(names[i], typed, length) == 0 && names[i][length] == '-')
			near = names[i];
	return near;
}
