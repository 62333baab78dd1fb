"""The project's own scripts: what installs packages, and what adds up test results."""
import os
import pathlib
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
PATIENCE = 120  # seconds; only ever reached when something hangs


@pytest.fixture
def install_deps(tmp_path):
    """Runs scripts/install-deps where dpkg and apt are stand-ins; returns its result and what apt-get was asked."""
    tools = tmp_path / "tools"
    tools.mkdir()
    log = tmp_path / "apt.log"

    def tool(name, body):
        (tools / name).write_text("#!/bin/sh\n" + body)
        (tools / name).chmod(0o755)

    def run(*groups, missing=(), unknown=(), debian=True, root=True):
        if debian:
            cases = "".join(f"{name}) exit 1 ;;\n" for name in missing)
            tool("dpkg-query", f'for last; do :; done\ncase $last in\n{cases}esac\nprintf installed\n')
            tool("apt-get", f'echo "$@" >>{log}\n')
            cases = "".join(f"{name}) exit 0 ;;\n" for name in unknown)
            tool("apt-cache", f'case $2 in\n{cases}esac\necho "  Candidate: 1.0"\n')
        tool("id", f"echo {0 if root else 1000}\n")
        for name in ("bash", "cat", "sed", "env", "sh"):
            target = pathlib.Path("/usr/bin") / name
            if not (tools / name).exists():
                (tools / name).symlink_to(target if target.exists() else pathlib.Path("/bin") / name)
        done = subprocess.run(["/bin/bash", REPOSITORY / "scripts" / "install-deps", *groups], capture_output=True, text=True,
                              env={"PATH": str(tools)}, timeout=PATIENCE, stdin=subprocess.DEVNULL)
        return done, log.read_text().splitlines() if log.exists() else []

    return run


def test_with_everything_there_it_does_nothing(install_deps):
    done, asked = install_deps("build", "test", "check", root=False)
    assert (done.returncode, done.stdout, done.stderr, asked) == (0, "", "", [])


def test_only_what_is_missing_is_installed(install_deps):
    done, asked = install_deps("build", missing=["scdoc", "libuv1-dev", "tmux"])
    assert done.returncode == 0, done.stderr
    assert "scdoc" in done.stdout and "libuv1-dev" in done.stdout and "tmux" not in done.stdout
    assert len(asked) == 2
    assert asked[0].endswith("update")
    assert asked[1].split()[-2:] == ["libuv1-dev", "scdoc"]


def test_an_alternative_is_taken_and_an_optional_package_is_left_out(install_deps):
    done, asked = install_deps("test", "check", missing=["clang-14", "clang", "zsh"], unknown=["clang-14", "zsh"])
    assert done.returncode == 0, done.stderr
    assert asked[-1].split()[-1] == "clang"
    assert not any("zsh" in line for line in asked)
    assert "there is no package zsh here" in done.stdout


def test_without_root_and_sudo_it_says_so(install_deps):
    done, asked = install_deps("build", missing=["scdoc"], root=False)
    assert done.returncode == 1
    assert "sudo" in done.stderr and "scdoc" in done.stderr
    assert asked == []


def test_elsewhere_it_names_the_packages(install_deps):
    done, _ = install_deps("build", debian=False)
    assert done.returncode == 0
    assert "not Debian or Ubuntu" in done.stderr and "libuv1-dev" in done.stderr


def test_an_unknown_group_is_a_mistake(install_deps):
    done, asked = install_deps("biuld")
    assert done.returncode == 2
    assert asked == []


@pytest.mark.parametrize("tests, status, line", [
    ("def test_a(): pass\ndef test_b(): pass\n", 0, "2 passed, 0 failed, 0 skipped"),
    ("import pytest\ndef test_a(): assert 0\ndef test_b(): pytest.skip('no')\ndef test_c(): pass\n", 1, "1 passed, 1 failed, 1 skipped"),
    ("import pytest\n@pytest.fixture\ndef bad(): raise OSError\ndef test_a(bad): pass\n", 1, "0 passed, 1 failed, 0 skipped"),
    ("", 1, "0 passed, 1 failed, 0 skipped"),
    ("import os\ndef test_a(): os._exit(0)\n", 1, "0 passed, 1 failed, 0 skipped"),
    ("this is no Python\n", 1, "0 passed, 1 failed, 0 skipped"),
])
def test_the_last_line_counts_and_nothing_is_called_success_by_accident(tmp_path, tests, status, line):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "gpushare").touch()
    (tmp_path / "test_these.py").write_text(tests)
    tally = tmp_path / "tally"
    done = subprocess.run([REPOSITORY / "tests" / "run", "--build", tmp_path / "build", "--suite", "integration", tmp_path / "test_these.py"],
                          capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, "GPUSHARE_TALLY": str(tally)})
    assert done.stdout.splitlines()[-1] == line
    assert done.returncode == status
    assert tally.read_text() == " ".join(word for word in line.replace(",", "").split() if word.isdigit()) + "\n"
