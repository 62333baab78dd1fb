#include "node/hardware.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

enum { ATTRIBUTE_BYTES_MAX = 4096 };
#define VENDOR_NVIDIA "0x10de"
#define CLASS_DISPLAY "0x03" /* VGA-compatible, 3D and other display controllers */

/* Whether the device's file begins with this text. */
static bool begins_with(const char *device, const char *name, const char *text)
{
	size_t length;
	GS_AUTO_FREE char *path = gs_printf("%s/%s", device, name);
	GS_AUTO_FREE char *value = gs_read_file(path, ATTRIBUTE_BYTES_MAX, &length, NULL);
	return value && strncmp(value, text, strlen(text)) == 0;
}

bool node_may_have_gpu(const char *pci_dir)
{
	DIR *directory = opendir(pci_dir);
	bool found = false, is_empty = true;
	if (!directory)
		return true;
	for (struct dirent *entry; !found && (entry = readdir(directory));) {
		if (entry->d_name[0] == '.')
			continue;
		GS_AUTO_FREE char *device = gs_printf("%s/%s", pci_dir, entry->d_name);
		is_empty = false;
		found = begins_with(device, "vendor", VENDOR_NVIDIA) && begins_with(device, "class", CLASS_DISPLAY);
	}
	closedir(directory);
	return found || is_empty;
}
