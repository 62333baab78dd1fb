/* Reading code images. Nothing is compiled or run: names, parameters and variables are all that is looked for. */
#include "sim/cuda/image.h"

#include <ctype.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"

enum { TEXT_MAX = 256 << 20, FAT_ENTRIES_MAX = 4096 };

static struct simcu_image_kernel *add_kernel(struct simcu_image *image, const char *name, size_t length)
{
	if ((image->kernel_count & (image->kernel_count + 1)) == 0) /* room for the next power of two */
		image->kernels = gs_reallocarray(image->kernels, 2 * image->kernel_count + 2, sizeof *image->kernels);
	struct simcu_image_kernel *kernel = &image->kernels[image->kernel_count++];
	memset(kernel, 0, sizeof *kernel);
	kernel->name = gs_strndup(name, length);
	return kernel;
}

static void add_variable(struct simcu_image *image, const char *name, size_t length, uint64_t bytes)
{
	if ((image->variable_count & (image->variable_count + 1)) == 0)
		image->variables =
			gs_reallocarray(image->variables, 2 * image->variable_count + 2, sizeof *image->variables);
	image->variables[image->variable_count++] = (struct simcu_image_variable){gs_strndup(name, length), bytes};
}

void simcu_image_free(struct simcu_image *image)
{
	for (size_t i = 0; i < image->kernel_count; i++)
		free(image->kernels[i].name);
	for (size_t i = 0; i < image->variable_count; i++)
		free(image->variables[i].name);
	free(image->kernels);
	free(image->variables);
	memset(image, 0, sizeof *image);
}

/* PTX. */

struct token {
	const char *text; /* not terminated */
	size_t length;    /* 0: the end */
};

struct reader {
	const char *at, *end;
	struct token token;
};

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '$' || c == '%';
}

/* To the end of a comment or string that starts here; false when none does. */
static bool skip_aside(struct reader *reader)
{
	size_t left = (size_t)(reader->end - reader->at);
	const char *stop = NULL;
	if (left >= 2 && memcmp(reader->at, "//", 2) == 0)
		stop = memchr(reader->at, '\n', left);
	else if (left >= 2 && memcmp(reader->at, "/*", 2) == 0)
		stop = memmem(reader->at + 2, left - 2, "*/", 2);
	else if (left >= 1 && *reader->at == '"')
		stop = memchr(reader->at + 1, '"', left - 1);
	else
		return false;
	reader->at = stop ? stop + 1 : reader->end; /* the slash that ends a comment is a token of no meaning */
	return true;
}

static struct token next_token(struct reader *reader)
{
	while (reader->at < reader->end && (isspace((unsigned char)*reader->at) || skip_aside(reader)))
		if (reader->at < reader->end && isspace((unsigned char)*reader->at))
			reader->at++;
	const char *start = reader->at;
	if (reader->at < reader->end && !is_word(*reader->at)) {
		reader->at++;
	} else {
		while (reader->at < reader->end && is_word(*reader->at))
			reader->at++;
	}
	reader->token = (struct token){start, (size_t)(reader->at - start)};
	return reader->token;
}

static bool is(struct token token, const char *text)
{
	return token.length == strlen(text) && memcmp(token.text, text, token.length) == 0;
}

/* The value of a decimal token, bounded. */
static uint64_t number(struct token token)
{
	uint64_t value = 0;
	for (size_t i = 0; i < token.length && isdigit((unsigned char)token.text[i]) && value < (1ull << 40); i++)
		value = value * 10 + (uint64_t)(token.text[i] - '0');
	return value;
}

/* Bytes of a fundamental type (".u64" -> 8), or 0 when the token names none. */
static uint64_t type_size(struct token token)
{
	if (is(token, ".pred"))
		return 1;
	if (token.length < 3 || token.text[0] != '.' || !strchr("busf", token.text[1]))
		return 0;
	switch (number((struct token){token.text + 2, token.length - 2})) {
	case 8:
		return 1;
	case 16:
		return 2;
	case 32:
		return 4;
	case 64:
		return 8;
	case 128:
		return 16;
	default:
		return 0;
	}
}

struct declaration {
	struct token name;
	uint64_t bytes, alignment;
};

