/* Memory: bytes arrive, and what they cost is accounted. */
#include "node.h"

#include <signal.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static uint64_t free_bytes(void)
{
	size_t free_now, total;
	OK(cuMemGetInfo_v2(&free_now, &total));
	return free_now;
}

static void bytes_arrive_body(void)
{
	test_context();
	enum { SIZE = 100000 };
	static unsigned char out[SIZE], back[SIZE];
	CUdeviceptr a, b;
	for (size_t i = 0; i < SIZE; i++)
		out[i] = (unsigned char)(i * 7);
	OK(cuMemAlloc_v2(&a, SIZE));
	OK(cuMemAlloc_v2(&b, SIZE));
	OK(cuMemcpyHtoD_v2(a, out, SIZE));
	OK(cuMemcpyDtoD_v2(b, a, SIZE));
	OK(cuMemcpyDtoH_v2(back, b, SIZE));
	CHECK(memcmp(out, back, SIZE) == 0);
	memset(back, 0, SIZE);
	OK(cuMemcpyDtoHAsync_v2(back, a + 10, 50, NULL));
	OK(cuStreamSynchronize(NULL));
	CHECK(memcmp(out + 10, back, 50) == 0);
	OK(cuMemcpy((uintptr_t)back, b, SIZE));
	CHECK(memcmp(out, back, SIZE) == 0);
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(a, out, SIZE + 1));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(a + SIZE, out, 1));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(out, (uintptr_t)out, 1));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(a, out, SIZE_MAX));
	OK(cuMemFree_v2(a));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(a));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(b + 8));
	OK(cuMemFree_v2(0));
}

static void bytes_arrive(void **state)
{
	test_in_process(bytes_arrive_body);
}

static void fills_body(void)
{
	test_context();
	unsigned char bytes[64];
	uint32_t words[16];
	CUdeviceptr a;
	OK(cuMemAlloc_v2(&a, 8 * MIB));
	OK(cuMemsetD8_v2(a, 0xAB, 8 * MIB));
	OK(cuMemcpyDtoH_v2(bytes, a + 8 * MIB - 64, 64));
	CHECK(bytes[0] == 0xAB && bytes[63] == 0xAB);
	OK(cuMemsetD8_v2(a + 100, 0, 4 * MIB)); /* big zeroing takes another way */
	OK(cuMemcpyDtoH_v2(bytes, a + 96, 8));
	CHECK(bytes[3] == 0xAB && bytes[4] == 0 && bytes[7] == 0);
	OK(cuMemcpyDtoH_v2(bytes, a + 4 * MIB + 96, 8));
	CHECK(bytes[3] == 0 && bytes[4] == 0xAB);
	OK(cuMemsetD32Async(a, 0x01020304, 16, CU_STREAM_PER_THREAD));
	OK(cuMemcpyDtoH_v2(words, a, 64));
	CHECK(words[0] == 0x01020304 && words[15] == 0x01020304);
	OK(cuMemsetD16_v2(a, 0x0506, 1));
	OK(cuMemcpyDtoH_v2(words, a, 4));
	CHECK(words[0] == 0x01020506);
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(a + 1, 0, 1));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(a, 0, 3 * MIB));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemsetD32_v2(a, 0, SIZE_MAX));
	OK(cuMemsetD2D8_v2(a, 16, 0xEE, 2, 3));
	OK(cuMemcpyDtoH_v2(bytes, a, 64));
	CHECK(bytes[16] == 0xEE && bytes[17] == 0xEE && bytes[18] == 2 && bytes[33] == 0xEE && bytes[48] != 0xEE);
}

static void fills(void **state)
{
	test_in_process(fills_body);
}

static void rectangles_body(void)
{
	test_context();
	char picture[4][8] = {"abcdefg", "hijklmn", "opqrstu", "vwxyz.."}, part[2][3] = {{0}};
	CUdeviceptr a;
	size_t pitch;
	OK(cuMemAllocPitch_v2(&a, &pitch, 8, 4, 4));
	CHECK(pitch >= 8 && pitch % 512 == 0);
	CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST,
			      .srcHost = picture,
			      .srcPitch = 8,
			      .dstMemoryType = CU_MEMORYTYPE_DEVICE,
			      .dstDevice = a,
			      .dstPitch = pitch,
			      .WidthInBytes = 8,
			      .Height = 4};
	OK(cuMemcpy2D_v2(&copy));
	CUDA_MEMCPY2D back = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
			      .srcDevice = a,
			      .srcPitch = pitch,
			      .srcXInBytes = 2,
			      .srcY = 1,
			      .dstMemoryType = CU_MEMORYTYPE_HOST,
			      .dstHost = part,
			      .dstPitch = 3,
			      .WidthInBytes = 3,
			      .Height = 2};
	OK(cuMemcpy2D_v2(&back));
	CHECK(memcmp(part, "jklqrs", 6) == 0);
	back.Height = 100;
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&back));
	back.Height = 2;
	back.srcY = SIZE_MAX / 2;
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpy2D_v2(&back));
	back.srcMemoryType = CU_MEMORYTYPE_ARRAY;
	EXPECT(CUDA_ERROR_NOT_SUPPORTED, cuMemcpy2D_v2(&back));
}

