"""Container images made by hand from files: a layer, a configuration, and what names them."""
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tarfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def libraries(program):
    """{path in the image: path here} of what a program is linked to; libcuda is left out, since it comes with the driver."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    found = {}
    for name, path in re.findall(r"^\s*(?:(\S+) => )?(/\S+) \(0x", listing, re.M):
        if "libcuda" not in path:
            found[path] = os.path.realpath(path)
    return found


def archive(path, reference, files, entrypoint):
    """Writes an OCI archive of `files`, {path in the image: path here}, which `ctr images import` takes."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for inside, here in sorted(files.items()):
            info = tarfile.TarInfo(inside.lstrip("/"))
            info.size, info.mode = os.path.getsize(here), 0o755
            with open(here, "rb") as file:
                tar.addfile(info, file)
    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": kind, "digest": "sha256:" + digest, "size": len(data)}

    layers = [blob(layer.getvalue(), "application/vnd.oci.image.layer.v1.tar")]
    config = blob(json.dumps({"architecture": ARCHITECTURE, "os": "linux", "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin:/usr/bin"]},
                              "rootfs": {"type": "layers", "diff_ids": [layers[0]["digest"]]}}).encode(),
                  "application/vnd.oci.image.config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                                "layers": layers}).encode(), "application/vnd.oci.image.manifest.v1+json")
    manifest["annotations"] = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference}
    members = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
               "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode(),
               **{f"blobs/sha256/{digest}": data for digest, data in blobs.items()}}
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return path
