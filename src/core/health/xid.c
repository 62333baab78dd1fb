#include "core/health/xid.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

/* Ordered by number. Classes follow the immediate action of NVIDIA's catalogue (restart the application or ignore:
 * contained; reset: needs reset) at https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html; the class
 * application is the list that NVIDIA's device plugin ignores, whatever the catalogue says. */
static const struct gs_xid table[] = {
	{8, GS_XID_CONTAINED, "a channel stopped making progress"},
	{11, GS_XID_CONTAINED, "bad command stream"},
	{13, GS_XID_APPLICATION, "exception in the compute or graphics engine"},
	{14, GS_XID_CONTAINED, "injected test error"},
	{25, GS_XID_CONTAINED, "illegal command stream"},
	{31, GS_XID_APPLICATION, "access to an unmapped address"},
	{32, GS_XID_CONTAINED, "damaged command stream"},
	{37, GS_XID_CONTAINED, "firmware method unknown"},
	{38, GS_XID_CONTAINED, "firmware watchdog expired"},
	{39, GS_XID_CONTAINED, "exception in copy engine 0"},
	{40, GS_XID_CONTAINED, "exception in copy engine 1"},
	{41, GS_XID_CONTAINED, "exception in copy engine 2"},
	{43, GS_XID_APPLICATION, "a program's channel was stopped"},
	{44, GS_XID_CONTAINED, "fault during a context switch"},
	{45, GS_XID_APPLICATION, "a program's channels were torn down"},
	{46, GS_XID_NEEDS_RESET, "the GPU stopped processing"},
	{48, GS_XID_NEEDS_RESET, "double-bit ECC error"},
	{54, GS_XID_NEEDS_RESET, "auxiliary power is not connected"},
	{60, GS_XID_CONTAINED, "exception in the security engine"},
	{61, GS_XID_NEEDS_RESET, "power management controller stopped at a breakpoint"},
	{62, GS_XID_NEEDS_RESET, "power management controller halted"},
	{63, GS_XID_CONTAINED, "memory page or row was retired"},
	{64, GS_XID_NEEDS_RESET, "memory page or row could not be retired"},
	{66, GS_XID_CONTAINED, "illegal register access by the driver"},
	{67, GS_XID_CONTAINED, "illegal access by the driver"},
	{68, GS_XID_APPLICATION, "exception in video decoder 0"},
	{69, GS_XID_CONTAINED, "class error in the graphics engine"},
	{70, GS_XID_CONTAINED, "exception in copy engine 3"},
	{71, GS_XID_CONTAINED, "exception in copy engine 4"},
	{72, GS_XID_CONTAINED, "exception in copy engine 5"},
	{74, GS_XID_NEEDS_RESET, "NVLink error"},
	{75, GS_XID_CONTAINED, "exception in copy engine 6"},
	{76, GS_XID_CONTAINED, "exception in copy engine 7"},
	{77, GS_XID_CONTAINED, "exception in copy engine 8"},
	{78, GS_XID_CONTAINED, "a vGPU could not start"},
	{79, GS_XID_LOST, "the GPU has fallen off the bus"},
	{80, GS_XID_CONTAINED, "checksum error in the command stream"},
	{82, GS_XID_CONTAINED, "exception in JPEG decoder 0"},
	{83, GS_XID_CONTAINED, "exception in video decoder 1"},
	{84, GS_XID_CONTAINED, "exception in video decoder 2"},
	{85, GS_XID_CONTAINED, "exception in copy engine 9"},
	{86, GS_XID_CONTAINED, "exception in the optical flow engine"},
	{88, GS_XID_CONTAINED, "exception in video decoder 3"},
	{89, GS_XID_CONTAINED, "exception in video decoder 4"},
	{92, GS_XID_CONTAINED, "high rate of single-bit ECC errors"},
	{93, GS_XID_CONTAINED, "wear limit of the InfoROM"},
	{94, GS_XID_CONTAINED, "memory error that stayed within one program"},
	{95, GS_XID_NEEDS_RESET, "memory error that did not stay within one program"},
	{96, GS_XID_CONTAINED, "exception in video decoder 5"},
	{97, GS_XID_CONTAINED, "exception in video decoder 6"},
	{98, GS_XID_CONTAINED, "exception in video decoder 7"},
	{99, GS_XID_CONTAINED, "exception in JPEG decoder 1"},
	{100, GS_XID_CONTAINED, "exception in JPEG decoder 2"},
	{101, GS_XID_CONTAINED, "exception in JPEG decoder 3"},
	{102, GS_XID_CONTAINED, "exception in JPEG decoder 4"},
	{103, GS_XID_CONTAINED, "exception in JPEG decoder 5"},
	{104, GS_XID_CONTAINED, "exception in JPEG decoder 6"},
	{105, GS_XID_CONTAINED, "exception in JPEG decoder 7"},
	{106, GS_XID_CONTAINED, "test message of the management bus"},
	{107, GS_XID_CONTAINED, "silent test message of the management bus"},
	{109, GS_XID_APPLICATION, "a context switch took too long"},
	{110, GS_XID_NEEDS_RESET, "security fault"},
	{119, GS_XID_NEEDS_RESET, "the GPU system processor did not answer"},
	{120, GS_XID_NEEDS_RESET, "error in the GPU system processor"},
	{121, GS_XID_CONTAINED, "corrected error on the link to the CPU"},
	{126, GS_XID_CONTAINED, "exception in copy engine 10"},
	{127, GS_XID_CONTAINED, "exception in copy engine 11"},
	{128, GS_XID_CONTAINED, "exception in copy engine 12"},
	{129, GS_XID_CONTAINED, "exception in copy engine 13"},
	{130, GS_XID_CONTAINED, "exception in copy engine 14"},
	{131, GS_XID_CONTAINED, "exception in copy engine 15"},
	{132, GS_XID_CONTAINED, "exception in copy engine 16"},
	{133, GS_XID_CONTAINED, "exception in copy engine 17"},
	{134, GS_XID_CONTAINED, "exception in copy engine 18"},
	{135, GS_XID_CONTAINED, "exception in copy engine 19"},
	{136, GS_XID_NEEDS_RESET, "NVLink training failed"},
	{137, GS_XID_CONTAINED, "illegal access over NVLink"},
	{139, GS_XID_CONTAINED, "exception in optical flow engine 1"},
	{140, GS_XID_NEEDS_RESET, "ECC error that could not be handled"},
	{141, GS_XID_CONTAINED, "error in a CUDA fast path"},
	{142, GS_XID_NEEDS_RESET, "error in video encoder 3"},
	{143, GS_XID_NEEDS_RESET, "GPU initialisation failed"},
	{144, GS_XID_NEEDS_RESET, "NVLink: error in SAW"},
	{145, GS_XID_NEEDS_RESET, "NVLink: error in RLW"},
	{146, GS_XID_NEEDS_RESET, "NVLink: error in TLW"},
	{147, GS_XID_NEEDS_RESET, "NVLink: error in TREX"},
	{148, GS_XID_NEEDS_RESET, "NVLink: error in NVLPW"},
	{149, GS_XID_NEEDS_RESET, "NVLink: error in NETIR"},
	{150, GS_XID_NEEDS_RESET, "NVLink: error in MSE"},
	{151, GS_XID_NEEDS_RESET, "encryption keys could not be rotated"},
	/* Comes with the XID it is about; the recovery action itself is read at the next look. */
	{154, GS_XID_CONTAINED, "the recovery action changed"},
	{155, GS_XID_NEEDS_RESET, "NVLink was taken down"},
	{156, GS_XID_NEEDS_RESET, "a part of the GPU is to be retired"},
	{157, GS_XID_CONTAINED, "a part of the GPU could not be retired"},
	{158, GS_XID_NEEDS_RESET, "fatal timeout"},
	{159, GS_XID_CONTAINED, "error on the link to the CPU"},
	{160, GS_XID_CONTAINED, "a memory channel is to be retired"},
	{161, GS_XID_CONTAINED, "a memory channel could not be retired"},
	{162, GS_XID_CONTAINED, "power smoothing is on again"},
	{163, GS_XID_CONTAINED, "power smoothing is off"},
	{164, GS_XID_CONTAINED, "power smoothing hardware is nearly worn out"},
	{165, GS_XID_CONTAINED, "power smoothing hardware is worn out"},
	{166, GS_XID_NEEDS_RESET, "unencrypted traffic on a secured NVLink"},
	{167, GS_XID_NEEDS_RESET, "fatal PCIe timeout"},
	{168, GS_XID_NEEDS_RESET, "errors in protected memory reduce its size"},
	{169, GS_XID_NEEDS_RESET, "security processor halted"},
	{170, GS_XID_NEEDS_RESET, "unexpected interrupt on a secured NVLink"},
	{171, GS_XID_NEEDS_RESET, "uncorrectable error in device memory"},
	{172, GS_XID_NEEDS_RESET, "uncorrectable error in on-chip memory"},
};

