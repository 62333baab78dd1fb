/* A client's request to withdraw devices: what is accepted has a reason, and UUIDs of the right size. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "node/withdraw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct withdraw_request request;
	if (!node_withdraw_request_read(data, size, &request))
		return 0;
	if (!request.reason || request.count == 0 || request.count > GS_DEVICES_MAX)
		abort();
	for (size_t i = 0; i < request.count; i++)
		if (!request.uuids[i] || strlen(request.uuids[i]) >= GS_UUID_SIZE)
			abort();
	node_withdraw_request_free(&request);
	return 0;
}
