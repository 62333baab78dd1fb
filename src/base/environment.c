#include "base/environment.h"

#include <stdlib.h>

const char *gs_environment(const char *name, void *user)
{
	return getenv(name);
}
