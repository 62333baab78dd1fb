"""The driver wherever a distribution puts it below the driver's root: NVML is loaded from there, and containers get its files."""
import json
import os
import shutil

import pytest

from kubelet import BUILD
from node import Node, Sim, wait_until

VERSION = "550.163.01"
NVML = next((os.path.join(folder, "libnvidia-ml.so.1") for folder in (os.path.join(BUILD, "sim", "nvml"), os.path.join(BUILD, "sim"))
             if os.path.exists(os.path.join(folder, "libnvidia-ml.so.1"))), None)
LIBRARY = "libnvidia-ml", "libcuda"

pytestmark = pytest.mark.skipif(not NVML, reason="the simulated libnvidia-ml.so.1 is not built")


class WithoutLoader(Sim):
    """What runs on it finds the simulated libraries in no folder of the loader's."""

    def command(self, *arguments):
        return super().command("env", "-u", "LD_LIBRARY_PATH", *arguments)


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    node = WithoutLoader(tmp_path_factory.mktemp("sim") / "node", "1xT4")
    yield node
    node.stop()


def libraries(root, folder, version=VERSION):
    """The driver's libraries in a folder, under their real names and the loader's."""
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(NVML, place / f"libnvidia-ml.so.{version}")
    (place / f"libcuda.so.{version}").touch()
    for name in LIBRARY:
        (place / f"{name}.so.1").symlink_to(f"{name}.so.{version}")
    return place


def program(root, folder):
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "nvidia-smi").touch(mode=0o755)


def debian(root):
    """Links in the loader's folder lead through alternatives, and begin at the root that they are in."""
    libraries(root, "usr/lib/x86_64-linux-gnu/nvidia/current")
    (root / "etc/alternatives").mkdir(parents=True)
    for name in LIBRARY:
        real, between = f"/usr/lib/x86_64-linux-gnu/nvidia/current/{name}.so.1", f"/etc/alternatives/nvidia--{name}.so.1-x86_64-linux-gnu"
        (root / between[1:]).symlink_to(real)
        (root / f"usr/lib/x86_64-linux-gnu/{name}.so.1").symlink_to(between)
    program(root, "usr/lib/nvidia/current")
    (root / "etc/alternatives/nvidia--nvidia-smi").symlink_to("/usr/lib/nvidia/current/nvidia-smi")
    (root / "usr/bin").mkdir()
    (root / "usr/bin/nvidia-smi").symlink_to("/etc/alternatives/nvidia--nvidia-smi")


def nixos(root):
    libraries(root, "nix/store/abc-nvidia-x11/lib")
    program(root, "nix/store/abc-nvidia-x11/bin")
    for link, target in (("run/opengl-driver", "/nix/store/abc-nvidia-x11"), ("run/current-system/sw", "/nix/store/abc-nvidia-x11")):
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)


def usr_merged(root):
    libraries(root, "usr/lib64")
    program(root, "usr/bin")
    (root / "lib64").symlink_to("usr/lib64")
    (root / "bin").symlink_to("usr/bin")


def by_loader_conf(root):
    libraries(root, "srv/drivers/nvidia")
    program(root, "opt/bin")
    (root / "etc/ld.so.conf.d").mkdir(parents=True)
    (root / "etc/ld.so.conf.d/gpu.conf").write_text("# ours\n /srv/drivers/nvidia \n/not/there\n")


def beside_other_machines(root):
    """A library that cannot be loaded here, in a folder that comes before: its header says a machine of 32 bits."""
    libraries(root, "usr/lib")
    program(root, "usr/bin")
    (root / "usr/lib64").mkdir()
    for name in LIBRARY:
        with open(NVML, "rb") as file:
            header = bytearray(file.read(4096))
        header[4] = 1
        (root / f"usr/lib64/{name}.so.{VERSION}").write_bytes(header)
        (root / f"usr/lib64/{name}.so.1").symlink_to(f"{name}.so.{VERSION}")


def windows(root):
    place = root / "usr/lib/wsl/lib"
    place.mkdir(parents=True)
    shutil.copy(NVML, place / "libnvidia-ml.so.1")
    (place / "libcuda.so.1.1").touch()
    (place / "libcuda.so.1").symlink_to("libcuda.so.1.1")
    (place / "libdxcore.so").touch()
    (root / "usr/lib/wsl/drivers/nv_dispi.inf").mkdir(parents=True)
    program(root, "usr/lib/wsl/lib")


def plain(folder, programs):
    def make(root):
        libraries(root, folder)
        program(root, programs)
    return make


