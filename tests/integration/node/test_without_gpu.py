"""A machine without a driver, and one without a GPU: what the Node and the readiness say of each."""
import os
import re
import urllib.error
import urllib.request

import pytest

from node import GPUSHARE, Node, wait_until

ALONE = ["--kubelet-socket=", "--metrics-address=127.0.0.1:0"]
NVIDIA, OTHER = "0x10de\n", "0x8086\n"
DISPLAY, AUDIO = "0x030200\n", "0x040300\n"

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")


def machine(directory, *devices):
    """A folder as /sys/bus/pci/devices."""
    for number, (vendor, kind) in enumerate(devices):
        device = directory / f"0000:0{number}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor)
        (device / "class").write_text(kind)
    return ["--pci-devices", str(directory)]


@pytest.fixture
def start(tmp_path, api):
    """start(arguments) runs a daemon that finds no driver."""
    started = []

    def run(arguments):
        node = Node(tmp_path, env=api.environment(), arguments=[*ALONE, *arguments])
        node.start()
        started.append(node)
        return node
    yield run
    for node in started:
        node.stop()


def readiness(node):
    port = wait_until(lambda: re.search(r"serving metrics address=\S+:(\d+)\n", node.read_log()), "the address").group(1)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_gpu_without_a_driver_is_not_served(tmp_path, api, start):
    node = start(machine(tmp_path / "pci", (OTHER, DISPLAY), (NVIDIA, DISPLAY)))
    for condition in ("GPUShareHealthy", "GPUShareServing"):
        assert "NVIDIA driver" in api.wait_condition(condition, "False", "DriverMissing")["message"]
    code, text = readiness(node)
    assert code == 503 and "waiting for the NVIDIA driver" in text


@pytest.mark.parametrize("devices", [[(OTHER, DISPLAY)], [(NVIDIA, AUDIO)]])
def test_a_machine_without_a_gpu_misses_no_driver(tmp_path, api, start, devices):
    """Not even what an earlier daemon said stays on the node."""
    old = {"type": "GPUShareHealthy", "status": "False", "reason": "DriverMissing", "message": "waiting"}
    api.change(lambda node: node["status"]["conditions"].append(old))
    node = start(machine(tmp_path / "pci", *devices))
    wait_until(lambda: api.condition("GPUShareHealthy") is None, "the condition to go")
    wait_until(lambda: readiness(node)[0] == 200, "the daemon to be ready")
    assert not [each for each in api.node["status"]["conditions"] if each["type"].startswith("GPUShare")]
