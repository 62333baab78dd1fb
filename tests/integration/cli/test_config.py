"""`gpushare config` from outside, the schema against the parser, docs against the table, and sizes against Python."""

import ctypes.util
import fractions
import json
import os
import pathlib
import random
import re
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
GPUSHARE = str(BUILD / "gpushare")
CORPUS = REPOSITORY / "tests" / "fuzz" / "corpus" / "config"
PATIENCE = 60  # seconds; only ever reached when something hangs

SAMPLE = """version: v1
sharing:
  timeSlicing:
    renameByDefault: false
    resources:
    - name: nvidia.com/gpu
      replicas: 4
"""


def config(*arguments, text=None, env=None):
    base = {"PATH": os.environ["PATH"]}
    return subprocess.run([GPUSHARE, "config", *arguments], input=text, env={**base, **(env or {})}, capture_output=True,
                          text=True, timeout=PATIENCE)


def write(tmp_path, text, name="config.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_the_sample_is_ok(tmp_path):
    path = write(tmp_path, SAMPLE)
    result = config("check", path)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{path}: ok\n", "")


def test_standard_input_and_dev_null():
    result = config("check", "-", "/dev/null", text=SAMPLE)
    assert result.returncode == 0
    assert result.stdout == "(standard input): ok\n/dev/null: ok\n"


def test_every_error_of_every_file_is_shown(tmp_path):
    good, bad = write(tmp_path, SAMPLE, "good.yaml"), write(tmp_path, "versio: v1\nflags: {migStrategy: x}\n", "bad.yaml")
    result = config("check", bad, good, str(tmp_path / "none.yaml"))
    assert result.returncode == 1
    assert result.stdout == f"{good}: ok\n"
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f'{bad}:1:1: unknown key "versio" under the top level; did you mean "version"?')
    assert lines[1].startswith(f"{bad}:2:22: migStrategy is ")
    assert "none.yaml" in lines[2]
    assert len(lines) == 3


def test_misplaced_key_does_not_vanish(tmp_path):
    path = write(tmp_path, "flags:\n  renameByDefault: true\n" + SAMPLE)
    result = config("check", path)
    assert result.returncode == 1
    assert f"{path}:2:3: " in result.stderr and "belongs under sharing.timeSlicing" in result.stderr


def test_check_as_json(tmp_path):
    result = config("check", "-o", "json", write(tmp_path, SAMPLE.replace("4", "0")), write(tmp_path, SAMPLE, "b"))
    assert result.returncode == 1
    first, second = json.loads(result.stdout)
    assert not first["valid"] and second["valid"]
    assert (first["diagnostics"][0]["line"], first["diagnostics"][0]["column"]) == (7, 17)
    assert first["diagnostics"][0]["severity"] == "error"


def test_usage_errors():
    assert config("check").returncode == 2
    assert config("check", "-o", "xml", "/dev/null").returncode == 2
    assert config("explain").returncode == 2
    assert config("explain", "-o", "xml", "/dev/null").returncode == 2
    assert config("schema", "extra").returncode == 2


@pytest.mark.parametrize("spec, entry, status, said", [
    ("2xA100-80GB", "replicas: 10, memoryLimit: 8Gi", 0, "config.yaml: ok"),
    ("2xA100-80GB", "replicas: 4, memoryLimit: 30Gi", 1, "(line 5): the memory limits of the shares on device 0 add up to 120Gi"),
    ("A100-40GB", "replicas: 10, memoryLimit: 8Gi", 1, "add up to 80Gi, and it has 40Gi"),
    ("A100-80GB", "replicas: 49", 1, "MPS takes 48 clients"),
    ("A100-80GB", "replicas: 2, devices: [3]", 0, "warning: sharing.mps.resources[0] (line 5): this node has no device 3"),
    pytest.param(None, "replicas: 2", 1, "the GPUs of this machine can't be read: no libnvidia-ml.so.1 below /",
                 marks=pytest.mark.skipif(ctypes.util.find_library("nvidia-ml") is not None, reason="this machine has a driver")),
])
def test_check_against_the_gpus(tmp_path, spec, entry, status, said):
    path = write(tmp_path, "version: v1\nsharing:\n  mps:\n    resources:\n    - {name: nvidia.com/gpu, %s}\n" % entry)
    assert config("check", path).returncode == 0
    around = [GPUSHARE, "sim", spec, "--"] if spec else []
    done = subprocess.run([*around, GPUSHARE, "config", "check", "--gpus", path], env={"PATH": os.environ["PATH"]}, capture_output=True,
                          text=True, timeout=PATIENCE)
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stderr


