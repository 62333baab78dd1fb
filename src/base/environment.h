/* The environment, for what asks through a function and its user's pointer. */
#ifndef GPUSHARE_BASE_ENVIRONMENT_H
#define GPUSHARE_BASE_ENVIRONMENT_H

/* getenv, as gs_config_parse takes it; `user` is not looked at. */
const char *gs_environment(const char *name, void *user);

#endif
