"""gpushare-cdi-hook on images that nobody vouches for: it runs as root on the node, before the container's first program."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
HOOK = BUILD / "src" / "hook" / "gpushare-cdi-hook"
FOLDER = "/opt/driver/lib"
PATIENCE = 300  # seconds; only ever reached when something hangs

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="a container's root needs root to be set up"),
              pytest.mark.skipif(not HOOK.exists(), reason="not a whole build tree")]


@pytest.fixture
def bundle():
    """A container's bundle; the driver's library is mounted when the hook is called."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gpushare-hook-"))
    root = folder / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / FOLDER[1:]).mkdir(parents=True)
    (root / FOLDER[1:] / "libcuda.so.1").touch()
    (folder / "config.json").write_text(json.dumps({"root": {"path": "rootfs"}}))
    yield folder
    shutil.rmtree(folder)


def call(bundle, *arguments, state=None):
    library = BUILD / "sim" / "cuda" / "libcuda.so.1"
    script = 'mount --bind "$1" "$2" || exit 99; shift 2; exec "$@"'
    target = bundle / "rootfs" / FOLDER[1:] / "libcuda.so.1"
    done = subprocess.run(["unshare", "--mount", "--fork", "bash", "-c", script, "bash", library, target, HOOK, *arguments],
                          capture_output=True, text=True, timeout=PATIENCE, input=state or json.dumps({"bundle": str(bundle)}))
    if "unshare:" in done.stderr or done.returncode == 99:
        pytest.skip("no mount namespaces here: " + done.stderr.strip())
    return done


def shared_text(entries, length):
    """A loader's cache of which all entries name one text of that length."""
    text = 48 + 24 * entries
    header = b"glibc-ld.so.cache1.1" + struct.pack("<II4B4I", entries, length + 1, 2, 0, 0, 0, 0, 0, 0, 0)
    return header + struct.pack("<iIIIQ", 0x303, text, text, 0, 0) * entries + b"l" * length + b"\0"


def test_the_library_is_entered(bundle):
    done = call(bundle, "update-ldcache", "--folder", FOLDER)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{FOLDER}/libcuda.so.1\0".encode() in (bundle / "rootfs/etc/ld.so.cache").read_bytes()


def test_a_cache_that_asks_for_much_work_is_refused(bundle):
    cache = bundle / "rootfs/etc/ld.so.cache"
    cache.write_bytes(shared_text(10000, 4_000_000))
    before = cache.read_bytes()
    done = call(bundle, "update-ldcache", "--folder", FOLDER)
    assert done.returncode == 0 and "/etc/ld.so.cache is not one that can be read" in done.stderr, done
    assert cache.read_bytes() == before


def test_a_cache_that_is_too_large_is_not_replaced(bundle):
    cache = bundle / "rootfs/etc/ld.so.cache"
    with open(cache, "wb") as file:
        file.truncate(100 << 20)
    done = call(bundle, "update-ldcache", "--folder", FOLDER)
    assert done.returncode == 0 and "/etc/ld.so.cache is not one that can be read" in done.stderr, done
    assert cache.stat().st_size == 100 << 20


def test_a_fifo_is_not_opened(bundle):
    cache = bundle / "rootfs/etc/ld.so.cache"
    os.mkfifo(cache)
    os.mkfifo(bundle / "rootfs" / FOLDER[1:] / "libother.so")
    done = call(bundle, "update-ldcache", "--folder", FOLDER)
    assert done.returncode == 0 and "/etc/ld.so.cache is not one that can be read" in done.stderr, done
    assert cache.is_fifo()


def test_a_folder_with_more_files_than_an_image_needs(bundle):
    folder = bundle / "rootfs" / FOLDER[1:]
    for i in range(140_000):
        os.symlink("x", folder / f"f{i}")
    done = call(bundle, "update-ldcache", "--folder", FOLDER)
    assert done.returncode == 1 and "too many files" in done.stderr, done


@pytest.mark.parametrize("state", ["", "{", "[]", '{"bundle": 1}', "[" * 100_000, '{"bundle": "' + "x" * 5000 + '"}'])
def test_a_state_that_is_none(bundle, state):
    done = call(bundle, "create-symlinks", "--link", "a::b", state=state or " ")
    assert done.returncode == 1 and done.stderr.startswith("gpushare-cdi-hook: cannot "), done
