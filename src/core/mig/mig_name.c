#include "core/mig/mig_name.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Digits and the unit behind them. */
static bool take_field(const char **text, const char *unit)
{
	size_t digits = strspn(*text, "0123456789"), length = strlen(unit);
	if (!digits || digits > 6 || strncmp(*text + digits, unit, length) != 0)
		return false;
	*text += digits + length;
	return true;
}

bool gs_mig_name_is_formed(const char *text)
{
	static const char attribute[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,";
	if (strlen(text) >= GS_MIG_NAME_SIZE)
		return false;
	const char *rest = text;
	if (take_field(&rest, "c."))
		text = rest;
	else
		rest = text;
	if (!take_field(&rest, "g.") || !take_field(&rest, "gb"))
		return false;
	if (!*rest)
		return true;
	return (*rest == '+' || *rest == '-') && rest[1] && !rest[1 + strspn(rest + 1, attribute)];
}

/* "7x", "7 x " or "7*" before the name. */
static const char *take_count(const char *text, uint32_t *count)
{
	size_t digits = strspn(text, "0123456789");
	const char *rest = text + digits + strspn(text + digits, " ");
	if (!digits || digits > 4 || !*rest || !strchr("xX*", *rest))
		return text;
	*count = (uint32_t)strtoul(text, NULL, 10);
	return rest + 1 + strspn(rest + 1, " ");
}

/* "x7" or " x 7" behind it; cut off. */
static void cut_count(char *name, uint32_t *count)
{
	size_t end = strlen(name), digits = 0;
	while (digits < end && isdigit((unsigned char)name[end - digits - 1]))
		digits++;
	size_t at = end - digits;
	while (at && name[at - 1] == ' ')
		at--;
	if (!digits || digits > 4 || !at || !strchr("xX*", name[at - 1]))
		return;
	*count = (uint32_t)strtoul(name + end - digits, NULL, 10);
	for (at--; at && name[at - 1] == ' ';)
		at--;
	name[at] = '\0';
}

bool gs_mig_name_meant(const char *text, struct gs_mig_name_meant *meant)
{
	static const char *const prefixes[] = {"nvidia.com/", "MIG-", "MIG "};
	*meant = (struct gs_mig_name_meant){0};
	text = take_count(text, &meant->count);
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		if (strncasecmp(text, prefixes[i], strlen(prefixes[i])) == 0)
			text += strlen(prefixes[i]);
	if (strlen(text) >= sizeof meant->name)
		return false;
	for (size_t i = 0; text[i]; i++)
		meant->name[i] = (char)tolower((unsigned char)text[i]);
	if (!meant->count)
		cut_count(meant->name, &meant->count);
	/* Labels and resources have a dot where a profile has "+", which Kubernetes does not allow there. */
	char *attribute = strstr(meant->name, "gb.");
	if (attribute)
		attribute[2] = '+';
	return gs_mig_name_is_formed(meant->name);
}
