"""The container image: built twice, from folders of different names, it is the same; and what is in it runs alone."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
PATIENCE = 900  # seconds for a cold build; only ever reached when something hangs
BYTES_MAX = 30_000_000


def build_from(folder):
    """Builds the image from a copy of the sources in `folder`; returns the folder with the archive."""
    shutil.copytree(REPOSITORY, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "build*", "__pycache__", ".cache"))
    output = folder.parent / (folder.name + "-output")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "TZ": "UTC"}
    done = subprocess.run([folder / "scripts" / "image", "--output", output], capture_output=True, text=True, timeout=PATIENCE,
                          stdin=subprocess.DEVNULL, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    if not shutil.which("dpkg-query"):
        pytest.skip("libraries for the image are taken from Debian packages, and this is not Debian")
    if not shutil.which("meson", path="/usr/bin:" + os.environ.get("PATH", "")):
        pytest.skip("meson is not on the path")
    return build_from(tmp_path_factory.mktemp("first") / "sources")


def only(folder, pattern):
    found = list(folder.glob(pattern))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def blobs(image):
    with tarfile.open(only(image, "*.oci.tar")) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def blob(blobs, descriptor):
    data = blobs["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
    assert len(data) == descriptor["size"]
    return data


@pytest.fixture(scope="module")
def root(image, blobs, tmp_path_factory):
    """The image's files, unpacked."""
    folder = tmp_path_factory.mktemp("root")
    manifest = json.loads(blob(blobs, json.loads(blobs["index.json"])["manifests"][0]))
    layer = folder.parent / "layer.tar.gz"
    layer.write_bytes(blob(blobs, manifest["layers"][0]))
    with tarfile.open(layer) as tar:
        tar.extractall(folder)  # our own archive
    return folder


def test_another_folder_gives_the_same_bytes(image, tmp_path):
    second = build_from(tmp_path / "a-folder-with-a-much-longer-name")
    for pattern in ("*.oci.tar", "*.spdx.json", "*.digest"):
        assert only(image, pattern).read_bytes() == only(second, pattern).read_bytes(), pattern


def test_every_blob_has_its_name_and_the_archive_is_small(image, blobs):
    for name, data in blobs.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    index = json.loads(blobs["index.json"])
    assert index["manifests"][0]["digest"] == only(image, "*.digest").read_text().strip()
    assert only(image, "*.oci.tar").stat().st_size <= BYTES_MAX


def test_the_layer_belongs_to_root_and_has_no_surprises(blobs, tmp_path):
    manifest = json.loads(blob(blobs, json.loads(blobs["index.json"])["manifests"][0]))
    config = json.loads(blob(blobs, manifest["config"]))
    layer = tmp_path / "layer.tar.gz"
    layer.write_bytes(blob(blobs, manifest["layers"][0]))
    with tarfile.open(layer) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names)
    for member in members:
        assert (member.uid, member.gid, member.mtime) == (0, 0, 1700000000), member.name
        assert not member.mode & 0o6000 and not (member.mode & 0o002 and member.isfile()), member.name
    assert not {"bin/sh", "usr/bin/sh"} & set(names)
    assert config["config"]["Entrypoint"] == ["/usr/bin/gpushare"]


def test_the_sbom_names_every_file_and_its_package(image, root):
    bill = json.loads(only(image, "*.spdx.json").read_text())
    assert json.loads((root / "usr/share/doc/gpushare/sbom.spdx.json").read_text()) == bill
    assert bill["spdxVersion"] == "SPDX-2.3"
    listed = {entry["fileName"]: entry for entry in bill["files"]}
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.name in ("sbom.spdx.json", "copyright"):
            continue
        entry = listed["./" + path.relative_to(root).as_posix()]
        assert {"algorithm": "SHA256", "checksumValue": hashlib.sha256(path.read_bytes()).hexdigest()} in entry["checksums"]
    packages = {package["name"]: package for package in bill["packages"]}
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "libc6"], capture_output=True, text=True).stdout
    assert packages["libc6"]["versionInfo"] == version
    assert packages["libc6"]["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/")
    ids = {"SPDXRef-DOCUMENT"} | {entry["SPDXID"] for entry in bill["packages"] + bill["files"]}
    for relation in bill["relationships"]:
        assert relation["spdxElementId"] in ids and relation["relatedSpdxElement"] in ids
    for package in bill["packages"]:
        contained = {r["relatedSpdxElement"] for r in bill["relationships"] if r["spdxElementId"] == package["SPDXID"]}
        hashes = sorted(c["checksumValue"] for entry in bill["files"] if entry["SPDXID"] in contained for c in entry["checksums"]
                        if c["algorithm"] == "SHA1")
        code = hashlib.sha1("".join(hashes).encode()).hexdigest()
        assert package["packageVerificationCode"]["packageVerificationCodeValue"] == code


def test_the_image_needs_nothing_else(root):
    """The program and the simulated node run with the image as their whole world."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    script = 'mount -t proc proc "$1/proc" && exec chroot "$1" /usr/bin/gpushare sim 2xA100-80GB -- gpushare sim load --memory 1Gi --for 1s'
    done = subprocess.run(["unshare", "--mount", "--fork", "sh", "-c", script, "sh", root], capture_output=True, text=True,
                          timeout=PATIENCE, stdin=subprocess.DEVNULL)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mount namespaces here: " + done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
