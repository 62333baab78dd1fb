"""What NVIDIA's programs take as flags and variables, the daemon takes: docs/nvidia-flags.md, row by row."""
import pathlib
import re
import subprocess

import pytest

from node import GPUSHARE

PAGE = (pathlib.Path(__file__).resolve().parents[3] / "docs" / "nvidia-flags.md").read_text(encoding="utf-8")
ROWS = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith("| of ")]
FLAGS = [(flag, here) for _, flag, _, here in ROWS if flag]
VARIABLES = [(variable, here) for _, _, variable, here in ROWS if variable]


def start(tmp_path, *arguments, env=None):
    """As far as its own socket, which is refused; before that come flags, environment and configuration."""
    return subprocess.run([GPUSHARE, "node", f"--state-dir={tmp_path}/state", f"--device-plugin-dir={tmp_path}/plugins", f"--kubelet-dir={tmp_path}",
                           *arguments, "--socket="], env={"PATH": "/usr/bin:/bin", **(env or {})}, capture_output=True, text=True, timeout=60)


def check(done, what, here):
    if "/nonexistent" in what:  # the configuration: read, which shows that it is the one
        assert done.returncode == 1 and "/nonexistent" in done.stderr
    else:
        assert done.returncode == 1 and "--socket is empty" in done.stderr, done.stderr
    name = re.split("=", what)[0]
    said = [line for line in done.stderr.splitlines() if "has no meaning here" in line]
    assert (len(said) == 1 and name in said[0]) if here.startswith("no meaning") else not said, done.stderr


@pytest.mark.parametrize("flag, here", FLAGS)
def test_each_flag_is_taken(tmp_path, flag, here):
    check(start(tmp_path, flag), flag, here)
    if flag.startswith("--"):
        check(start(tmp_path, flag[1:]), flag, here)
        if "=" in flag and not flag.endswith(("=true", "=false")):
            check(start(tmp_path, *flag.split("=")), flag, here)


@pytest.mark.parametrize("variable, here", VARIABLES)
def test_each_variable_is_taken(tmp_path, variable, here):
    name, value = variable.split("=")
    check(start(tmp_path, env={name: value}), variable, here)


@pytest.mark.parametrize("variable, here", [row for row in VARIABLES if re.match(r"(flags|imex|kubernetes)\.", row[1])])
def test_each_variable_reaches_its_key(tmp_path, variable, here):
    name, value = variable.split("=")
    path = tmp_path / "config.yaml"
    path.write_text("version: v1\n")
    done = subprocess.run([GPUSHARE, "config", "explain", path], env={"PATH": "/usr/bin:/bin", name: value}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert any(here.split(".")[-1] in line and name in line for line in done.stdout.splitlines()), done.stdout


def test_a_bad_value_shows_that_a_flag_is_read(tmp_path):
    for flag in ("--mig-strategy=x", "-mig-strategy=x", "--sleep-interval=x"):
        done = start(tmp_path, flag)
        assert done.returncode == 1 and "x" in done.stderr and "--socket is empty" not in done.stderr


@pytest.mark.parametrize("typed, meant", [("--config-fil=x", "--config-file"), ("--with-rebot", "--with-reboot"), ("-mig-strateg=x", "--mig-strategy"),
                                          ("--proces-to-signal=x", "--process-to-signal")])
def test_what_nobody_has_is_an_error_that_helps(tmp_path, typed, meant):
    done = start(tmp_path, typed)
    assert done.returncode == 2 and f"did you mean {meant}?" in done.stderr