def test_config_map_keys(tmp_path):
    manifest = "kind: ConfigMap\ndata:\n  one: |\n" + "".join(f"    {line}\n" for line in SAMPLE.splitlines()) + "  two: ''\n"
    path = write(tmp_path, manifest)
    assert config("check", path).returncode == 0  # both are valid, whichever will be used
    result = config("explain", path)
    assert result.returncode == 1 and "(one, two)" in result.stderr and "--key" in result.stderr
    result = config("explain", "-o", "json", "--key", "one", path)
    assert result.returncode == 0, result.stderr
    (share,) = json.loads(result.stdout)["shares"]
    assert (share["line"], share["column"]) == (9, 11)
    assert json.loads(config("explain", "-o", "json", "--key", "two", path).stdout)["shares"] == []
    result = config("check", "--key", "three", path)
    assert result.returncode == 1 and 'no data key "three"' in result.stderr


def test_explain_promises_no_mig_devices(tmp_path):
    result = config("explain", write(tmp_path, SAMPLE.replace("nvidia.com/gpu", "nvidia.com/mig-1g.5gb")))
    assert result.returncode == 0, result.stderr
    assert "nothing: migStrategy is none, so no MIG device is published as nvidia.com/mig-1g.5gb" in result.stdout
    assert "advertised" not in result.stdout


def test_explain_says_where_values_come_from(tmp_path):
    path = write(tmp_path, SAMPLE + "flags: {failOnInitError: false, mpsRoot: /mps}\n")
    env = {"FAIL_ON_INIT_ERROR": "true", "NVIDIA_DRIVER_ROOT": "/run/driver"}
    result = config("explain", path, env=env)
    assert result.returncode == 0
    assert "each GPU is advertised as 4 shares of nvidia.com/gpu by time-slicing" in result.stdout
    assert "memory and faults are not isolated" in result.stdout
    values = {v["key"]: v for v in json.loads(config("explain", "--all", "-o", "json", path, env=env).stdout)["values"]}
    assert values["flags.failOnInitError"]["value"] == "true"
    assert values["flags.failOnInitError"]["origin"] == "environment"
    assert values["flags.failOnInitError"]["name"] == "FAIL_ON_INIT_ERROR"
    assert values["flags.mpsRoot"]["origin"] == "file" and values["flags.mpsRoot"]["line"] == 8
    assert values["flags.nvidiaDevRoot"]["value"] == "/run/driver"
    assert values["flags.migStrategy"] == {"key": "flags.migStrategy", "value": "none", "origin": "default"}


def test_explain_shows_what_changes_and_all_on_request(tmp_path):
    path = write(tmp_path, SAMPLE + "flags: {nvidiaDriverRoot: /run/driver, migStrategy: none}\n")
    def keys(*arguments):
        text, data = config("explain", *arguments, path), config("explain", "-o", "json", *arguments, path)
        assert (text.returncode, data.returncode) == (0, 0), text.stderr + data.stderr
        listed = [line.split()[0] for line in text.stdout.partition("\nValues ")[2].splitlines()[1:] if line.startswith("  ")]
        assert listed == [value["key"] for value in json.loads(data.stdout)["values"]]
        return listed
    changed = keys()
    # What the file says, were it the default, and what follows from it.
    assert {"version", "flags.migStrategy", "flags.nvidiaDriverRoot", "flags.nvidiaDevRoot"} <= set(changed)
    assert "flags.failOnInitError" not in changed and len(changed) < 8
    everything = keys("--all")
    assert set(changed) < set(everything) and "flags.failOnInitError" in everything
    assert keys("-a") == everything


def test_check_does_not_look_at_the_environment(tmp_path):
    path = write(tmp_path, SAMPLE)
    env = {"MIG_STRATEGY": "nonsense"}
    assert config("check", path, env=env).returncode == 0
    result = config("explain", path, env=env)
    assert result.returncode == 1 and "variable MIG_STRATEGY" in result.stderr