const struct gs_xid *gs_xid_find(uint64_t number)
{
	size_t low = 0, high = GS_ARRAY_LENGTH(table);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (table[middle].number == number)
			return &table[middle];
		if (table[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

enum gs_xid_class gs_xid_class(uint64_t number)
{
	const struct gs_xid *xid = gs_xid_find(number);

	return xid ? xid->class : GS_XID_NEEDS_RESET;
}

const char *gs_xid_text(uint64_t number)
{
	const struct gs_xid *xid = gs_xid_find(number);

	return xid ? xid->text : "unknown error";
}

static void watch(struct gs_xid_filter *filter, uint64_t number, bool on)
{
	if (number >= GS_XIDS_MAX)
		return;
	if (on)
		filter->watched[number / 64] |= 1ull << number % 64;
	else
		filter->watched[number / 64] &= ~(1ull << number % 64);
}

static void watch_all(struct gs_xid_filter *filter, bool on)
{
	memset(filter->watched, on ? 0xff : 0, sizeof filter->watched);
	filter->watch_beyond = on;
}

static bool parse_number(const char *text, uint64_t *number)
{
	*number = 0;
	for (const char *digit = text; *digit; digit++) {
		if (*digit < '0' || *digit > '9' || digit - text > 8)
			return false;
		*number = *number * 10 + (uint64_t)(*digit - '0');
	}
	return *text && *number < GS_XIDS_MAX;
}

/* One item of a list; false when it says nothing. */
static bool apply(struct gs_xid_filter *filter, const char *item, bool on)
{
	uint64_t number;

	if (!strcasecmp(item, "all")) {
		watch_all(filter, on);
		filter->other_checks = on;
	} else if (!strcasecmp(item, "xids")) {
		watch_all(filter, on);
	} else if (parse_number(item, &number)) {
		watch(filter, number, on);
	} else {
		return false;
	}
	return true;
}

static int apply_list(struct gs_xid_filter *filter, const char *name, const char *value, bool on, struct gs_error *err)
{
	int result = 0;

	if (!value)
		return 0;
	GS_AUTO_FREE char *copy = gs_strdup(value);
	char *rest = copy, *item;
	while ((item = strsep(&rest, ","))) {
		item = gs_trim(item);
		if (!*item || apply(filter, item, on))
			continue;
		if (!result)
			result = gs_fail(err, GS_ERROR_INPUT, 0,
					 "%s: \"%.40s\" is no XID; write numbers below %d with commas between them, "
					 "\"xids\" or \"all\"",
					 name, item, GS_XIDS_MAX);
	}
	return result;
}

int gs_xid_filter_parse(const char *disable, const char *enable, struct gs_xid_filter *filter, struct gs_error *err)
{
	watch_all(filter, true);
	filter->other_checks = true;
	for (size_t i = 0; i < GS_ARRAY_LENGTH(table); i++)
		if (table[i].class == GS_XID_APPLICATION)
			watch(filter, table[i].number, false);
	int disabled = apply_list(filter, "DP_DISABLE_HEALTHCHECKS", disable, false, err);
	int enabled = apply_list(filter, "DP_ENABLE_HEALTHCHECKS", enable, true, disabled ? NULL : err);
	return disabled || enabled ? -1 : 0;
}

bool gs_xid_filter_watches(const struct gs_xid_filter *filter, uint64_t number)
{
	if (number >= GS_XIDS_MAX)
		return filter->watch_beyond;
	return filter->watched[number / 64] >> number % 64 & 1;
}

bool gs_xid_filter_any(const struct gs_xid_filter *filter)
{
	bool any = filter->watch_beyond || filter->other_checks;

	for (size_t i = 0; i < GS_ARRAY_LENGTH(filter->watched); i++)
		any = any || filter->watched[i];
	return any;
}
