"""The command line as users meet it: help, mistakes, man pages, completion in real shells."""
import json
import os
import pathlib
import re
import shutil
import subprocess
from concurrent import futures

import grpc
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("GPUSHARE_BUILD", REPOSITORY / "build")).resolve()
GPUSHARE = str(BUILD / "gpushare")
PATIENCE = 60  # seconds; only ever reached when something hangs


def gpushare(*arguments, **kwargs):
    return subprocess.run([GPUSHARE, *arguments], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, **kwargs)


def command_names():
    return gpushare("help", "--list").stdout.splitlines()


COMMANDS = command_names() if os.path.exists(GPUSHARE) else []


def long_options(text):
    """The options a --help lists: indented by two, dash first."""
    return set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.MULTILINE))


def test_version_names_the_program():
    done = gpushare("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"gpushare \d+\.\d+\.\d+\n", done.stdout)


def test_no_arguments_shows_the_commands_as_a_mistake():
    done = gpushare()
    assert done.returncode == 2
    assert done.stdout == ""
    for name in COMMANDS:
        assert name in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_overview_is_no_mistake(arguments):
    done = gpushare(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(re.search(rf"^  {name} ", done.stdout, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command):
    done = gpushare(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"gpushare {command}: ")
    assert f"usage: gpushare {command}" in done.stdout
    assert gpushare("help", *command.split()).stdout == done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_an_unknown_option(command):
    done = gpushare(*command.split(), "--no-such-thing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no option --no-such-thing" in done.stderr
    assert f"gpushare {command} --help" in done.stderr


@pytest.mark.parametrize("typed, meant", [(["sttus"], "status"), (["confg", "check"], None), (["config", "chek"], "config check"),
                                          (["dmeo"], "demo")])
def test_mistyped_commands(typed, meant):
    done = gpushare(*typed)
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no command" in done.stderr
    assert (f'did you mean "{meant}"?' in done.stderr) == (meant is not None)


def test_a_family_alone_names_its_members():
    done = gpushare("config")
    assert done.returncode == 2
    assert re.search(r"say which: check explain schema$", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("family", ["mig", "mps", "config"])
def test_a_family_explains_itself(family):
    told = [gpushare(*arguments) for arguments in ([family, "--help"], [family, "-h"], ["help", family])]
    assert [(done.returncode, done.stderr, done.stdout) for done in told] == 3 * [(0, "", told[0].stdout)]
    named = re.findall(rf"^  ({family} \S+)  +\S", told[0].stdout, re.MULTILINE)
    assert named == [command for command in COMMANDS if command.startswith(family + " ")]


def test_output_that_nobody_gets_is_a_failure():
    for output in ("&-", "/dev/full"):
        done = subprocess.run(["sh", "-c", f'"$0" help >{output}', GPUSHARE], stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 1 and "could not be written" in done.stderr
    quiet = subprocess.run(["sh", "-c", '"$0" status --quiet --socket /nonexistent >&-', GPUSHARE], stderr=subprocess.PIPE, text=True,
                           timeout=PATIENCE, check=False)
    assert quiet.returncode == 1 and "no daemon" in quiet.stderr and "could not be written" not in quiet.stderr


@pytest.mark.parametrize("arguments, complaint", [
    (["node", "--confg", "x"], "did you mean --config?"),
    (["node", "--config"], "--config needs a value"),
    (["demo", "--real=yes"], "--real takes no value"),
    (["completion"], "name one shell"),
    (["completion", "tcsh"], "name bash, fish or zsh"),
])
def test_mistyped_options(arguments, complaint):
    done = gpushare(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


@pytest.fixture
def told(tmp_path):
    """A daemon that gives one answer to what it is asked; a function that says which."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    status = {}
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: json.dumps(status).encode())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("gpushare.v1.Node", {"Status": handler, "Mps": handler}),))
    server.add_insecure_port(f"unix:{tmp_path}/socket")
    server.start()

    def tell(document):
        status.update(document)
        return f"--socket={tmp_path}/socket"

    yield tell
    server.stop(0).wait()


def test_names_of_clients_do_not_steer_a_terminal(told):
    client = {"pid": 7, "name": "\x1b[2J\x07evil\u009b", "memoryBytes": 1 << 30, "share": "GPU-1::0"}
    done = gpushare("mps", "clients", told({"daemons": [], "clients": [client]}))
    assert done.returncode == 0, done.stderr
    assert "?[2J?evil??" in done.stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)


def test_a_sim_spec_that_is_none_is_explained():
    done = gpushare("sim", "lod")
    assert done.returncode == 2
    assert "gpushare sim load" in done.stderr


# --- man pages ---

def plain(page):
    """The text of a page without roff's requests and escapes."""
    text = re.sub(r"\\f.", "", page.read_text())
    return text.replace("\\-", "-").replace("\\&", "").replace("\\(aq", "'").replace("\\\\", "\\")


@pytest.fixture(scope="module")
def pages():
    folder = BUILD / "man"
    if not folder.is_dir():
        pytest.skip("man pages are not built here: scdoc was missing, or this is not a whole build tree")
    return folder


def test_there_is_a_page_for_each_command_and_no_other(pages):
    expected = {"gpushare.1"} | {f"gpushare-{name.replace(' ', '-')}.1" for name in COMMANDS}
    assert {page.name for page in pages.glob("*.1")} == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_has_all_that_help_has(command, pages):
    help_text = gpushare(*command.split(), "--help").stdout
    page = plain(pages / f"gpushare-{command.replace(' ', '-')}.1")
    for option in long_options(help_text) | {"--help"}:
        assert re.search(rf"{option}\b", page), option
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS"):
        assert re.search(rf'^\.SH "?{section}', page, re.MULTILINE), section


def test_the_overview_page_lists_all_commands(pages):
    page = plain(pages / "gpushare.1")
    assert all(f"gpushare-{name.replace(' ', '-')}(1)" in page for name in COMMANDS)


# --- completion ---

# The shells' scripts ask the program that is named on the line.
NAMED = {**os.environ, "PATH": f"{BUILD}:{os.environ['PATH']}"}


def bash_completes(line, cwd=None):
    """What bash offers at the end of `line`, whose words are separated by blanks and, as bash does, by '='."""
    words = re.findall(r"=|[^ =]+", line) + ([""] if line.endswith(" ") else [])
    script = (f"source <('{GPUSHARE}' completion bash) || exit 1; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _gpushare; "
              "printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", *words], capture_output=True, text=True, timeout=PATIENCE, cwd=cwd,
                          env=NAMED)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_bash_completes_commands():
    first = {name.split()[0] for name in COMMANDS}
    assert bash_completes("gpushare ") == first | {"--help", "--version"}
    assert bash_completes("gpushare st") == {"status"}
    assert bash_completes("gpushare config ") == {"check", "explain", "schema"}
    assert bash_completes("gpushare sim in") == {"inject"}


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_completes_all_options(command):
    listed = long_options(gpushare(*command.split(), "--help").stdout)
    assert bash_completes(f"gpushare {command} --") == listed | {"--help"}


def test_bash_completes_values(tmp_path):
    (tmp_path / "one.yaml").touch()
    (tmp_path / "folder").mkdir()
    assert bash_completes("gpushare node --log-format ") == {"text", "json"}
    assert bash_completes("gpushare node --log-level=wa") == {"warning"}
    assert bash_completes("gpushare node --log-level=") == {"debug", "info", "warning", "error"}
    assert bash_completes("gpushare node --config ", tmp_path) == {"one.yaml", "folder"}
    assert bash_completes("gpushare node -c ", tmp_path) == {"one.yaml", "folder"}
    assert bash_completes("gpushare node --state-dir ", tmp_path) == {"folder"}
    assert bash_completes("gpushare config check o", tmp_path) == {"one.yaml"}
    assert bash_completes("gpushare completion ") == {"bash", "fish", "zsh"}
    assert bash_completes("gpushare demo ", tmp_path) == set()
    # A value that may be left out is not the next word.
    assert bash_completes("gpushare node --gds-enabled ") == set()
    assert bash_completes("gpushare node --gds-enabled=t") == {"true"}


def test_bash_completes_the_command_of_sim(tmp_path):
    (tmp_path / "data").touch()
    assert "bash" in bash_completes("gpushare sim 8xA100-80GB -- bas", tmp_path)
    assert bash_completes("gpushare sim 8xA100-80GB -- cat da", tmp_path) == {"data"}


@pytest.mark.parametrize("words, answer", [
    (["st"], "status\tshow every GPU, its shares, their state and who holds them"),
    (["node", "--log-level=wa"], "--log-level=warning\t"),
    (["node", "--config="], ":file"),
    (["sim", "8xA100-80GB", "--", "nvidia-smi", "-"], ":command 3"),
    (["no-such-command", ""], ""),
    (["node", "--no-such-option="], ""),
    (["status", "--", "-"], ""),
    ([""], None), (["="], ""), (["node", "="], ""), (["config", "="], ""),
])
def test_what_shells_are_told(words, answer):
    done = gpushare("__complete", "--", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert answer is None or done.stdout == answer + "\n" * bool(answer)


def test_a_shell_that_asks_nothing_is_refused():
    assert gpushare("__complete").returncode == gpushare("__complete", "--").returncode == 2
    assert not any("__complete" in gpushare(*arguments).stdout for arguments in (["help"], ["help", "--list"]))


def fish_completes(line, cwd=None):
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    done = subprocess.run(["fish", "--no-config", "-c", f"'{GPUSHARE}' completion fish | source; complete -C '{line}'"],
                          capture_output=True, text=True, timeout=PATIENCE, env=NAMED, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return {offer.split("\t")[0] for offer in done.stdout.splitlines()}


def test_fish_completes_the_same():
    assert fish_completes("gpushare ") == {name.split()[0] for name in COMMANDS}
    assert fish_completes("gpushare config ") == {"check", "explain", "schema"}
    assert fish_completes("gpushare node --log-format ") == {"text", "json"}
    for command in COMMANDS:
        listed = long_options(gpushare(*command.split(), "--help").stdout)
        assert {offer.rstrip("=") for offer in fish_completes(f"gpushare {command} --")} == listed | {"--help"}


def test_fish_completes_values(tmp_path):
    (tmp_path / "one.yaml").touch()
    (tmp_path / "folder").mkdir()
    assert fish_completes("gpushare node --config ", tmp_path) == {"one.yaml", "folder/"}
    assert fish_completes("gpushare node --config=o", tmp_path) == {"--config=one.yaml"}
    assert fish_completes("gpushare node --state-dir ", tmp_path) == {"folder/"}
    assert fish_completes("gpushare node --log-level=wa") == {"--log-level=warning"}
    assert fish_completes("gpushare demo ", tmp_path) == set()
    assert fish_completes("gpushare sim 8xA100-80GB -- cat on", tmp_path) == {"one.yaml"}


def test_zsh_accepts_its_script_and_completes(tmp_path):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    script = tmp_path / "_gpushare"
    script.write_text(gpushare("completion", "zsh").stdout)
    # _arguments and _describe are replaced by ones that print, so that no terminal is needed.
    harness = """
        _arguments() { print -rl -- "$@" }
        _describe() { print -rl -- "${(@P)argv[-1]}" }
        compdef() { }
        source $1
        shift
        words=("$@") CURRENT=$#
        _gpushare
    """
    def offers(*words):
        done = subprocess.run(["zsh", "-f", "-c", harness, "zsh", script, "gpushare", *words], capture_output=True, text=True,
                              timeout=PATIENCE, env=NAMED)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout
    assert {line.split(":")[0] for line in offers("").splitlines()} == {name.split()[0] for name in COMMANDS}
    assert offers("config", "").split() == ["check", "explain", "schema"]
    for command in COMMANDS:
        listed = long_options(gpushare(*command.split(), "--help").stdout)
        printed = offers(*command.split(), "--")
        assert all(re.search(rf"{option}\b", printed) for option in listed), command