static void rectangles(void **state)
{
	test_in_process(rectangles_body);
}

static void accounting_body(void)
{
	CUcontext context = test_context();
	size_t free_now, total;
	OK(cuMemGetInfo_v2(&free_now, &total));
	CHECK(total > 78 * GIB && total < 80 * GIB);
	uint64_t overhead = total - free_now;
	CHECK(overhead >= 100 * MIB && overhead < GIB);
	CHECK(sim_gpu_memory_used(test_node, 0) == overhead);
	CUdeviceptr big, small[3];
	OK(cuMemAlloc_v2(&big, 60 * GIB)); /* more than the machine has: nothing is touched */
	CHECK(free_bytes() == free_now - 60 * GIB);
	for (int i = 0; i < 3; i++)
		OK(cuMemAlloc_v2(&small[i], 1000));
	CHECK(free_bytes() == free_now - 60 * GIB - 2 * MIB); /* small ones share */
	CUdeviceptr none;
	EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&none, 30 * GIB));
	EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&none, SIZE_MAX));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&none, 0));
	CHECK(free_bytes() == free_now - 60 * GIB - 2 * MIB);
	OK(cuMemFree_v2(big));
	OK(cuMemAlloc_v2(&big, 30 * GIB));
	OK(cuMemFree_v2(small[1]));
	OK(cuMemFree_v2(small[0]));
	CHECK(free_bytes() == free_now - 30 * GIB - 2 * MIB);
	OK(cuMemFree_v2(small[2]));
	CHECK(free_bytes() == free_now - 30 * GIB);
	OK(cuCtxDestroy_v2(context)); /* takes the rest with it */
	CHECK(sim_gpu_memory_used(test_node, 0) == 0);
}

static void accounting(void **state)
{
	test_in_process(accounting_body);
}

static void pools_body(void)
{
	test_context();
	uint64_t before = free_bytes(), used = 1;
	CUmemoryPool pool, other;
	CUdeviceptr a, b;
	OK(cuDeviceGetDefaultMemPool(&pool, 0));
	OK(cuMemAllocAsync(&a, 10 * MIB, NULL));
	OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
	CHECK(used == 10 * MIB && free_bytes() == before - 10 * MIB);
	CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				     .maxSize = 8 * MIB,
				     .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
	OK(cuMemPoolCreate(&other, &properties));
	OK(cuMemAllocFromPoolAsync(&b, 6 * MIB, other, NULL));
	EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAllocFromPoolAsync(&b, 6 * MIB, other, NULL));
	OK(cuMemFreeAsync(a, NULL));
	OK(cuMemFreeAsync(b, NULL));
	OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
	CHECK(used == 0 && free_bytes() == before);
	OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &used));
	CHECK(used == 10 * MIB);
	OK(cuMemPoolDestroy(other));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(other));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemPoolDestroy(pool));
}

static void pools(void **state)
{
	test_in_process(pools_body);
}

static void virtual_memory_body(void)
{
	test_context();
	uint64_t before = free_bytes();
	CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
					  .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
	CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemGenericAllocationHandle one, two;
	CUdeviceptr base;
	size_t unit;
	OK(cuMemGetAllocationGranularity(&unit, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
	OK(cuMemAddressReserve(&base, 3 * unit, 0, 0, 0));
	CHECK(base % unit == 0);
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemCreate(&one, unit + 1, &properties, 0));
	OK(cuMemCreate(&one, unit, &properties, 0));
	OK(cuMemCreate(&two, unit, &properties, 0));
	CHECK(free_bytes() == before - 2 * unit);
	OK(cuMemMap(base, unit, 0, one, 0));
	OK(cuMemMap(base + unit, unit, 0, two, 0));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemMap(base, unit, 0, two, 0));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemMap(base + 2 * unit, 2 * unit, 0, two, 0));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(base, "x", 1)); /* no access yet */
	OK(cuMemSetAccess(base, 2 * unit, &access, 1));
	char word[8] = "";
	OK(cuMemcpyHtoD_v2(base + unit - 4, "abcdefg", 8)); /* over the seam */
	OK(cuMemcpyDtoH_v2(word, base + unit - 4, 8));
	CHECK(strcmp(word, "abcdefg") == 0);
	OK(cuMemMap(base + 2 * unit, unit, 0, two, 0)); /* the same memory at a second place */
	OK(cuMemSetAccess(base + 2 * unit, unit, &access, 1));
	OK(cuMemcpyDtoH_v2(word, base + 2 * unit, 4));
	CHECK(memcmp(word, "efg", 4) == 0);
	OK(cuMemRelease(one));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemRelease(one));
	CHECK(free_bytes() == before - 2 * unit); /* still mapped */
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemAddressFree(base, 3 * unit));
	OK(cuMemUnmap(base, unit));
	CHECK(free_bytes() == before - unit);
	OK(cuMemUnmap(base + unit, 2 * unit));
	OK(cuMemRelease(two));
	OK(cuMemAddressFree(base, 3 * unit));
	CHECK(free_bytes() == before);
	/* Memory that outlives the last context of the process is not given back twice. */
	CUcontext context;
	OK(cuMemCreate(&one, 100 * unit, &properties, 0));
	OK(cuCtxGetCurrent(&context));
	OK(cuCtxDestroy_v2(context));
	OK(cuCtxCreate_v2(&context, 0, 0));
	CHECK(free_bytes() == before);
	OK(cuMemRelease(one));
	CHECK(free_bytes() == before);
}

