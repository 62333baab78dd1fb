"""tests/tools/fetch-clients against a mirror of our own: what one suite lacks costs no client of another."""
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from kubelet import WAIT

FETCH = pathlib.Path(__file__).resolve().parents[2] / "tools" / "fetch-clients"
PAST, FUTURE = "Sat, 01 Jan 2000 00:00:00 UTC", "Fri, 01 Jan 2100 00:00:00 UTC"
# package, suite, area, the program in it
CLIENTS = [("nvidia-smi", "bookworm", "non-free", "usr/lib/nvidia/current/nvidia-smi"),
           ("nvidia-smi", "sid", "non-free", "usr/lib/nvidia/current/nvidia-smi"),
           ("nvtop", "bookworm", "contrib", "usr/bin/nvtop"),
           ("prometheus", "bookworm", "main", "usr/bin/promtool"),
           ("nvidia-cuda-mps", "sid", "non-free", "usr/bin/nvidia-cuda-mps-control")]

pytestmark = pytest.mark.skipif(not shutil.which("apt-get") or not shutil.which("dpkg-deb"), reason="apt or dpkg-deb is missing")


class Mirror:
    """A Debian archive in a folder, unsigned, with one small package for each client."""

    def __init__(self, path):
        self.path = path
        self.options = "trusted=yes"
        for package, suite, area, program in CLIENTS:
            self.add(package, suite, area, program)
        for suite in ("bookworm", "sid"):
            self.release(suite, FUTURE)

    def add(self, package, suite, area, program):
        root = self.path / "trees" / suite / package
        (root / program).parent.mkdir(parents=True)
        (root / program).write_text("#!/bin/sh\necho %s of %s\n" % (package, suite))
        (root / program).chmod(0o755)
        (root / "DEBIAN").mkdir()
        about = "Package: %s\nVersion: 1-%s\nArchitecture: amd64\nMaintainer: nobody <nobody@example.com>\nDescription: a test\n" % (package, suite)
        (root / "DEBIAN" / "control").write_text(about)
        pool = self.path / "pool" / ("%s-%s.deb" % (package, suite))
        pool.parent.mkdir(exist_ok=True)
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, pool], check=True, capture_output=True)
        data = pool.read_bytes()
        for some in ("main", "contrib", "non-free"):
            lists = self.path / "dists" / suite / some / "binary-amd64" / "Packages"
            lists.parent.mkdir(parents=True, exist_ok=True)
            with lists.open("a") as file:
                if some == area:
                    file.write(about + "Filename: pool/%s\nSize: %d\nSHA256: %s\n\n" % (pool.name, len(data), hashlib.sha256(data).hexdigest()))

    def release(self, suite, until):
        folder = self.path / "dists" / suite
        lists = sorted(folder.glob("*/binary-amd64/Packages"))
        sums = ["%s %d %s" % (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_size, f.relative_to(folder)) for f in lists]
        areas = " ".join(f.parts[-3] for f in lists)
        (folder / "Release").write_text("Suite: %s\nCodename: %s\nDate: Fri, 31 Dec 1999 00:00:00 UTC\nValid-Until: %s\nArchitectures: amd64\n"
                                        "Components: %s\nSHA256:\n %s\n" % (suite, suite, until, areas, "\n ".join(sums)))

    def sign(self):
        """apt looks at the date of what is signed only. gpg's sockets need a short path."""
        home = tempfile.mkdtemp(prefix="gpg-")
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]
        try:
            subprocess.run([*gpg, "--quick-generate-key", "nobody@example.com", "rsa2048", "sign", "never"], check=True, capture_output=True)
            subprocess.run([*gpg, "--output", self.path / "key.gpg", "--export"], check=True, capture_output=True)
            for release in self.path.glob("dists/*/Release"):
                subprocess.run([*gpg, "--output", release.with_name("InRelease"), "--clearsign", release], check=True, capture_output=True)
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
            shutil.rmtree(home, ignore_errors=True)
        self.options = "signed-by=%s" % (self.path / "key.gpg")

    def fetch(self, to):
        done = subprocess.run([FETCH, to], capture_output=True, text=True, timeout=10 * WAIT,
                              env={**os.environ, "GPUSHARE_DEBIAN_MIRROR": "file://%s" % self.path, "GPUSHARE_DEBIAN_OPTIONS": self.options,
                                   "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"})
        got = {(package, suite) for package, suite, _, _ in CLIENTS if os.access(to / ("%s-%s" % (package, suite)) / "run", os.X_OK)}
        return done, got


ALL = {(package, suite) for package, suite, _, _ in CLIENTS}


def of(suite):
    return {client for client in ALL if client[1] == suite}


@pytest.fixture
def mirror(tmp_path):
    return Mirror(tmp_path / "mirror")


def test_everything_is_there(mirror, tmp_path):
    done, got = mirror.fetch(tmp_path / "clients")
    assert got == ALL, done.stderr
    said = subprocess.run([tmp_path / "clients" / "nvidia-smi-sid" / "run"], capture_output=True, text=True, timeout=WAIT)
    assert said.stdout == "nvidia-smi of sid\n"


@pytest.mark.skipif(not shutil.which("gpg") or not shutil.which("gpgv"), reason="gpg is missing")
def test_a_suite_whose_lists_expired_is_used_as_it_is(mirror, tmp_path):
    mirror.release("sid", PAST)
    mirror.sign()
    done, got = mirror.fetch(tmp_path / "clients")
    assert got == ALL, done.stderr


@pytest.mark.parametrize("suite", ["bookworm", "sid"])
@pytest.mark.parametrize("harm", ["gone", "broken"])
def test_a_suite_that_cannot_be_read_costs_only_its_own_clients(mirror, tmp_path, suite, harm):
    if harm == "gone":
        shutil.rmtree(mirror.path / "dists" / suite)
    else:
        for lists in (mirror.path / "dists" / suite).glob("*/binary-amd64/Packages"):
            lists.write_text("Package: other than its sum says\n")
    done, got = mirror.fetch(tmp_path / "clients")
    assert done.returncode == 1
    assert got == ALL - of(suite), done.stderr
    for package, of_suite in ALL:
        assert ("no %s of %s from file:" % (package, of_suite) in done.stderr) == (of_suite == suite), done.stderr
    # A later run fetches what is missing, once it is there again, and nothing else.
    shutil.rmtree(mirror.path / "dists", ignore_errors=True)
    shutil.rmtree(mirror.path / "trees")
    Mirror.__init__(mirror, mirror.path)
    assert mirror.fetch(tmp_path / "clients")[1] == ALL


def test_an_area_or_a_package_that_is_missing_costs_only_what_is_in_it(mirror, tmp_path):
    shutil.rmtree(mirror.path / "dists" / "bookworm" / "non-free")
    mirror.release("bookworm", FUTURE)
    (mirror.path / "pool" / "nvidia-cuda-mps-sid.deb").unlink()
    done, got = mirror.fetch(tmp_path / "clients")
    assert done.returncode == 1
    assert got == ALL - {("nvidia-smi", "bookworm"), ("nvidia-cuda-mps", "sid")}, done.stderr
