"""`gpushare demo`: what it shows, and that it leaves nothing behind however it ends."""
import fcntl
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time

import pytest

from kubelet import WAIT
from node import GPUSHARE, wait_until

pytestmark = pytest.mark.skipif(not os.path.exists(GPUSHARE), reason="gpushare is not built")

BEGIN = "1. A simulated node"
REGISTERED = "3. The daemon registered"
HOLDS = "workload 2 holds"
TABLE = "Four workloads share one GPU"


def processes_with(variable):
    """Those that inherited the variable, as NAME=VALUE."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if variable.encode() in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0  # ended meanwhile


@pytest.fixture
def place():
    """An environment with a TMPDIR of the test's own; at the end nothing may be left of it. Its path is short, as those of
    sockets must be."""
    directory = tempfile.mkdtemp(prefix="demo-")
    yield {**os.environ, "TMPDIR": directory}
    wait_until(lambda: not processes_with(f"TMPDIR={directory}"), "the end of all that the demo started")
    os.rmdir(directory)  # fails if anything is in it


def test_without_a_terminal_it_prints_the_table_once(place):
    done = subprocess.run([GPUSHARE, "demo"], env=place, capture_output=True, text=True, timeout=2 * WAIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("SHARE ") == 1
    rows = re.findall(r"^  ::(\d) +nvidia.com/gpu +\d+ gpushare +([\d.]+) GiB +(\d+) %$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert all(float(memory) > 4 and int(busy) > 0 for _, memory, busy in rows)


class Terminal:
    def __init__(self, environment, rows=0, columns=0):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
            os.execve(GPUSHARE, [GPUSHARE, "demo"], environment)
        self.seen = ""

    def wait_for(self, text):
        deadline = time.monotonic() + 2 * WAIT
        while text not in self.seen:
            assert select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0], f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.fd, 4096).decode(errors="replace")

    def read_to_end(self):
        """All the rest, and how the process ended."""
        try:
            while chunk := os.read(self.fd, 4096):
                self.seen += chunk.decode(errors="replace")
        except OSError:
            pass  # what a terminal answers when nobody has it open
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("stage", [BEGIN, REGISTERED, HOLDS, TABLE])
@pytest.mark.parametrize("key", [b"\x03", b"\x1c"], ids=["interrupt", "quit"])
def test_a_key_ends_it_at_any_stage(place, stage, key):
    terminal = Terminal(place)
    terminal.wait_for(stage)
    os.write(terminal.fd, key)
    assert terminal.read_to_end() == 0
    assert "ended early" not in terminal.seen


@pytest.mark.parametrize("rows, columns", [(24, 80), (10, 40)])
def test_the_table_fits_the_terminal(place, rows, columns):
    terminal = Terminal(place, rows, columns)
    terminal.wait_for("\x1b[?7h")
    os.write(terminal.fd, b"\x03")
    assert terminal.read_to_end() == 0
    lines = re.search(r"\x1b\[\?7l\x1b\[H\x1b\[J(.*?)\x1b\[\?7h", terminal.seen, re.DOTALL).group(1).splitlines()
    assert lines[0].startswith(TABLE)
    assert len(lines) == rows - 1
    assert any(re.match(r"  ::3 +nvidia.com/gpu +\d+ gpushare", line) for line in lines)
    assert max(len(line) for line in lines) <= 80  # what is cut off, where the terminal is narrower, does not wrap


def test_a_terminal_that_goes_away(place):
    terminal = Terminal(place)
    terminal.wait_for(TABLE)
    os.close(terminal.fd)  # hangs up
    os.waitpid(terminal.pid, 0)


def test_a_signal_ends_it(place):
    process = subprocess.Popen([GPUSHARE, "demo"], env=place, stdout=subprocess.PIPE, text=True)
    assert BEGIN in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0
    process.stdout.close()


@pytest.mark.parametrize("stage", [BEGIN, HOLDS, TABLE])
@pytest.mark.parametrize("part", ["node", "demo"])
def test_nothing_outlives_it_when_it_is_killed(stage, part):
    """The command that was typed is the simulated node's; the demo itself is its only child. Files may stay."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        variable = f"TMPDIR={directory}"
        terminal = Terminal({**os.environ, "TMPDIR": directory})
        terminal.wait_for(stage)
        demo, = (pid for pid in processes_with(variable) if parent_of(pid) == terminal.pid)
        os.kill(terminal.pid if part == "node" else demo, signal.SIGKILL)
        assert terminal.read_to_end() == (-signal.SIGKILL if part == "node" else 128 + signal.SIGKILL)
        wait_until(lambda: not processes_with(variable), "the end of all that the demo started")


def test_a_reader_that_goes_away(place):
    process = subprocess.Popen([GPUSHARE, "demo"], env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert BEGIN in process.stdout.readline()
    process.stdout.close()
    assert "the output could not be written" in process.communicate(timeout=2 * WAIT)[1]
    assert process.returncode == 1


def test_a_full_disk_for_its_output(place):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([GPUSHARE, "demo"], env=place, stdout=full, stderr=subprocess.PIPE, text=True, timeout=2 * WAIT)
    assert done.returncode == 1
    assert "the output could not be written" in done.stderr


@pytest.mark.parametrize("closed, status", [((0, 2), 0), ((0, 1, 2), 1)])
def test_closed_standard_files(place, closed, status):
    """They must not be mistaken for files that the program opens itself; and a demo that nobody can see has failed."""
    def close():
        for fd in closed:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    process = subprocess.Popen([GPUSHARE, "demo"], env=place, preexec_fn=close, stdout=subprocess.DEVNULL)
    assert process.wait(2 * WAIT) == status


def test_no_place_for_temporary_files(tmp_path):
    done = subprocess.run([GPUSHARE, "demo"], env={**os.environ, "TMPDIR": str(tmp_path / "none")}, capture_output=True, text=True,
                          timeout=WAIT)
    assert done.returncode == 1
    assert f"cannot create a directory as {tmp_path}/none" in done.stderr
    assert "TMPDIR" in done.stderr


def test_a_path_too_long_for_sockets(tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    done = subprocess.run([GPUSHARE, "demo"], env={**os.environ, "TMPDIR": str(long)}, capture_output=True, text=True,
                          timeout=2 * WAIT)
    assert done.returncode == 1
    assert "Linux allows 107; choose a shorter folder" in done.stderr and str(long) in done.stderr
    assert os.listdir(long) == []


def test_an_argument_is_refused(place):
    done = subprocess.run([GPUSHARE, "demo", "8xA100-80GB"], env=place, capture_output=True, text=True, timeout=WAIT)
    assert (done.returncode, done.stdout) == (2, "")
    assert 'takes no argument "8xA100-80GB"' in done.stderr
