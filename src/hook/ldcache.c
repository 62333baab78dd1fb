#include "hook/ldcache.h"

#include <elf.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* All numbers are of the machine's own byte order; offsets count from the header. */
struct header {
	char magic[20];
	uint32_t count;
	uint32_t strings_size;
	uint8_t byte_order;
	uint8_t reserved[3];
	uint32_t extension; /* offset of what glibc 2.33 added; 0: none */
	uint32_t unused[3];
};
struct entry {
	int32_t flags;
	uint32_t name, path;
	uint32_t os_version;
	uint64_t hwcap;
};
struct extension {
	uint32_t magic;
	uint32_t count;
};
struct section {
	uint32_t tag, flags, offset, size;
};
_Static_assert(sizeof(struct header) == 48 && sizeof(struct entry) == 24, "as in glibc");

static const char magic[] = "glibc-ld.so.cache1.1";
static const char old_magic[] = "ld.so-1.7.0";
enum {
	OLD_HEADER_BYTES = 16, /* of the format before, which may stand in front */
	OLD_ENTRY_BYTES = 12,
	EXTENSION_MAGIC = (int)0xEAA42174,
	SECTION_HWCAPS = 1, /* an array of offsets of strings */
	SECTIONS_MAX = 64,
	BYTE_ORDER_SET = 2, /* little endian; 3 is big, 0 was written before glibc 2.33 */
#ifdef __aarch64__
	FLAGS = 0x0a03,
	MACHINE = EM_AARCH64,
#else
	FLAGS = 0x0303,
	MACHINE = EM_X86_64,
#endif
};

