"""The gpu room on a simulated node, through the simulated libnvidia-ml.so.1: inventory, hot-plug, faults, events."""

import json
import os
import pathlib
import subprocess

import pytest

from node import BUILD, Sim

DUMP = str(pathlib.Path(BUILD) / "tests" / "integration" / "inventory_dump")
GIB = 1 << 30

pytestmark = pytest.mark.skipif(not os.path.exists(DUMP), reason=f"{DUMP} is not built")


class Dump:
    """inventory_dump on a node: `read()` is one reading; events that come in between are kept."""

    def __init__(self, sim):
        self.process = sim.popen(DUMP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events = []

    def line(self):
        text = self.process.stdout.readline()
        assert text, "inventory_dump ended"
        return json.loads(text)

    def read(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        while "event" in (answer := self.line()):
            self.events.append(answer)
        return answer

    def event(self):
        return self.events.pop(0) if self.events else self.line()

    def stop(self):
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        return status


@pytest.fixture
def start(tmp_path):
    made = []

    def begin(spec):
        sim = Sim(tmp_path / "sim", spec)
        made.append(sim)
        dump = Dump(sim)
        made.append(dump)
        return sim, dump

    yield begin
    statuses = [thing.stop() for thing in reversed(made)]
    assert not made or statuses[0] == 0


def uuids(reading):
    return [gpu["uuid"] for gpu in reading["gpus"]]


def test_models(start):
    _, dump = start("2xH100-80GB,1xT4")
    reading = dump.read()
    assert [gpu["index"] for gpu in reading["gpus"]] == [0, 1, 2]
    assert ["H100" in gpu["name"] for gpu in reading["gpus"]] == [True, True, False]
    assert "T4" in reading["gpus"][2]["name"]
    assert 70 * GIB < reading["gpus"][0]["memory"] < 82 * GIB
    assert reading["problems"] == []
    assert len(set(uuids(reading))) == 3
    for gpu in reading["gpus"]:
        assert gpu["probe"]["result"] == "ok"
        assert gpu["sample"]["valid"] & 0b11111 == 0b11111
        assert gpu["sample"]["processes"] == 0
    links = reading["links"]
    assert links[1] == links[3] and links[0] == 0
    assert links[1] > 100 > links[2]  # NVLink between the H100s, none to the T4
    again = dump.read()
    assert again["differs"] is False and uuids(again) == uuids(reading) and again["links"] == links


def test_plug_and_unplug(start):
    sim, dump = start("2xA100-80GB")
    before = dump.read()
    sim.inject("plug", "A100-80GB")
    more = dump.read()
    assert more["differs"] is True
    assert len(more["gpus"]) == 3 and set(uuids(before)) < set(uuids(more))
    sim.inject("--gpu", "0", "unplug")
    less = dump.read()
    assert less["differs"] is True
    assert uuids(less) == [uuid for uuid in uuids(more) if uuid != uuids(before)[0]]
    assert less["problems"] == []


def test_lost_gpu_stays_and_recovers(start):
    sim, dump = start("2xA100-80GB")
    before = dump.read()
    sim.inject("--gpu", "1", "lost")
    lost = dump.read()
    assert uuids(lost) == uuids(before) and lost["links"] == before["links"]
    assert [gpu["probe"]["result"] for gpu in lost["gpus"]] == ["ok", "lost"]
    assert len(lost["problems"]) == 1 and "GPU 1" in lost["problems"][0]
    sim.inject("--gpu", "1", "recovered")
    assert [gpu["probe"]["result"] for gpu in dump.read()["gpus"]] == ["ok", "ok"]


def test_xid_arrives(start):
    sim, dump = start("2xA100-80GB")
    uuid = uuids(dump.read())[1]
    # The watch registers on its own thread, and the past is not told: inject until one arrives.
    injector = subprocess.Popen(
        ["sh", "-c", 'while :; do "$0" sim inject --state "$1" --gpu 1 xid=48; sleep 0.2; done', str(pathlib.Path(BUILD) / "gpushare"),
         sim.directory], stdout=subprocess.DEVNULL)
    try:
        event = dump.event()
    finally:
        injector.kill()
        injector.wait()
    assert (event["event"], event["uuid"], event["data"]) == ("xid", uuid, 48)


@pytest.mark.parametrize("code", [3, 10, 15, 999])
def test_each_nvml_call_failing_in_turn(start, code):
    """One failing call costs nothing for good: the second reading, without a fault, is whole."""
    sim, dump = start("2xA100-80GB")
    whole = uuids(dump.read())
    for nth in range(1, 61):
        done = sim.run("env", f"GPUSHARE_SIM_NVML_FAIL={nth}:{code}", DUMP, input="\n\n\n")
        if done.returncode:
            assert done.returncode == 1 and "nvmlInit" in done.stderr, (nth, done)
            continue
        readings = [reading for reading in map(json.loads, done.stdout.splitlines()) if "event" not in reading]
        assert len(readings) == 3, (nth, readings)
        assert uuids(readings[-1]) == whole, (nth, readings)
