"""A CUDA program for tests that does what it is told, and the results that MPS brings about."""
import subprocess
import sys

SUCCESS, OUT_OF_MEMORY, DEVICE_UNAVAILABLE, NO_DEVICE, ILLEGAL_ADDRESS = 0, 2, 46, 100, 700
CONNECTION_FAILED, RPC_FAILURE, SERVER_NOT_READY, MAX_CLIENTS, TERMINATED = 805, 806, 807, 808, 810

CLIENT = r'''
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, module, function, pointer, value = (ctypes.c_void_p() for _ in range(5))
PTX = b".version 6.0\n.target sm_50\n.address_size 64\n.visible .entry spin(.param .u64 ns) { ret; }\n\0"

def run(nanoseconds):
    result = cuda.cuModuleLoadData(ctypes.byref(module), PTX) or cuda.cuModuleGetFunction(ctypes.byref(function), module, b"spin")
    argument = ctypes.c_ulonglong(nanoseconds)
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(argument))
    return result or cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, arguments, None) or cuda.cuCtxSynchronize()

def attribute(number, device=0):
    out = ctypes.c_int()
    assert cuda.cuDeviceGetAttribute(ctypes.byref(out), number, device) == 0
    return out.value

def count():
    out = ctypes.c_int()
    return -1 if cuda.cuDeviceGetCount(ctypes.byref(out)) else out.value

def init(): return cuda.cuInit(0)
def create(device=0): return cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device)
def destroy(): return cuda.cuCtxDestroy_v2(context)
def alloc(mebibytes): return cuda.cuMemAlloc_v2(ctypes.byref(ctypes.c_ulonglong()), ctypes.c_size_t(mebibytes << 20))

for line in sys.stdin:
    print(eval(line), flush=True)
'''


class Client:
    """A CUDA program that does what it is told, a line at a time."""

    def __init__(self, env, wrap=lambda *command: command):
        self.environment = env
        self.process = subprocess.Popen(wrap(sys.executable, "-c", CLIENT), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.pid = self.process.pid

    def start(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        return int(self.process.stdout.readline())

    def __call__(self, line):
        self.start(line)
        return self.answer()

    def ready(self, device=0):
        assert self("init()") == SUCCESS
        assert self("create(%d)" % device) == SUCCESS
        return self

    def stop(self):
        self.process.kill()
        self.process.communicate()