static void virtual_memory(void **state)
{
	test_in_process(virtual_memory_body);
}

static void pointers_body(void)
{
	CUcontext context = test_context(), owner;
	CUdeviceptr a, base, managed, mapped;
	void *host;
	static char registered[64];
	unsigned type, flags;
	size_t size;
	OK(cuMemAlloc_v2(&a, 1000));
	OK(cuMemAllocManaged(&managed, 100, CU_MEM_ATTACH_GLOBAL));
	OK(cuMemHostAlloc(&host, 100, CU_MEMHOSTALLOC_PORTABLE));
	strcpy(host, "pinned");
	strcpy((char *)(uintptr_t)managed, "managed");
	OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, a + 5));
	CHECK(type == CU_MEMORYTYPE_DEVICE);
	OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)host));
	CHECK(type == CU_MEMORYTYPE_HOST);
	OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_IS_MANAGED, managed));
	CHECK(type == 1);
	OK(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, a));
	CHECK(owner == context);
	EXPECT(CUDA_ERROR_INVALID_VALUE,
	       cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (uintptr_t)&type));
	CUpointer_attribute wanted[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
	int ordinal = 5;
	OK(cuPointerGetAttributes(2, wanted, (void *[]){&type, &ordinal}, (uintptr_t)&type));
	CHECK(type == 0 && ordinal == -2);
	OK(cuMemGetAddressRange_v2(&base, &size, a + 999));
	CHECK(base == a && size == 1000);
	EXPECT(CUDA_ERROR_NOT_FOUND, cuMemGetAddressRange_v2(&base, &size, 4096));
	OK(cuMemHostGetDevicePointer_v2(&mapped, host, 0));
	CHECK(mapped == (uintptr_t)host);
	OK(cuMemHostGetFlags(&flags, host));
	CHECK(flags & CU_MEMHOSTALLOC_PORTABLE);
	OK(cuMemHostRegister_v2(registered, sizeof registered, 0));
	EXPECT(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(registered + 8, 8, 0));
	OK(cuMemHostUnregister(registered));
	EXPECT(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(registered));
	OK(cuMemFreeHost(host));
	EXPECT(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(registered));
	OK(cuMemFree_v2(managed));
}

static void pointers(void **state)
{
	test_in_process(pointers_body);
}

static void hold_memory(void)
{
	CUdeviceptr a;
	test_context();
	OK(cuMemAlloc_v2(&a, 10 * GIB));
	kill(getpid(), SIGKILL);
}

static void a_killed_process_frees_its_memory(void **state)
{
	int status;
	pid_t child = test_start(hold_memory);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	struct sim_client clients[4];
	assert_int_equal(sim_clients(test_node, 0, clients, 4), 0);
	assert_int_equal(sim_gpu_memory_used(test_node, 0), 0);
}

static void other_process_body(void)
{
	CUdeviceptr a;
	test_context();
	uint64_t all = free_bytes();
	OK(cuMemAlloc_v2(&a, 50 * GIB));
	CHECK(free_bytes() == all - 50 * GIB);
	/* Another client of the GPU, through the state. */
	struct gs_error error;
	int slot = sim_client_attach(test_node, 0, SIM_CLIENT_COMPUTE, &error);
	CHECK(slot >= 0 && sim_client_allocate(test_node, slot, 20 * GIB) == 0);
	CHECK(free_bytes() == all - 70 * GIB);
	EXPECT(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&a, 20 * GIB));
	sim_client_detach(test_node, slot);
	OK(cuMemAlloc_v2(&a, 20 * GIB));
}

static void what_others_hold_is_missing(void **state)
{
	test_in_process(other_process_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive),
		cmocka_unit_test(fills),
		cmocka_unit_test(rectangles),
		cmocka_unit_test(accounting),
		cmocka_unit_test(pools),
		cmocka_unit_test(virtual_memory),
		cmocka_unit_test(pointers),
		cmocka_unit_test(a_killed_process_frees_its_memory),
		cmocka_unit_test(what_others_hold_is_missing),
	};
	return cmocka_run_group_tests(tests, test_make_node, test_remove_node);
}