/* A declaration after its state space, up to the token that ends it (which is left in reader->token). */
static struct declaration read_declaration(struct reader *reader)
{
	struct declaration found = {.alignment = 1};
	uint64_t element = 0, count = 1;
	struct token token = next_token(reader);
	for (; token.length; token = next_token(reader)) {
		if (strchr(",;)={", *token.text))
			break;
		if (is(token, ".align")) {
			found.alignment = number(next_token(reader));
		} else if (is(token, "[")) {
			uint64_t dimension = number(next_token(reader));
			if (dimension && count < (1ull << 40))
				count *= dimension < (1ull << 22) ? dimension : 1ull << 22;
		} else if (type_size(token) && !element) {
			element = type_size(token);
		} else if (*token.text != '.' && is_word(*token.text) && !found.name.length) {
			found.name = token;
		}
	}
	found.bytes = element * count;
	if (found.alignment < element)
		found.alignment = element;
	return found;
}

/* After .entry: its name and parameters. False when there is no name. */
static bool read_entry(struct reader *reader, struct simcu_image *image)
{
	struct token name = next_token(reader);
	if (!name.length || !is_word(*name.text))
		return false;
	struct simcu_image_kernel *kernel = add_kernel(image, name.text, name.length);
	kernel->parameters_known = true;
	if (!is(next_token(reader), "("))
		return true;
	uint64_t offset = 0;
	while (is(next_token(reader), ".param")) {
		struct declaration parameter = read_declaration(reader);
		uint64_t unit = parameter.alignment ? parameter.alignment : 1;
		offset = (offset + unit - 1) / unit * unit;
		if (kernel->parameter_count < SIMCU_PARAMETERS_MAX) {
			kernel->offsets[kernel->parameter_count] = (uint32_t)offset;
			kernel->sizes[kernel->parameter_count++] = (uint32_t)parameter.bytes;
		}
		offset += parameter.bytes;
		if (!is(reader->token, ","))
			break;
	}
	return true;
}

int simcu_image_read_ptx(struct simcu_image *image, const char *text, size_t size)
{
	struct reader reader = {.at = text, .end = text + size};
	bool versioned = false, external = false;
	long depth = 0;
	for (struct token token = next_token(&reader); token.length; token = next_token(&reader)) {
		if (*token.text == '{')
			depth++;
		else if (*token.text == '}')
			depth--;
		else if (is(token, ".version"))
			versioned = true;
		if (depth > 0)
			continue;
		if (is(token, ".extern"))
			external = true;
		else if (is(token, ";"))
			external = false;
		if (!versioned)
			continue;
		if (is(token, ".entry")) {
			if (!read_entry(&reader, image))
				return SIMCU_IMAGE_INVALID_PTX;
		} else if (is(token, ".global") || is(token, ".const")) {
			struct declaration variable = read_declaration(&reader);
			if (variable.name.length && !external)
				add_variable(image, variable.name.text, variable.name.length, variable.bytes);
			if (is(reader.token, "{"))
				depth++;
			external = false;
		}
	}
	return versioned && depth == 0 ? SIMCU_IMAGE_OK : SIMCU_IMAGE_INVALID_PTX;
}

/* ELF: a kernel NAME has a section .text.NAME. */

int simcu_image_read_elf(struct simcu_image *image, const uint8_t *data, size_t size)
{
	static const char prefix[] = ".text.";
	const size_t prefix_length = sizeof prefix - 1;
	Elf64_Ehdr header;
	if (size < sizeof header)
		return SIMCU_IMAGE_INVALID;
	memcpy(&header, data, sizeof header);
	uint64_t table = (uint64_t)header.e_shnum * sizeof(Elf64_Shdr);
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shstrndx >= header.e_shnum || header.e_shoff > size ||
	    table > size - header.e_shoff)
		return SIMCU_IMAGE_INVALID;
	Elf64_Shdr names;
	memcpy(&names, data + header.e_shoff + header.e_shstrndx * sizeof names, sizeof names);
	if (names.sh_offset > size || names.sh_size > size - names.sh_offset)
		return SIMCU_IMAGE_INVALID;
	const char *strings = (const char *)data + names.sh_offset;
	for (unsigned i = 0; i < header.e_shnum; i++) {
		Elf64_Shdr section;
		memcpy(&section, data + header.e_shoff + i * sizeof section, sizeof section);
		if (section.sh_name >= names.sh_size)
			continue;
		const char *name = strings + section.sh_name;
		size_t length = strnlen(name, names.sh_size - section.sh_name);
		if (length > prefix_length && memcmp(name, prefix, prefix_length) == 0)
			add_kernel(image, name + prefix_length, length - prefix_length);
	}
	return SIMCU_IMAGE_OK;
}