LAYOUTS = {
    "Ubuntu": (plain("usr/lib/x86_64-linux-gnu", "usr/bin"), "/usr/lib/x86_64-linux-gnu"),
    "RHEL, SUSE": (usr_merged, "/usr/lib64"),
    "RPM Fusion": (plain("usr/lib64/nvidia", "usr/bin"), "/usr/lib64/nvidia"),
    "Debian": (debian, "/usr/lib/x86_64-linux-gnu/nvidia/current"),
    "Debian, for Tesla": (plain("usr/lib/x86_64-linux-gnu/nvidia/tesla-535", "usr/bin"), "/usr/lib/x86_64-linux-gnu/nvidia/tesla-535"),
    "Arch": (plain("usr/lib", "usr/bin"), "/usr/lib"),
    "Talos": (plain("usr/local/glibc/usr/lib", "usr/local/bin"), "/usr/local/glibc/usr/lib"),
    "NixOS": (nixos, "/run/opengl-driver/lib"),
    "Flatcar": (plain("opt/nvidia/current/usr/lib64", "opt/bin"), "/opt/nvidia/current/usr/lib64"),
    "Container-Optimized OS": (plain("home/kubernetes/bin/nvidia/lib64", "home/kubernetes/bin/nvidia/bin"), "/home/kubernetes/bin/nvidia/lib64"),
    "Container-Optimized OS, its own root": (plain("lib64", "bin"), "/lib64"),
    "Bottlerocket": (plain("x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
                           "x86_64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin"),
                     "/x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla"),
    "Ubuntu Core": (plain("snap/nvidia-core22/current/usr/lib/x86_64-linux-gnu", "snap/nvidia-core22/current/usr/bin"),
                    "/snap/nvidia-core22/current/usr/lib/x86_64-linux-gnu"),
    "WSL": (windows, "/usr/lib/wsl/lib"),
    "the loader's configuration": (by_loader_conf, "/srv/drivers/nvidia"),
    "the folder itself": (plain(".", "."), "/usr/local/nvidia/lib64"),
    "beside 32 bits": (beside_other_machines, "/usr/lib"),
}


@pytest.fixture
def run(tmp_path, sim):
    nodes = []

    def begin(root, *arguments):
        node = Node(tmp_path, sim, config="version: v1\n", arguments=[
            f"--driver-root-ctr-path={root}", "--driver-root=/host", "--device-list-strategy=cdi-cri", "--kubelet-socket=", *arguments])
        nodes.append(node)
        node.start()
        return node

    yield begin
    for node in nodes:
        node.stop()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_driver_is_found_in(layout, tmp_path, run):
    make, inside = LAYOUTS[layout]
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    node = run(root)
    path = os.path.join(node.cdi, "k8s.device-plugin.nvidia.com-gpu.json")
    wait_until(lambda: os.path.exists(path), "the CDI spec; log:\n" + node.read_log())
    with open(path) as file:
        edits = json.load(file)["containerEdits"]
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in edits.get("mounts", [])}
    assert any(name.startswith(f"{inside}/libcuda.so.") for name in mounts), (mounts, node.read_log())
    assert any(name.startswith(f"{inside}/libnvidia-ml.so.") for name in mounts), mounts
    assert "/usr/bin/nvidia-smi" in mounts
    for host in mounts.values():
        if host.startswith("/host"):
            assert os.path.exists(str(root) + host[len("/host"):]) and not os.path.islink(str(root) + host[len("/host"):])
    assert any(argument == inside for hook in edits["hooks"] for argument in hook["args"])


def test_the_message_names_the_root_and_the_places(tmp_path, run):
    root = tmp_path / "root"
    (root / "usr/lib64").mkdir(parents=True)
    (root / "usr/lib64/libnvidia-ml.so.1").symlink_to("/etc/passwd")  # which is not below this root
    node = run(root)
    wait_until(lambda: "no libnvidia-ml.so.1 below" in node.read_log(), "the reason")
    line = next(line for line in node.read_log().splitlines() if "no libnvidia-ml.so.1 below" in line)
    assert str(root) in line and "/usr/lib64" in line


@pytest.mark.parametrize("content, hooks", [
    (b"create-symlinks update-ldcache enable-cuda-compat disable-device-node-modification update-application-profile",
     ["create-symlinks", "enable-cuda-compat", "update-ldcache", "disable-device-node-modification", "update-application-profile"]),
    (b"create-symlinks update-ldcache enable-cuda-compat", ["create-symlinks", "enable-cuda-compat", "update-ldcache"]),
    (None, ["create-symlinks", "enable-cuda-compat", "update-ldcache", "disable-device-node-modification", "update-application-profile"]),
])
@pytest.mark.parametrize("disabled", ["", "update-ldcache, enable-cuda-compat", "all"])
def test_nvidias_hook_is_asked_for_what_it_knows(tmp_path, run, content, hooks, disabled):
    root = tmp_path / "root"
    libraries(root, "usr/lib64")
    if content:
        (root / "opt").mkdir()
        (root / "opt/nvidia-cdi-hook").write_bytes(content)
    node = run(root, "--nvidia-cdi-hook-path=/opt/nvidia-cdi-hook", f"--cdi-disable-hooks={disabled}")
    path = os.path.join(node.cdi, "k8s.device-plugin.nvidia.com-gpu.json")
    wait_until(lambda: os.path.exists(path), "the CDI spec")
    with open(path) as file:
        edits = json.load(file)["containerEdits"]
    left = [hook for hook in hooks if disabled != "all" and hook not in disabled]
    assert [hook["args"][1] for hook in edits.get("hooks", [])] == left
    mounted = {mount["containerPath"] for mount in edits["mounts"]}
    assert ("/usr/lib64/libcuda.so.1" in mounted) == ("create-symlinks" not in left)
