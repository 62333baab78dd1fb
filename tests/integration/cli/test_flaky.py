"""tests/flaky finds a test that fails now and then, says which and how often, and keeps what it said."""
import pathlib
import subprocess

import pytest

from kubelet import WAIT

FLAKY = pathlib.Path(__file__).resolve().parents[2] / "flaky"
TEST = """
import pathlib

def test_steady():
    pass

def test_every_third_time():
    counter = pathlib.Path(__file__).with_name("count")
    with counter.open("a") as file:
        file.write("x")
    assert len(counter.read_text()) %% %d, "the third time"
"""


@pytest.fixture
def run(tmp_path):
    def begin(*arguments, text=TEST % 3):
        (tmp_path / "test_some.py").write_text(text)
        return subprocess.run([FLAKY, "--build", tmp_path / "build", "--jobs", "1", tmp_path / "test_some.py", *arguments], capture_output=True,
                              text=True, timeout=10 * WAIT)
    return begin


def test_one_failure_is_enough(run, tmp_path):
    done = run("--count", "4")
    assert done.returncode == 1, done.stdout
    assert "run 3: FAILED %s::test_every_third_time; see " % (tmp_path / "test_some.py") in done.stdout
    assert "FAILED 1 of 4 times: %s::test_every_third_time" % (tmp_path / "test_some.py") in done.stdout
    assert done.stdout.endswith("8 tests ran, 1 failed\n")
    assert "the third time" in (tmp_path / "build" / "reports" / "flaky" / "test_some-3.log").read_text()


def test_none_is_none(run):
    done = run("--count", "2", "-k", "steady")
    assert done.returncode == 0 and done.stdout.endswith("2 tests ran, 0 failed\n"), done.stdout


@pytest.mark.parametrize("arguments, text", [(("-k", "nothing"), TEST % 3), ((), "import no_such_module\n")],
                         ids=["nothing chosen", "broken file"])
def test_what_does_not_run_does_not_pass(run, arguments, text):
    assert run("--count", "1", *arguments, text=text).returncode == 1


def test_without_a_file_it_takes_those_of_time_and_state(tmp_path):
    done = subprocess.run([FLAKY, "--build", tmp_path / "build", "--count", "1", "-k", "no_such_test"], capture_output=True, text=True,
                          timeout=10 * WAIT)
    assert done.returncode == 1 and done.stdout.endswith("0 tests ran, 0 failed\n"), done.stdout
    logs = {log.stem for log in (tmp_path / "build" / "reports" / "flaky").glob("*.log")}
    assert {"test_mps_faults-1", "test_mig_node-1", "test_node_faults-1", "test_storm-1"} <= logs
