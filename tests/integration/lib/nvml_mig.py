"""A tool that is not ours: changes MIG layouts through NVML, as `nvidia-smi mig` does. Run on a simulated node:

    nvml_mig.py mode GPU 0|1
    nvml_mig.py create GPU SLICES [START]   with a compute instance that takes all; prints the new MIG device's UUID
    nvml_mig.py list GPU                    prints the UUIDs of its MIG devices
    nvml_mig.py destroy UUID...             compute instance and GPU instance of MIG devices
"""
import ctypes
import sys

nvml = ctypes.CDLL("libnvidia-ml.so.1")
PROFILES = {"1": (19, 0), "2": (14, 1), "3": (9, 2), "4": (5, 3), "7": (0, 4)}  # of an A100-80GB: GPU and compute instance


class Placement(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint), ("size", ctypes.c_uint)]


def call(name, *arguments):
    code = getattr(nvml, name)(*arguments)
    if code:
        sys.exit(f"{name}: {code}")


def handle(name, *arguments):
    made = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(made))
    return made


def number(name, device):
    value = ctypes.c_uint()
    call(name, device, ctypes.byref(value))
    return value.value


def mig_devices(gpu):
    for i in range(number("nvmlDeviceGetMaxMigDeviceCount", gpu)):
        device = ctypes.c_void_p()
        if nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, i, ctypes.byref(device)) == 0:
            text = ctypes.create_string_buffer(96)
            call("nvmlDeviceGetUUID", device, text, 96)
            yield text.value.decode()


def create(gpu, slices, start=None):
    before = set(mig_devices(gpu))
    profile, compute = PROFILES[slices]
    if start is None:
        instance = handle("nvmlDeviceCreateGpuInstance", gpu, profile)
    else:
        size = {"1": 1, "2": 2, "3": 4, "4": 4, "7": 8}[slices]
        instance = handle("nvmlDeviceCreateGpuInstanceWithPlacement", gpu, profile, ctypes.byref(Placement(int(start), size)))
    handle("nvmlGpuInstanceCreateComputeInstance", instance, compute)
    print(*(set(mig_devices(gpu)) - before))


def destroy(uuid):
    device = handle("nvmlDeviceGetHandleByUUID", uuid.encode())
    gpu = handle("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", device)
    instance_id, compute_id = number("nvmlDeviceGetGpuInstanceId", device), number("nvmlDeviceGetComputeInstanceId", device)
    instance = handle("nvmlDeviceGetGpuInstanceById", gpu, instance_id)
    call("nvmlComputeInstanceDestroy", handle("nvmlGpuInstanceGetComputeInstanceById", instance, compute_id))
    call("nvmlGpuInstanceDestroy", instance)


def main(verb, first, *rest):
    call("nvmlInit_v2")
    if verb == "destroy":
        for uuid in (first, *rest):
            destroy(uuid)
        return
    gpu = handle("nvmlDeviceGetHandleByIndex_v2", int(first))
    if verb == "mode":
        activation = ctypes.c_int()
        call("nvmlDeviceSetMigMode", gpu, int(rest[0]), ctypes.byref(activation))
        if activation.value:
            sys.exit(f"not active: {activation.value}")
    elif verb == "list":
        print(*mig_devices(gpu))
    else:
        create(gpu, *rest)


main(*sys.argv[1:])