bool ldcache_is_library(const void *head, size_t size)
{
	Elf64_Ehdr elf;
	if (size < sizeof elf)
		return false;
	memcpy(&elf, head, sizeof elf);
	return !memcmp(elf.e_ident, ELFMAG, SELFMAG) && elf.e_ident[EI_CLASS] == ELFCLASS64 && elf.e_type == ET_DYN &&
	       elf.e_machine == MACHINE;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static unsigned long number(const char **text)
{
	unsigned long value = 0;
	while (is_digit(**text))
		value = value * 10 + (unsigned long)(*(*text)++ - '0');
	return value;
}

/* The loader's order of names: digits count as numbers. It searches by halves, so the cache must be in it. */
static int compare_names(const char *a, const char *b)
{
	while (*a) {
		if (is_digit(*a) && is_digit(*b)) {
			unsigned long x = number(&a), y = number(&b);
			if (x != y)
				return x < y ? -1 : 1;
		} else if (is_digit(*a) || is_digit(*b)) {
			return is_digit(*a) ? 1 : -1;
		} else if (*a != *b) {
			return *a < *b ? -1 : 1;
		} else {
			a++;
			b++;
		}
	}
	return *b ? -1 : 0;
}

/* A cache as bytes, its header checked. */
struct cache {
	const uint8_t *data;
	size_t size;
	struct header header;
};

/* Behind the entries: what lies there moves as a whole. It ends within `room` bytes, its NUL included: many entries may
 * share one text, so its length counts once for each of them. */
static bool is_string(const struct cache *cache, uint32_t offset, size_t room)
{
	if (offset < sizeof cache->header + cache->header.count * sizeof(struct entry) || offset >= cache->size)
		return false;
	size_t rest = cache->size - offset;
	return memchr(cache->data + offset, 0, rest < room ? rest : room);
}

static struct entry entry_at(const struct cache *cache, size_t i)
{
	struct entry entry;
	memcpy(&entry, cache->data + sizeof cache->header + i * sizeof entry, sizeof entry);
	return entry;
}

static bool read_cache(const void *data, size_t size, struct cache *cache)
{
	*cache = (struct cache){.data = data, .size = size};
	if (size > OLD_HEADER_BYTES && !memcmp(data, old_magic, sizeof old_magic - 1)) {
		uint32_t count;
		memcpy(&count, cache->data + OLD_HEADER_BYTES - sizeof count, sizeof count);
		size_t skip = (OLD_HEADER_BYTES + (size_t)count * OLD_ENTRY_BYTES + 7) & ~(size_t)7;
		if (count > LDCACHE_ENTRIES_MAX || skip > size)
			return false;
		cache->data += skip;
		cache->size -= skip;
	}
	if (cache->size < sizeof cache->header || memcmp(cache->data, magic, sizeof magic - 1) != 0)
		return false;
	memcpy(&cache->header, cache->data, sizeof cache->header);
	const struct header *header = &cache->header;
	if (header->count > LDCACHE_ENTRIES_MAX ||
	    cache->size < sizeof *header + header->count * sizeof(struct entry) ||
	    (header->byte_order != 0 && header->byte_order != BYTE_ORDER_SET))
		return false;
	for (size_t i = 0; i < header->count; i++) {
		struct entry entry = entry_at(cache, i);
		if (!is_string(cache, entry.name, NAME_MAX + 1) || !is_string(cache, entry.path, PATH_MAX))
			return false;
	}
	return true;
}

/* Offsets into what follows the entries move with it. The extension lies there as well. */
static bool move_extension(uint8_t *data, size_t size, uint32_t offset, uint32_t by)
{
	struct extension extension;
	if (offset > size || size - offset < sizeof extension)
		return false;
	memcpy(&extension, data + offset, sizeof extension);
	if (extension.magic != (uint32_t)EXTENSION_MAGIC || extension.count > SECTIONS_MAX ||
	    size - offset - sizeof extension < extension.count * sizeof(struct section))
		return false;
	size_t unread = size; /* sections may lie over each other: together they have no more than all bytes */
	for (size_t i = 0; i < extension.count; i++) {
		struct section section;
		uint8_t *place = data + offset + sizeof extension + i * sizeof section;
		memcpy(&section, place, sizeof section);
		section.offset += by;
		if (section.offset < by || section.offset > size || section.size > size - section.offset ||
		    section.size > unread)
			return false;
		unread -= section.size;
		memcpy(place, &section, sizeof section);
		for (size_t j = 0; section.tag == SECTION_HWCAPS && j + sizeof(uint32_t) <= section.size;
		     j += sizeof(uint32_t)) {
			uint32_t string;
			memcpy(&string, data + section.offset + j, sizeof string);
			string += by;
			memcpy(data + section.offset + j, &string, sizeof string);
		}
	}
	return true;
}

static int compare_libraries(const void *a, const void *b)
{
	const struct ldcache_library *const *one = a, *const *other = b;
	return strcmp((*one)->name, (*other)->name);
}

/* The libraries by name, owned by the caller; NULL without memory. */
static const struct ldcache_library **sort_libraries(const struct ldcache_library *libraries, size_t count)
{
	const struct ldcache_library **sorted = calloc(count + 1, sizeof *sorted);
	for (size_t i = 0; sorted && i < count; i++)
		sorted[i] = &libraries[i];
	if (sorted)
		qsort(sorted, count, sizeof *sorted, compare_libraries);
	return sorted;
}

/* Whether a library of ours, in the order of names, takes the place of an old entry. */
static bool is_replaced(const char *name, int32_t flags, const struct ldcache_library *const *sorted, size_t count)
{
	const struct ldcache_library wanted = {.name = name}, *key = &wanted;
	return flags == FLAGS && bsearch(&key, sorted, count, sizeof *sorted, compare_libraries);
}

struct sorted {
	struct entry entry;
	const char *name;
	size_t position; /* entries of one name stay in the order they had */
};

static int compare_entries(const void *a, const void *b)
{
	const struct sorted *one = a, *other = b;
	int order = compare_names(other->name, one->name);
	return order ? order : (one->position > other->position) - (one->position < other->position);
}

/* The entries of the old cache that stay, in their order. They point behind `by` more bytes. Returns how many. */
static size_t keep_entries(struct sorted *kept, const struct cache *old, uint32_t by,
			   const struct ldcache_library *const *libraries, size_t count)
{
	size_t n = 0;
	for (size_t i = 0; i < old->header.count; i++) {
		struct entry entry = entry_at(old, i);
		const char *name = (const char *)old->data + entry.name;
		if (is_replaced(name, entry.flags, libraries, count))
			continue;
		entry.name += by;
		entry.path += by;
		kept[n] = (struct sorted){entry, name, n};
		n++;
	}
	return n;
}

/* Fills in the entries, the first n of which are there, sorted, and the strings of the new ones. */
static void write_entries(uint8_t *data, size_t strings, struct sorted *sorted, size_t n,
			  const struct ldcache_library *libraries, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct entry entry = {.flags = FLAGS, .name = (uint32_t)strings};
		strings += strlen(strcpy((char *)data + strings, libraries[i].name)) + 1;
		entry.path = (uint32_t)strings;
		strings += strlen(strcpy((char *)data + strings, libraries[i].path)) + 1;
		sorted[n] = (struct sorted){entry, libraries[i].name, n};
		n++;
	}
	qsort(sorted, n, sizeof *sorted, compare_entries);
	for (size_t i = 0; i < n; i++)
		memcpy(data + sizeof(struct header) + i * sizeof(struct entry), &sorted[i].entry, sizeof(struct entry));
}

