"""Two readings of a real machine, compared with each other and, where it is installed, with nvidia-smi."""

import json
import shutil
import subprocess
import sys

done = subprocess.run([sys.argv[1]], input="\n\n", capture_output=True, text=True, timeout=300)
if done.returncode:
    sys.exit(done.stderr)
lines = [json.loads(line) for line in done.stdout.splitlines()]
readings = [line for line in lines if "event" not in line]
problems = [line for line in lines if line.get("event") == "problem"]
assert len(readings) == 2 and readings[0]["gpus"], readings
first, second = readings
assert second["differs"] is False, "two readings in a row differ"
assert [gpu["uuid"] for gpu in first["gpus"]] == [gpu["uuid"] for gpu in second["gpus"]]
assert first["problems"] == [], first["problems"]
assert not problems, problems
for gpu in first["gpus"]:
    assert gpu["uuid"].startswith("GPU-") and gpu["name"] and gpu["bus"], gpu
    assert gpu["probe"]["result"] == "ok", gpu
    assert gpu["sample"]["valid"] & 1 == 0 or 0 < gpu["sample"]["used"] + 1 <= gpu["sample"]["total"] + 1, gpu
    print(f"ok: GPU {gpu['index']} {gpu['name']}: {gpu['memory'] >> 20} MiB, NUMA node {gpu['numa']}, probe {gpu['probe']}")
if shutil.which("nvidia-smi"):
    told = subprocess.run(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"], capture_output=True, text=True, check=True)
    assert {gpu["uuid"] for gpu in first["gpus"]} <= set(told.stdout.split()), told.stdout
    print("ok: nvidia-smi lists the same GPUs")
