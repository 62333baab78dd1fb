"""A node that shares its GPUs by MPS, with a kubelet and CUDA programs in what would be containers."""
import os
import pathlib
import shutil
import tempfile

import pytest

from cuda_client import Client
from kubelet import Kubelet
from node import GPUSHARE, Node, Sim, healthy, wait_until

NEEDS = [pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built"),
         pytest.mark.skipif(os.geteuid() != 0, reason="NVML lets only root change the compute mode")]
CONFIG = """version: v1
flags: {mpsRoot: %s}
sharing:
  mps:
    renameByDefault: false
    resources:
    - name: nvidia.com/gpu
      replicas: 10
      memoryLimit: 8Gi
"""
WITHOUT = "version: v1\nflags: {mpsRoot: %s}\n"
SLICED = WITHOUT + """sharing:
  timeSlicing:
    renameByDefault: false
    resources: [{name: nvidia.com/gpu, replicas: 4}]
"""
COMPUTE_MODE = """
import ctypes, sys
nvml, device, mode = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p(), ctypes.c_int()
assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetHandleByIndex_v2(int(sys.argv[1]), ctypes.byref(device)) == 0
if len(sys.argv) > 2:
    assert nvml.nvmlDeviceSetComputeMode(device, int(sys.argv[2])) == 0
assert nvml.nvmlDeviceGetComputeMode(device, ctypes.byref(mode)) == 0
print(mode.value)
"""
DEFAULT, PROHIBITED, EXCLUSIVE = 0, 2, 3


class World:
    """A simulated node, a daemon that shares it by MPS, a kubelet, and CUDA programs in what would be containers."""

    def __init__(self, path, spec="2xA100-80GB", config=CONFIG, sim_options=(), **options):
        self.root = tempfile.mkdtemp(prefix="gpushare-mps-")  # short: a socket's path has at most 107 bytes
        os.chmod(self.root, 0o755)  # MPS works for all users
        self.sim = Sim(path / "sim", spec, *sim_options)
        self.node = Node(path, self.sim, config=config % self.root, **options)
        self.kubelet = Kubelet(self.node.kubelet_dir).start()
        self.clients = []

    def start(self):
        self.kubelet.plugins.clear()
        self.node.start()
        return self

    def plugin(self, name="nvidia.com/gpu"):
        wait_until(lambda: name in self.kubelet.plugins, "%s to be registered; log:\n%s" % (name, self.node.read_log()))
        return self.kubelet.plugins[name]

    def ready(self, count=20, name="nvidia.com/gpu"):
        try:
            return self.plugin(name).wait(lambda devices: len(healthy(devices)) == count, "%d healthy shares" % count)
        except AssertionError as error:
            raise AssertionError("%s; log:\n%s" % (error, self.node.read_log())) from error

    def configure(self, text):
        self.node.write_config(text % self.root)

    def container(self, share, name="nvidia.com/gpu", **env):
        """A CUDA program with the environment that the share's container gets, and its mounts."""
        answer = self.plugin(name).allocate([share])[0]
        variables = dict(answer.envs)
        for mount in answer.mounts:
            if mount.container_path == variables.get("CUDA_MPS_PIPE_DIRECTORY"):
                variables["CUDA_MPS_PIPE_DIRECTORY"] = mount.host_path
        variables["CUDA_VISIBLE_DEVICES"] = variables.pop("NVIDIA_VISIBLE_DEVICES")
        self.clients.append(Client({**os.environ, **variables, **env}, self.sim.command))
        return self.clients[-1]

    def mps(self):
        """The control daemons in the status document, by id: the device's UUID, or with a share's number."""
        return {daemon["id"]: daemon for daemon in self.node.status()["mps"]}

    def mps_pid(self, gpu):
        """Of its control daemon, by its file."""
        return int(pathlib.Path(self.root, gpu, "pipe", "nvidia-cuda-mps-control.pid").read_text(encoding="ascii"))

    def wait_state(self, gpu, state):
        wait_until(lambda: self.mps().get(gpu, {}).get("state") == state, "%s to be %s; log:\n%s" % (gpu, state, self.node.read_log()))
        return self.mps()[gpu]

    def mode(self, gpu, *to):
        done = self.sim.run("python3", "-c", COMPUTE_MODE, str(gpu), *map(str, to))
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def say(self, gpu, command):
        pipe = pathlib.Path(self.root, gpu, "pipe")
        return self.sim.run("nvidia-cuda-mps-control", input=command + "\n", env={**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(pipe)}).stdout

    def stop(self):
        for client in self.clients:
            client.stop()
        self.kubelet.stop()
        if self.node.process and self.node.process.poll() is None:
            assert self.node.stop() == 0, self.node.read_log()
        self.sim.run("gpushare", "mps", "stop", "--grace", "0s", "--mps-root", self.root, "--state-dir", self.node.state)
        self.sim.stop()
        shutil.rmtree(self.root)


@pytest.fixture
def make(tmp_path):
    worlds = []

    def begin(**options):
        worlds.append(World(tmp_path, **options))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.stop()


@pytest.fixture
def world(make):
    return make().start()


def by_gpu(ids):
    gpus = {}
    for share in ids:
        gpus.setdefault(share.split("::")[0], []).append(share)
    return list(gpus.values())
