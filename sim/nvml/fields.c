/* NVML field values: numbers asked for by id, many at a time, each with its own return code. */
#include "sim/nvml/links.h"
#include "sim/nvml/sensors.h"

static nvmlReturn_t put_u32(nvmlFieldValue_t *field, uint32_t number)
{
	field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
	field->value.ullVal = 0;
	field->value.uiVal = number;
	return NVML_SUCCESS;
}

static nvmlReturn_t put_u64(nvmlFieldValue_t *field, uint64_t number)
{
	field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
	field->value.ullVal = number;
	return NVML_SUCCESS;
}

static nvmlReturn_t ecc_field(const struct nvml_call *call, nvmlFieldValue_t *field)
{
	if (!nvml_has_ecc(call))
		return NVML_ERROR_NOT_SUPPORTED;
	switch (field->fieldId) {
	case NVML_FI_DEV_ECC_CURRENT:
	case NVML_FI_DEV_ECC_PENDING:
		return put_u32(field, NVML_FEATURE_ENABLED);
	case NVML_FI_DEV_ECC_SBE_VOL_TOTAL:
	case NVML_FI_DEV_ECC_SBE_VOL_DEV:
		return put_u64(field, call->gpu.ecc_single_volatile);
	case NVML_FI_DEV_ECC_DBE_VOL_TOTAL:
	case NVML_FI_DEV_ECC_DBE_VOL_DEV:
		return put_u64(field, call->gpu.ecc_double_volatile);
	case NVML_FI_DEV_ECC_SBE_AGG_TOTAL:
	case NVML_FI_DEV_ECC_SBE_AGG_DEV:
		return put_u64(field, call->gpu.ecc_single_aggregate);
	default:
		return put_u64(field, call->gpu.ecc_double_aggregate);
	}
}

static nvmlReturn_t repair_field(const struct nvml_call *call, nvmlFieldValue_t *field)
{
	bool remaps = call->model->ecc && call->model->architecture >= NVML_DEVICE_ARCH_AMPERE;
	if (field->fieldId < NVML_FI_DEV_REMAPPED_COR) /* page retirement, of the boards before */
		return call->model->ecc && !remaps ? put_u64(field, 0) : NVML_ERROR_NOT_SUPPORTED;
	if (!remaps)
		return NVML_ERROR_NOT_SUPPORTED;
	switch (field->fieldId) {
	case NVML_FI_DEV_REMAPPED_COR:
		return put_u32(field, call->gpu.remap_correctable);
	case NVML_FI_DEV_REMAPPED_UNC:
		return put_u32(field, call->gpu.remap_uncorrectable);
	case NVML_FI_DEV_REMAPPED_PENDING:
		return put_u32(field, call->gpu.remap_pending);
	case NVML_FI_DEV_REMAPPED_FAILURE:
		return put_u32(field, call->gpu.remap_failed);
	default:
		return put_u32(field, 0);
	}
}

static nvmlReturn_t link_field(const struct nvml_call *call, nvmlFieldValue_t *field)
{
	if (field->fieldId == NVML_FI_DEV_NVLINK_LINK_COUNT)
		return put_u32(field, call->model->nvlinks);
	if (!call->model->nvlinks)
		return NVML_ERROR_NOT_SUPPORTED;
	bool of_one =
		field->fieldId >= NVML_FI_DEV_NVLINK_GET_SPEED && field->fieldId <= NVML_FI_DEV_NVLINK_GET_VERSION;
	if (of_one && field->scopeId >= call->model->nvlinks)
		return NVML_ERROR_INVALID_ARGUMENT;
	bool up = of_one && nvml_link_of(call, field->scopeId).kind != NVML_LINK_DOWN;
	switch (field->fieldId) {
	case NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON:
		return put_u32(field, nvml_link_speed_mbps(call->model));
	case NVML_FI_DEV_NVLINK_GET_SPEED:
		return put_u32(field, up ? nvml_link_speed_mbps(call->model) : 0);
	case NVML_FI_DEV_NVLINK_GET_STATE:
		return put_u32(field, up);
	case NVML_FI_DEV_NVLINK_GET_VERSION:
		return put_u32(field, call->model->nvlink_generation);
	case NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT:
		return put_u32(field, nvml_link_of(call, 0).kind == NVML_LINK_SWITCH ? nvml_links_up(call) : 0);
	default:
		return put_u64(field, 0); /* errors and traffic: none */
	}
}

static nvmlReturn_t power_field(const struct nvml_call *call, nvmlFieldValue_t *field)
{
	if (field->scopeId != NVML_POWER_SCOPE_GPU)
		return NVML_ERROR_NOT_SUPPORTED;
	switch (field->fieldId) {
	case NVML_FI_DEV_POWER_AVERAGE:
	case NVML_FI_DEV_POWER_INSTANT:
		return put_u32(field, nvml_read_sensors(call).power_mw);
	case NVML_FI_DEV_POWER_MIN_LIMIT:
		return put_u32(field, call->model->power_min_mw);
	case NVML_FI_DEV_POWER_MAX_LIMIT:
		return put_u32(field, call->model->power_max_mw);
	case NVML_FI_DEV_POWER_DEFAULT_LIMIT:
		return put_u32(field, call->model->power_limit_mw);
	default:
		return put_u32(field, call->gpu.power_limit_mw);
	}
}

