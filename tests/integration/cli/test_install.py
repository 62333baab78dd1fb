"""What `make install` puts where, and that it runs from there."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
PATIENCE = 300  # seconds; only ever reached when something hangs
STRIPPED_BYTES_MAX = 1_500_000


def find(root, pattern):
    found = list(root.rglob(pattern))
    assert len(found) == 1, (pattern, found)
    return found[0]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A whole install below a DESTDIR."""
    if not (BUILD / "build.ninja").exists():
        pytest.skip("not a whole build tree")
    meson = shutil.which("meson", path="/usr/bin:" + os.environ.get("PATH", ""))
    if not meson:
        pytest.skip("meson is not on the path")
    destination = tmp_path_factory.mktemp("install")
    done = subprocess.run([meson, "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", destination], capture_output=True,
                          text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return destination


def test_all_parts_are_there(installed):
    assert os.access(find(installed, "bin/gpushare"), os.X_OK)
    for library in ("libnvidia-ml.so.1", "libcuda.so.1"):
        assert find(installed, library).parent.parts[-2:] == ("gpushare", "sim")
    assert find(installed, "bash-completion/completions/gpushare").stat().st_size > 0
    assert find(installed, "zsh/site-functions/_gpushare").stat().st_size > 0
    assert find(installed, "fish/vendor_completions.d/gpushare.fish").stat().st_size > 0
    for document in ("README.md", "NEWS.md", "LICENSE", "docs/README.md"):
        assert find(installed, f"doc/gpushare/{document}").stat().st_size > 0
    if (BUILD / "man").is_dir():
        assert find(installed, "man1/gpushare.1").stat().st_size > 0
        assert find(installed, "man1/gpushare-config-check.1").stat().st_size > 0


def test_links_between_pages_lead_somewhere(installed):
    pages = find(installed, "doc/gpushare").rglob("*.md")
    broken = [f"{page.name}: {target}" for page in pages for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
              if not re.match("[a-z]+:", target) and not (page.parent / target).exists()]
    assert not broken


def test_nothing_of_the_tests_is_installed(installed):
    names = {path.name for path in installed.rglob("*") if path.is_file()}
    assert not {name for name in names if "test" in name or "bench" in name or name.endswith(".a")}


def test_the_installed_program_simulates_a_node(installed, tmp_path):
    program = find(installed, "bin/gpushare")
    script = ("import ctypes; nvml = ctypes.CDLL('libnvidia-ml.so.1'); cuda = ctypes.CDLL('libcuda.so.1'); n = ctypes.c_uint();"
              "assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetCount_v2(ctypes.byref(n)) == 0; print(n.value)")
    done = subprocess.run([program, "sim", "3xT4", "--", "/usr/bin/python3", "-c", script], capture_output=True, text=True,
                          timeout=PATIENCE, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def programs(root):
    """What is installed and runs: programs and libraries."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF":
            yield path


def test_everything_is_hardened(installed):
    """Placed at random addresses, nothing both writable and executable, links that are fixed before the first instruction, and
    libc's checks of buffers' sizes."""
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed")
    found = list(programs(installed))
    assert {"gpushare", "gpushare-cdi-hook", "libnvidia-ml.so.1", "libcuda.so.1"} <= {path.name for path in found}
    for path in found:
        told = subprocess.run(["readelf", "--wide", "--file-header", "--segments", "--dynamic", "--syms", path], capture_output=True,
                              text=True, check=True, timeout=PATIENCE).stdout
        if "__asan_init" in told or "__tsan_init" in told:
            pytest.skip("a build with sanitizers is not hardened")
        assert "Type:                              DYN" in told, path
        stack = [line.split() for line in told.splitlines() if line.strip().startswith("GNU_STACK")]
        assert len(stack) == 1 and stack[0][-2] == "RW", path
        assert not [line for line in told.splitlines() if line.strip().startswith("LOAD") and "RWE" in line], path
        assert "GNU_RELRO" in told and "BIND_NOW" in told, path
        assert "__stack_chk_fail" in told, path
        assert "__snprintf_chk" in told or "__vsnprintf_chk" in told, path


def test_the_program_is_small(installed, tmp_path):
    if not shutil.which("strip"):
        pytest.skip("strip is not installed")
    stripped = tmp_path / "gpushare"
    subprocess.run(["strip", "-o", stripped, find(installed, "bin/gpushare")], check=True, timeout=PATIENCE)
    if b"__asan_init" in stripped.read_bytes():
        pytest.skip("a build with sanitizers is large")
    assert stripped.stat().st_size <= STRIPPED_BYTES_MAX