/* Makes the new cache of the `kept` old entries and the new ones. */
static void *make_cache(const struct cache *cache, struct sorted *sorted, size_t kept,
			const struct ldcache_library *libraries, size_t count, size_t *size)
{
	size_t added = 0;
	for (size_t i = 0; i < count; i++)
		added += strlen(libraries[i].name) + strlen(libraries[i].path) + 2;
	/* The old strings and extension follow the entries as they were, so all offsets into them move alike. Room that
	 * replaced entries leave is kept, so that they never move down and stay aligned. */
	size_t entries = cache->header.count + count;
	size_t before = sizeof cache->header + cache->header.count * sizeof(struct entry);
	size_t tail = cache->size > before ? cache->size - before : 0;
	size_t strings = sizeof cache->header + entries * sizeof(struct entry) + tail;
	uint32_t by = (uint32_t)(count * sizeof(struct entry));
	*size = strings + added;
	uint8_t *data = calloc(1, *size);
	if (!data)
		return NULL;
	if (tail)
		memcpy(data + strings - tail, cache->data + before, tail);
	struct header header = cache->header;
	memcpy(header.magic, magic, sizeof header.magic);
	header.count = (uint32_t)(kept + count);
	header.strings_size = (uint32_t)(*size - sizeof header - header.count * sizeof(struct entry));
	if (header.extension) {
		header.extension += by;
		if (!move_extension(data, *size, header.extension, by)) {
			free(data);
			return NULL;
		}
	}
	memcpy(data, &header, sizeof header);
	write_entries(data, strings, sorted, kept, libraries, count);
	return data;
}

void *ldcache_add(const void *old, size_t old_size, const struct ldcache_library *libraries, size_t count, size_t *size)
{
	struct cache cache = {.header = {.byte_order = BYTE_ORDER_SET}};
	if ((old && !read_cache(old, old_size, &cache)) || count > LDCACHE_ENTRIES_MAX)
		return NULL;
	struct sorted *sorted = calloc(cache.header.count + count + 1, sizeof *sorted);
	const struct ldcache_library **names = sort_libraries(libraries, count);
	void *made = NULL;
	if (sorted && names) {
		uint32_t by = (uint32_t)(count * sizeof(struct entry));
		size_t kept = keep_entries(sorted, &cache, by, names, count);
		made = make_cache(&cache, sorted, kept, libraries, count, size);
	}
	free(names);
	free(sorted);
	return made;
}