BAD_BYTES = {
    "huge": b"# " + b"x" * (1 << 20),
    "nul": b"version: v1\x00\n",
    "latin-1": "version: v1 # \u00e9\n".encode("latin-1"),
    "utf-16, cut off": "version: v1\n".encode("utf-16")[:-1],
    "utf-32": "version: v1\n".encode("utf-32"),
    "tabs": b"flags:\n\tmigStrategy: none\n",
    "binary": bytes(range(256)) * 40,
    "nested": b"[" * 100000,
    "nested mappings": b"{a: " * 100000,
    "question marks": b"? " * 100000,
    "dashes": b"- " * 100000,
    "anchors": b"".join(b"k%d: &a%d x\n" % (i, i) for i in range(999)) + b"z: &z {" + b"&y 1: 2, " * 5000 + b"}",
    "alias bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    "merge bomb": b"a: &a {" + b",".join(b"k%d: 1" % i for i in range(900)) + b"}\n" + b"".join(
        b"m%d: {<<: [%s]}\n" % (i, b",".join([b"*a"] * 50)) for i in range(40)),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_hostile_files_are_refused_in_words(tmp_path, name):
    path = write(tmp_path, BAD_BYTES[name])
    result = config("check", path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"{path}:") or "config.yaml" in result.stderr
    assert result.stdout == ""
    assert all(character.isprintable() for line in result.stderr.splitlines() for character in line)


def test_docs_have_the_table_as_it_is():
    table = config("schema", "-o", "markdown").stdout
    docs = (REPOSITORY / "docs" / "config.md").read_text()
    assert table and docs.endswith(table), "write the end of docs/config.md anew: gpushare config schema -o markdown"


def test_docs_examples_are_valid(tmp_path):
    examples = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs" / "config.md").read_text(), re.DOTALL)
    assert len(examples) >= 2
    for number, example in enumerate(examples):
        result = config("check", write(tmp_path, example, f"{number}.yaml"))
        assert result.returncode == 0, result.stderr


def test_the_daemon_has_a_flag_for_every_key_that_names_one():
    """The daemon's options and the table are written in two places; neither may forget the other."""
    help_text = subprocess.run([GPUSHARE, "node", "--help"], capture_output=True, text=True, timeout=PATIENCE).stdout
    offered = re.findall(r"--([a-z-]+)[^\n]*\n\s+as ([A-Za-z.]+)", help_text)
    rows = [line for line in config("schema", "-o", "markdown").stdout.splitlines() if "without effect" not in line]
    named = {flag for row in rows for flag in re.findall(r"`--([a-z-]+)`", row)}
    assert len(named) > 15
    assert sorted(flag for flag in named if f"--{flag}" not in help_text) == []
    assert len(offered) > 10
    for flag, key in offered:
        assert any(row.startswith(f"| `{key}` |") and f"`--{flag}`" in row for row in rows), (flag, key)