/* How much of an ELF file there is, by its own word: section headers come after what they describe. */
static size_t elf_size(const uint8_t *data)
{
	Elf64_Ehdr header;
	memcpy(&header, data, sizeof header);
	uint64_t size;
	if (__builtin_add_overflow(header.e_shoff, (uint64_t)header.e_shnum * sizeof(Elf64_Shdr), &size) ||
	    size > TEXT_MAX)
		return 0;
	return size < sizeof header ? sizeof header : size;
}

/* Fat binaries: a header and a row of images, each with a header of its own. */

#define FAT_WRAPPER_MAGIC 0x466243B1u
#define FAT_MAGIC         0xBA55ED50u
enum { FAT_KIND_PTX = 1, FAT_KIND_ELF = 2, FAT_COMPRESSED = 0x2000 | 0x8000 };

struct fat_wrapper {
	uint32_t magic, version;
	const void *data, *file_name;
};
struct fat_header {
	uint32_t magic;
	uint16_t version, header_size;
	uint64_t size;
};
struct fat_entry {
	uint16_t kind, version;
	uint32_t header_size;
	uint64_t size;
	uint32_t compressed_size, options_offset;
	uint16_t minor, major;
	uint32_t architecture, name_offset, name_size;
	uint64_t flags;
};

static void read_fat_entry(struct simcu_image *image, const struct fat_entry *entry, const uint8_t *data)
{
	int result = SIMCU_IMAGE_INVALID;
	if (image->kernel_count)
		return; /* the same kernels for another architecture */
	if (!(entry->flags & FAT_COMPRESSED) && entry->kind == FAT_KIND_ELF)
		result = simcu_image_read_elf(image, data, entry->size);
	else if (!(entry->flags & FAT_COMPRESSED) && entry->kind == FAT_KIND_PTX)
		result = simcu_image_read_ptx(image, (const char *)data, strnlen((const char *)data, entry->size));
	if (result != SIMCU_IMAGE_OK)
		image->opaque = true;
}

static int read_fat(struct simcu_image *image, const uint8_t *data)
{
	struct fat_header header;
	memcpy(&header, data, sizeof header);
	if (header.header_size < sizeof header || header.size > TEXT_MAX)
		return SIMCU_IMAGE_INVALID;
	const uint8_t *at = data + header.header_size;
	uint64_t left = header.size;
	for (int i = 0; i < FAT_ENTRIES_MAX && left >= sizeof(struct fat_entry); i++) {
		struct fat_entry entry;
		memcpy(&entry, at, sizeof entry);
		if (entry.header_size < sizeof entry || entry.header_size > left ||
		    entry.size > left - entry.header_size)
			return SIMCU_IMAGE_INVALID;
		read_fat_entry(image, &entry, at + entry.header_size);
		at += entry.header_size + entry.size;
		left -= entry.header_size + entry.size;
	}
	return SIMCU_IMAGE_OK;
}

int simcu_image_read(struct simcu_image *image, const void *data)
{
	uint32_t magic;
	int result = SIMCU_IMAGE_INVALID;
	memset(image, 0, sizeof *image);
	if (strnlen(data, sizeof magic) < sizeof magic) /* no magic number has a zero in it, and no PTX is so short */
		return result;
	memcpy(&magic, data, sizeof magic);
	if (magic == FAT_WRAPPER_MAGIC) {
		struct fat_wrapper wrapper;
		memcpy(&wrapper, data, sizeof wrapper);
		memcpy(&magic, wrapper.data, sizeof magic);
		result = magic == FAT_MAGIC ? read_fat(image, wrapper.data) : SIMCU_IMAGE_INVALID;
	} else if (magic == FAT_MAGIC) {
		result = read_fat(image, data);
	} else if (memcmp(data, ELFMAG, SELFMAG) == 0) {
		result = simcu_image_read_elf(image, data, elf_size(data));
	} else {
		result = simcu_image_read_ptx(image, data, strnlen(data, TEXT_MAX));
	}
	if (result != SIMCU_IMAGE_OK)
		simcu_image_free(image);
	return result;
}