static nvmlReturn_t heat_field(const struct nvml_call *call, nvmlFieldValue_t *field)
{
	int32_t slowdown = (int32_t)call->model->temperature_slowdown;
	if (field->fieldId == NVML_FI_DEV_MEMORY_TEMP) /* boards with stacked memory have that sensor */
		return call->model->memory_bus_bits >= 2048 ? put_u32(field, nvml_read_sensors(call).memory_temperature)
							    : NVML_ERROR_NOT_SUPPORTED;
	if (call->model->architecture < NVML_DEVICE_ARCH_ADA)
		return NVML_ERROR_NOT_SUPPORTED;
	field->valueType = NVML_VALUE_TYPE_SIGNED_INT; /* distances below the slowdown temperature */
	field->value.sllVal = 0;
	switch (field->fieldId) {
	case NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT:
		field->value.siVal = slowdown - (int32_t)call->model->temperature_shutdown;
		return NVML_SUCCESS;
	case NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT:
		field->value.siVal = 4;
		return NVML_SUCCESS;
	default:
		return NVML_SUCCESS;
	}
}

static nvmlReturn_t read_field(const struct nvml_call *call, nvmlFieldValue_t *field)
{
	uint32_t id = field->fieldId;
	switch (id) {
	case NVML_FI_DEV_ECC_CURRENT ... NVML_FI_DEV_ECC_DBE_AGG_TOTAL:
	case NVML_FI_DEV_ECC_SBE_VOL_DEV ... NVML_FI_DEV_ECC_DBE_VOL_DEV:
	case NVML_FI_DEV_ECC_SBE_AGG_DEV ... NVML_FI_DEV_ECC_DBE_AGG_DEV:
		return ecc_field(call, field);
	case NVML_FI_DEV_RETIRED_SBE ... NVML_FI_DEV_RETIRED_PENDING:
	case NVML_FI_DEV_RETIRED_PENDING_SBE ... NVML_FI_DEV_RETIRED_PENDING_DBE:
	case NVML_FI_DEV_REMAPPED_COR ... NVML_FI_DEV_REMAPPED_FAILURE:
	case NVML_FI_DEV_REMAPPED_ROWS_COR_INACTIVE ... NVML_FI_DEV_REMAPPED_ROWS_UNC_INACTIVE:
		return repair_field(call, field);
	case NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_L0 ... NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL:
	case NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_L6 ... NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_L11:
	case NVML_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_L0 ... NVML_FI_DEV_NVLINK_ERROR_DL_CRC:
	case NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON ... NVML_FI_DEV_NVLINK_LINK_COUNT:
	case NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX ... NVML_FI_DEV_NVLINK_THROUGHPUT_RAW_RX:
	case NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT:
	case NVML_FI_DEV_NVLINK_GET_SPEED ... NVML_FI_DEV_NVLINK_GET_VERSION:
		return link_field(call, field);
	case NVML_FI_DEV_POWER_AVERAGE ... NVML_FI_DEV_POWER_CURRENT_LIMIT:
	case NVML_FI_DEV_POWER_REQUESTED_LIMIT:
		return power_field(call, field);
	case NVML_FI_DEV_MEMORY_TEMP:
	case NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT ... NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT:
		return heat_field(call, field);
	case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
	case NVML_FI_DEV_ENERGY:
		return put_u64(field, nvml_energy_mj(&call->gpu, call->model, sim_now_ns()));
	case NVML_FI_DEV_PERF_POLICY_POWER ... NVML_FI_DEV_PERF_POLICY_THERMAL:
	case NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN:
	case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN:
	case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN:
	case NVML_FI_DEV_PCIE_REPLAY_COUNTER ... NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER:
	case NVML_FI_DEV_PCIE_COUNT_TX_BYTES ... NVML_FI_DEV_PCIE_COUNT_RX_BYTES:
		return put_u64(field, 0);
	case NVML_FI_DEV_C2C_LINK_COUNT:
		return put_u32(field, 0);
	case NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED:
		return put_u32(field, call->model->mig_capable && call->model->architecture >= NVML_DEVICE_ARCH_HOPPER);
	case NVML_FI_DEV_IS_MIG_MODE_INDEPENDENT_MIG_QUERY_CAPABLE:
		return put_u32(field, call->model->mig_capable);
	case NVML_FI_DEV_RESET_STATUS:
		return put_u32(field, call->gpu.recovery_action == NVML_GPU_RECOVERY_ACTION_GPU_RESET);
	case NVML_FI_DEV_DRAIN_AND_RESET_STATUS:
		return put_u32(field, call->gpu.recovery_action == NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET);
	case NVML_FI_DEV_GET_GPU_RECOVERY_ACTION:
		return put_u32(field, call->gpu.recovery_action);
	default:
		return NVML_ERROR_NOT_SUPPORTED;
	}
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	NVML_DEVICE_CALL(call, device, count > 0 && values);
	for (int i = 0; i < count; i++) {
		uint64_t began_ns = sim_now_ns();
		values[i].nvmlReturn = read_field(&call, &values[i]);
		values[i].timestamp = (int64_t)nvml_timestamp_us(began_ns);
		values[i].latencyUsec = (int64_t)(sim_now_ns() - began_ns) / 1000;
	}
	return NVML_SUCCESS;
}

/* No counter that can be cleared ever counts. */
nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	NVML_DEVICE_CALL(call, device, count > 0 && values);
	for (int i = 0; i < count; i++)
		values[i].nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
	return NVML_SUCCESS;
}