SCHEMA_CASES = [
    ({}, True),
    ({"version": "v1"}, True),
    ({"version": "v2"}, False),
    ({"flags": {"migStrategy": "none"}}, True),
    ({"flags": {"migStrategy": "single"}}, True),
    ({"flags": {"migStrategy": "double"}}, False),
    ({"flags": {"migStrategy": None}}, True),
    ({"flags": {"failOnInitError": "true"}}, False),
    ({"flags": {"nvidiaDriverRoot": "run"}}, False),
    ({"flags": {"plugin": {"deviceListStrategy": "envvar"}}}, True),
    ({"flags": {"plugin": {"deviceListStrategy": ["envvar", "cdi-cri"]}}}, True),
    ({"flags": {"plugin": {"deviceListStrategy": []}}}, False),
    ({"flags": {"plugin": {"deviceListStrategy": "envvar,cdi-cri"}}}, False),
    ({"flags": {"gfd": {"sleepInterval": 5}}}, True),
    ({"flags": {"gfd": {"sleepInterval": "1h30m"}}}, True),
    ({"flags": {"gfd": {"sleepInterval": "5 min"}}}, False),
    ({"resources": {"gpus": [{"pattern": "*", "name": "gpu"}]}}, True),
    ({"resources": {"gpus": [{"pattern": "*"}]}}, False),
    ({"sharing": {"timeSlicing": {}}}, False),
    ({"sharing": {"timeSlicing": {"resources": []}}}, False),
    ({"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2}]}}}, True),
    ({"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2, "memoryLimit": "8Gi", "activeThreadPercentage": 30, "priority": 1,
                                         "oversubscribe": True, "isolation": "per-share"}]}}}, True),
    ({"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2, "memoryLimit": 8589934592}]}}}, True),
    ({"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2, "memoryLimit": 1048575}]}}}, False),
    ({"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2, "memoryLimit": "8GB"}]}}}, False),
    ({"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2, "activeThreadPercentage": 0}]}}}, False),
    ({"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 2, "isolation": "none"}]}}}, False),
    ({"sharing": {"timeSlicing": {"resources": [{"name": "gpu", "replicas": 2, "memoryLimit": "8Gi"}]}}}, False),
    ({"imex": {"channelIDs": [0]}}, True),
    ({"imex": {"channelIDs": [1]}}, False),
    ({"imex": {"channelIDs": []}}, True),
    ({"unknown": 1}, False),
] + [({"sharing": {"timeSlicing": {"resources": [dict({"name": "gpu", "replicas": 2}, **entry)]}}}, valid) for entry, valid in [
    ({}, True),
    ({"replicas": 1}, True),
    ({"replicas": 0}, False),
    ({"replicas": -1}, False),
    ({"replicas": 65537}, False),
    ({"replicas": "4"}, False),
    ({"name": "GPU"}, False),
    ({"name": "nvidia.com/mig-1g.10gb"}, True),
    ({"name": "x" * 64}, False),
    ({"rename": "small"}, True),
    ({"devices": "all"}, True),
    ({"devices": 2}, True),
    ({"devices": 0}, False),
    ({"devices": []}, False),
    ({"devices": [0, "1:0", "GPU-01234567-89ab-cdef-0123-456789abcdef"]}, True),
    ({"devices": ["MIG-GPU-01234567-89ab-cdef-0123-456789abcdef/1/0"]}, True),
    ({"devices": ["GPU-1"]}, False),
    ({"memoryLimit": "4Gi"}, False),
]]


@pytest.mark.parametrize("document,valid", SCHEMA_CASES, ids=lambda value: json.dumps(value)[:60])
def test_parser(document, valid):
    """What the schema's test says about the schema holds for the parser too; JSON is YAML."""
    result = config("check", "-", text=json.dumps(document))
    assert (result.returncode == 0) == valid, result.stderr


@pytest.fixture(scope="module")
def schema():
    jsonschema = pytest.importorskip("jsonschema", reason="python3-jsonschema is not installed")
    document = json.loads(config("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("document,valid", SCHEMA_CASES, ids=lambda value: json.dumps(value)[:60])
def test_schema(schema, document, valid):
    assert schema.is_valid(document) == valid


UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
         "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
TIMES = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
NUMBER = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
LARGEST = 2**63 - 1


def exact(number):
    whole, _, part = number.partition(".")
    return fractions.Fraction(int((whole + part) or "0"), 10 ** len(part))


def expected_size(text):
    match = re.fullmatch(rf"\+?{NUMBER}(?:[eE]([+-]?[0-9]{{1,3}})|([A-Za-z]*))", text, re.ASCII)
    if not match or (match[3] or "") not in UNITS:
        return "error"
    value = exact(match[1]) * (fractions.Fraction(10) ** int(match[2]) if match[2] else UNITS[match[3] or ""])
    rounded = -(-value.numerator // value.denominator)
    return str(rounded) if rounded <= LARGEST else "error"


def expected_duration(text):
    if text == "0":
        return "0"
    unit = "|".join(sorted(TIMES, key=len, reverse=True))
    if not re.fullmatch(rf"({NUMBER}({unit}))+", text):
        return "error"
    total = sum(int(exact(number) * TIMES[name]) for number, name in re.findall(rf"{NUMBER}({unit})", text))
    return str(total) if total <= LARGEST else "error"


def random_texts(count):
    source = random.Random(7)
    for _ in range(count):
        digits = "".join(source.choice("0123456789") for _ in range(source.choice([1, 2, 5, 19, 20, 25, 45])))
        if source.random() < 0.2:
            digits = "0" * source.randrange(30) + digits
        if source.random() < 0.6:
            point = source.randrange(len(digits) + 1)
            digits = digits[:point] + "." + digits[point:]
        kind = source.random()
        if kind < 0.4:
            yield digits + source.choice(list(UNITS))
        elif kind < 0.6:
            yield digits + source.choice("eE") + source.choice(["", "+", "-"]) + str(source.choice([0, 1, 3, 9, 18, 30, 300]))
        elif kind < 0.9:
            yield digits + source.choice(list(TIMES)) + (source.choice(["", "5s", "1.5h", ".3ns"]))
        else:
            yield "".join(source.choice("0123456789.eE+-kKMGiTPmnush ") for _ in range(source.randrange(1, 8)))


def test_sizes_and_durations_agree_with_exact_arithmetic():
    tool = BUILD / "tests" / "unit" / "base" / "quantity_lines"
    if not tool.exists():
        pytest.skip("tests are not built")
    texts = list(random_texts(20000)) + ["9223372036854775807", "9223372036854775808", "7.99999999999999999999Ei", "8Ei", "0e999"]
    result = subprocess.run([tool], input="\n".join(texts) + "\n", capture_output=True, text=True, timeout=PATIENCE, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == len(texts)
    accepted = 0
    for text, line in zip(texts, lines):
        assert line == f"{expected_size(text)} {expected_duration(text)}", text
        accepted += line != "error error"
    assert accepted > len(texts) // 3
