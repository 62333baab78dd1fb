#include "node.h"

#include <elf.h>

#include "sim/cuda/image.h"

static struct simcu_image image;

static void ptx_kernels_and_parameters(void **state)
{
	assert_int_equal(simcu_image_read(&image, test_ptx), SIMCU_IMAGE_OK);
	assert_int_equal(image.kernel_count, 2);
	assert_string_equal(image.kernels[0].name, "gpushare_spin");
	assert_int_equal(image.kernels[0].parameter_count, 1);
	assert_int_equal(image.kernels[0].sizes[0], 8);
	assert_string_equal(image.kernels[1].name, "work");
	assert_int_equal(image.kernels[1].parameter_count, 2);
	assert_int_equal(image.kernels[1].offsets[1], 8);
	assert_int_equal(image.kernels[1].sizes[1], 4);
	assert_int_equal(image.variable_count, 1);
	assert_string_equal(image.variables[0].name, "table");
	assert_int_equal(image.variables[0].bytes, 64);
	simcu_image_free(&image);
}

static void ptx_structs_are_aligned(void **state)
{
	static const char text[] =
		".version 8.0 .entry k(.param .u8 a, .param .align 16 .b8 b[24], .param .f32 c) {ret;}"
		".extern .global .f32 elsewhere; .const .f64 pi[4][2];";
	assert_int_equal(simcu_image_read(&image, text), SIMCU_IMAGE_OK);
	assert_int_equal(image.kernels[0].parameter_count, 3);
	assert_int_equal(image.kernels[0].offsets[1], 16);
	assert_int_equal(image.kernels[0].sizes[1], 24);
	assert_int_equal(image.kernels[0].offsets[2], 40);
	assert_int_equal(image.variable_count, 1);
	assert_int_equal(image.variables[0].bytes, 64);
	simcu_image_free(&image);
}

static void what_is_no_image_is_refused(void **state)
{
	static const char *const texts[] = {"",
					    "abc",
					    "hello, world",
					    ".version 7.0 .entry",
					    ".version 7.0 .entry k() {",
					    ".entry k() {}",
					    "/* .version 7.0",
					    "\"",
					    ".version 7.0 }"};
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		assert_int_not_equal(simcu_image_read(&image, texts[i]), SIMCU_IMAGE_OK);
		assert_int_equal(image.kernel_count, 0);
	}
}

/* Every prefix of a good text is read within its bounds, whatever the verdict. */
static void cut_ptx_is_read_within_bounds(void **state)
{
	for (size_t size = 0; size < strlen(test_ptx); size++) {
		char *copy = malloc(size + 1);
		memcpy(copy, test_ptx, size);
		memset(&image, 0, sizeof image);
		simcu_image_read_ptx(&image, copy, size);
		assert_in_range(image.kernel_count, 0, 2);
		simcu_image_free(&image);
		free(copy);
	}
}

/* A minimal cubin: two sections of code and the table of names. */
struct cubin {
	Elf64_Ehdr header;
	char names[64];
	Elf64_Shdr sections[4];
};

static struct cubin make_cubin(void)
{
	struct cubin cubin;
	memset(&cubin, 0, sizeof cubin);
	memcpy(cubin.header.e_ident, ELFMAG, SELFMAG);
	cubin.header.e_ident[EI_CLASS] = ELFCLASS64;
	cubin.header.e_shoff = offsetof(struct cubin, sections);
	cubin.header.e_shentsize = sizeof(Elf64_Shdr);
	cubin.header.e_shnum = 4;
	cubin.header.e_shstrndx = 3;
	memcpy(cubin.names, "\0.text.one\0.text.two\0.names", 28);
	cubin.sections[1].sh_name = 1;
	cubin.sections[2].sh_name = 11;
	cubin.sections[3] = (Elf64_Shdr){.sh_name = 21, .sh_offset = offsetof(struct cubin, names), .sh_size = 64};
	return cubin;
}

static void elf_sections_name_kernels(void **state)
{
	struct cubin cubin = make_cubin();
	assert_int_equal(simcu_image_read(&image, &cubin), SIMCU_IMAGE_OK);
	assert_int_equal(image.kernel_count, 2);
	assert_string_equal(image.kernels[1].name, "two");
	assert_false(image.kernels[0].parameters_known);
	simcu_image_free(&image);
}

static void damaged_elf_is_refused(void **state)
{
	struct cubin cubin = make_cubin();
	cubin.header.e_shoff = sizeof cubin;
	assert_int_equal(simcu_image_read_elf(&image, (uint8_t *)&cubin, sizeof cubin), SIMCU_IMAGE_INVALID);
	cubin = make_cubin();
	cubin.header.e_shoff = UINT64_MAX - 8;
	assert_int_equal(simcu_image_read_elf(&image, (uint8_t *)&cubin, sizeof cubin), SIMCU_IMAGE_INVALID);
	cubin = make_cubin();
	cubin.header.e_shstrndx = 9;
	assert_int_equal(simcu_image_read_elf(&image, (uint8_t *)&cubin, sizeof cubin), SIMCU_IMAGE_INVALID);
	cubin = make_cubin();
	cubin.sections[3].sh_size = UINT64_MAX;
	assert_int_equal(simcu_image_read_elf(&image, (uint8_t *)&cubin, sizeof cubin), SIMCU_IMAGE_INVALID);
	assert_int_equal(image.kernel_count, 0);
}

struct fat {
	struct {
		uint32_t magic;
		uint16_t version, header_size;
		uint64_t size;
	} header;
	struct {
		uint16_t kind, version;
		uint32_t header_size;
		uint64_t size;
		uint32_t compressed_size, options_offset;
		uint16_t minor, major;
		uint32_t architecture, name_offset, name_size;
		uint64_t flags;
	} entry;
	char text[128];
};

static void fat_binaries_are_opened(void **state)
{
	struct fat fat = {.header = {0xBA55ED50, 1, 16, sizeof fat - 16}, .entry = {.kind = 1}};
	fat.entry.header_size = offsetof(struct fat, text) - 16;
	fat.entry.size = sizeof fat.text;
	strcpy(fat.text, ".version 7.0 .entry inside() {ret;}");
	struct {
		uint32_t magic, version;
		const void *data, *file_name;
	} wrapper = {0x466243B1, 1, &fat, NULL};
	assert_int_equal(simcu_image_read(&image, &wrapper), SIMCU_IMAGE_OK);
	assert_string_equal(image.kernels[0].name, "inside");
	assert_false(image.opaque);
	simcu_image_free(&image);
	fat.entry.flags = 0x2000; /* compressed */
	assert_int_equal(simcu_image_read(&image, &fat), SIMCU_IMAGE_OK);
	assert_true(image.opaque);
	simcu_image_free(&image);
	fat.entry.size = 4096;
	assert_int_equal(simcu_image_read(&image, &fat), SIMCU_IMAGE_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ptx_kernels_and_parameters),  cmocka_unit_test(ptx_structs_are_aligned),
		cmocka_unit_test(what_is_no_image_is_refused), cmocka_unit_test(cut_ptx_is_read_within_bounds),
		cmocka_unit_test(elf_sections_name_kernels),   cmocka_unit_test(damaged_elf_is_refused),
		cmocka_unit_test(fat_binaries_are_opened),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
