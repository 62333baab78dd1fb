"""What a container that is given a share by CDI can do on a simulated node: what its spec says, done here by hand in a mount
namespace."""
import json
import os
import subprocess
import sys

import pytest

from kubelet import WAIT, Kubelet
from node import GPUSHARE, Node, wait_until

FOLDER = "usr/lib/x86_64-linux-gnu"
CONFIG = """version: v1
flags:
  plugin:
    deviceListStrategy: cdi-cri
sharing:
  timeSlicing:
    resources:
    - name: nvidia.com/gpu
      replicas: 2
"""
# Mounts and device nodes of the spec, then a command. What a container has of the host's /dev stays away.
ENTER = r"""set -e
mount -t tmpfs -o mode=755 tmpfs /dev
mknod -m 666 /dev/null c 1 3
while read -r kind from to access; do
    if [ "$kind" = device ]; then mkdir -p "${to%/*}"; : > "$to"; fi
    mount --bind "$from" "$to"
    [ "$kind" = device ] || mount -o "remount,bind,$access" "$to"
done <<EOF
$PLAN
EOF
exec "$@"
"""
LIST = """
import ctypes
nvml = ctypes.CDLL("libnvidia-ml.so.1")
assert nvml.nvmlInit_v2() == 0
count, device, uuid = ctypes.c_uint(), ctypes.c_void_p(), ctypes.create_string_buffer(96)
assert nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
for index in range(count.value):
    assert nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0
    assert nvml.nvmlDeviceGetUUID(device, uuid, 96) == 0
    print(uuid.value.decode())
"""


class World:
    def __init__(self, folder):
        self.dir = str(folder / "sim")
        self.holder = subprocess.Popen([GPUSHARE, "sim", "--hold", "--state", self.dir, "8xT4"], stdout=subprocess.PIPE, text=True)
        assert "is up" in self.holder.stdout.readline()
        self.root = os.path.join(self.dir, "root")
        self.libraries = os.path.join(self.root, FOLDER)
        env = {"GPUSHARE_SIM": self.dir, "LD_LIBRARY_PATH": self.libraries}
        self.node = Node(folder, config=CONFIG, env=env, arguments=["--driver-root", self.root, "--container-driver-root", self.root])
        self.kubelet = Kubelet(self.node.kubelet_dir)

    def stop(self):
        if self.node.process and self.node.process.poll() is None:
            self.node.stop()
        self.kubelet.stop()
        self.holder.terminate()
        self.holder.wait(WAIT)


@pytest.fixture()
def world(tmp_path):
    probe = subprocess.run(["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)],
                           capture_output=True)
    if probe.returncode or not os.path.isdir(os.path.join("/", FOLDER)):
        pytest.skip("needs root, namespaces, and the library folder of this machine's kind")
    made = World(tmp_path)
    yield made
    made.stop()


class Container:
    """What CDI makes of a share; mounts that are not of the node's own directory would change this machine's folders."""

    def __init__(self, world, answer):
        wanted = [name.name.partition("=")[2] for name in answer.cdi_devices]
        self.world, plan, self.env = world, [], dict(answer.envs)
        with open(os.path.join(world.node.cdi, "k8s.device-plugin.nvidia.com-gpu.json"), encoding="utf-8") as file:
            spec = json.load(file)
        edits = [spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"] if device["name"] in wanted)]
        assert len(edits) == 1 + len(wanted)
        for edit in edits:
            self.env.update(pair.split("=", 1) for pair in edit.get("env", ()))
            plan += ["device %s %s rw" % (node.get("hostPath", node["path"]), node["path"]) for node in edit.get("deviceNodes", ())]
            plan += ["mount %s %s %s" % (mount["hostPath"], mount["containerPath"], mount["options"][0])
                     for mount in edit.get("mounts", ()) if mount["hostPath"] == mount["containerPath"]
                     and mount["hostPath"].startswith(world.dir)]
        self.env.update(PLAN="\n".join(plan), LD_LIBRARY_PATH=world.libraries)

    def start(self, *command):
        return subprocess.Popen(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh",
                                 *command], env={**os.environ, **self.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command):
        with self.start(*command) as process:
            out, err = process.communicate(timeout=WAIT)
        return process.returncode, out, err


def test_a_container_sees_its_own_gpu_and_changes_no_program(world):
    kubelet = world.kubelet.start()
    world.node.start()
    plugin = kubelet.wait_registered()
    share = sorted(plugin.wait(lambda devices: len(devices) == 16))[5]
    answer, = plugin.allocate([share])
    container = Container(world, answer)
    status, out, err = container.run(sys.executable, "-c", LIST)
    assert (status, out.split()) == (0, [share.split("::")[0]]), err
    library = os.path.join(world.libraries, "libcuda.so.1")
    for attempt in ("cp /bin/sh %s" % os.path.realpath(library), "rm %s" % library, "touch %s/usr/bin/nvidia-smi" % world.root,
                    "rm %s/state" % world.dir, "mv %s/root %s/other" % (world.dir, world.dir)):
        status, out, err = container.run("sh", "-c", attempt)
        assert status != 0 and ("Read-only file system" in err or "busy" in err), err
    load = container.start(GPUSHARE, "sim", "load", "--memory", "1Gi")
    try:
        def holder():
            shares = [each for gpu in world.node.status()["gpus"] for each in gpu["shares"] if each["holders"]]
            return shares and (shares[0]["id"], shares[0]["holders"][0]["name"])
        assert wait_until(holder, "a holder of the share") == (share, "gpushare")
    finally:
        load.kill()
        load.communicate()
