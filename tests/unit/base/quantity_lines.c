/* One line of standard input is one text: prints what it is as a size and as a duration, or "error". A test compares
 * with arithmetic that was written independently. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/quantity.h"

static void print(int result, int64_t value, char end)
{
	if (result)
		printf("error%c", end);
	else
		printf("%" PRId64 "%c", value, end);
}

int main(void)
{
	char line[4096];
	while (fgets(line, sizeof line, stdin)) {
		int64_t value = 0;
		line[strcspn(line, "\n")] = '\0';
		int result = gs_parse_quantity(line, &value, NULL);
		print(result, value, ' ');
		result = gs_parse_duration(line, &value, NULL);
		print(result, value, '\n');
	}
	return 0;
}
