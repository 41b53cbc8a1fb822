"""Every command, with every path it takes, of every bad kind: a plain line and a code; no traceback, and no wait."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner

from commands.test_empty_paths import PLACES, commands
from conftest import entry, write_shard
from cook import OutputError, Recipe, SourceError, TokenizerError, load, parse, prompts, run
from cook.cli.app import main
from cook.store import manifest
from cook.tokenizer.loading import resolve_tokenizer
from faults.ground import write_tokenizer
from tokenizer.test_control import byte_level, write


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder with a collection, what is cooked of it, and paths of every bad kind."""
    root = tmp_path_factory.mktemp("ground")
    write_shard(root / "s", "d", [entry("The lamp is red.")])
    run(Recipe(datasets="d", tokenizer="llama3", source=root / "s", output=root / "o", cache="none"))
    (root / "file").write_text("{}\n")
    (root / "vacant").mkdir()
    (root / "loop").symlink_to("loop")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    return root


BAD = {
    "an unknown user": "~nouser/x",
    "a long name": "a" * 300,
    "a long name below": f"s/{'é' * 200}/x",
    "a long path": "a/" * 3000 + "a",
    "this folder": ".",
    "the root": "/",
    "a pipe": "pipe",
    "a device": "/dev/zero",
    "a loop": "loop",
    "a link that leads nowhere": "gone",
    "below a file": "file/x",
    "a file": "file",
    "an empty folder": "vacant",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "a line break": "a\nb",
}
# What each command needs beside.
MORE = {
    (): {"datasets": "d", "tokenizer": "llama3", "source": "s", "output": "out"},
    ("mix",): {"to": "out"},
    ("export",): {"target": "trl", "to": "out"},
    ("report",): {"to": "page.html"},
    ("prompts",): {"to": "out", "tokenizer": "llama3"},
    ("parse",): {"to": "col/out"},
    ("corpus",): {"to": "out"},
}
ARGUMENTS = {"what": "datasets", "collection": "s"}


def line_of(words: tuple[str, ...], chosen: click.Parameter, value: str) -> list[str]:
    """A command line in which one parameter is bad, and the rest is good."""
    line, more = [*words], dict(MORE.get(words, {}))
    for param in commands()[words].params:
        if isinstance(param, click.Argument):
            line.append(value if param is chosen else ARGUMENTS.get(param.name, "o"))
        elif param is chosen or param.name in more:
            line += [param.opts[-1], value if param is chosen else more[param.name]]
    if chosen.name in ("scheduler_file", "tls_ca", "tls_cert", "tls_key"):
        line += [
            "--executor",
            "dask",
            *(["--scheduler", "tls://127.0.0.1:9"] if chosen.name != "scheduler_file" else []),
        ]
    if words == ("verify",) and chosen.name != "path":
        line += ["--deep", *(["--source", "s"] if chosen.name != "source" else [])]
    return line


@contextlib.contextmanager
def at_most(seconds):
    def late(*_):
        raise AssertionError(f"takes more than {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize(
    ("words", "param"), PLACES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else value.name
)
def test_a_bad_path(ground, tmp_path, monkeypatch, words, param, kind):
    for name in os.listdir(ground):
        (tmp_path / name).symlink_to(ground / name)
    (tmp_path / "loop").unlink()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    value = BAD[kind]
    if kind == "the root" and param.name in ("output", "to", "cache"):
        pytest.skip("which can be written to here, by root")
    with at_most(30):
        result = CliRunner().invoke(main, line_of(words, param, value))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (0, 1, 2, 3, 4, 5)
    assert "Traceback" not in result.stderr
    if kind in ("an unknown user", "a long name", "a pipe", "a device", "a loop"):
        assert result.exit_code == 1, result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr


INSIDE = {"a pipe": os.mkfifo, "a device": lambda path: path.symlink_to("/dev/zero")}


@pytest.mark.parametrize("make", INSIDE.values(), ids=INSIDE)
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
)
def test_what_never_ends_in_a_tokenizers_folder(tmp_path, name, make):
    folder = write(tmp_path / "t", byte_level())
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with at_most(30), pytest.raises(TokenizerError, match=f"{name}: is a pipe or a device, not a file"):
        resolve_tokenizer(Recipe(datasets="d", tokenizer=str(folder)))
    (folder / name).unlink()
    (folder / name).symlink_to("gone")
    with pytest.raises(TokenizerError, match=f"{name}: cannot be read: No such file"):
        resolve_tokenizer(Recipe(datasets="d", tokenizer=str(folder)))


@pytest.mark.parametrize("make", INSIDE.values(), ids=INSIDE)
@pytest.mark.parametrize("name", ["b.txt", "b.jsonl", "b.jsonl.gz", "b.parquet"])
def test_what_never_ends_among_raw_texts(tmp_path, name, make):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("A text.")
    make(tmp_path / "raw" / name)
    for place in (tmp_path / "raw", tmp_path / "raw" / name):
        with at_most(30), pytest.raises(SourceError, match=f"{name}: is a pipe or a device, not a file"):
            prompts(place, tmp_path / "p.jsonl", tokenizer="llama3")
    with at_most(30), pytest.raises(SourceError, match=f"{name}: is a pipe or a device, not a file"):
        parse(tmp_path / "raw" / name, tmp_path / "c" / "new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_help_that_cannot_be_written(words):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "cook", *words, "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "cook: standard output: cannot be written: No space left on device\n")


NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


def as_another(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as another user, who has a home."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    os.chown(home, NOBODY, NOBODY)
    command = [sys.executable, "-c", AS.format(arguments=[*arguments])]
    environment = os.environ | {"HOME": str(home), "COOK_CACHE": str(home / "cache")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=60)


AS = f"""
import os, sys
import cook.cli.app, cook.pipeline.runner, cook.pipeline.build, cook.check.verifier, cook.store.dataset_card
import cook.views.showing, cook.pipeline.mixing, cook.trainers.exporter, cook.trainers.tables, click
import ssl, pyarrow.parquet, pyarrow.fs
import cook.cli.commands.verify, cook.cli.commands.show, cook.cli.commands.mix, cook.cli.commands.export
from cook.tokenizer.presets import PRESETS, load_vocabulary
load_vocabulary(PRESETS["llama3"])
os.setgid({NOBODY}); os.setuid({NOBODY})
cook.cli.app.main({{arguments!r}}, prog_name="cook")
"""


@pytest.fixture
def open_to_all(tmp_path):
    """A collection of two datasets and what is cooked of it, which another user may read."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cook-open-", dir="/var/tmp") as name:
        root = Path(name)
        root.chmod(0o755)
        for each in ("one", "two"):
            write_shard(root / "s", each, [entry(f"The {each} lamp is red.")])
        run(Recipe(datasets="all", tokenizer="llama3", source=root / "s", output=root / "o", cache="none"))
        yield root


def can_become_another(folder: Path) -> bool:
    done = as_another(folder, "list", "tokenizers")
    return done.returncode == 0


@as_root
def test_another_user(open_to_all):
    root = open_to_all
    if not can_become_another(root):
        pytest.skip("another user cannot read what is installed here")
    again = as_another(root, "-d", "one", "-t", "llama3", "-s", "s", "-o", "o")
    assert again.returncode == 0, again.stderr  # up to date, in a folder that cannot be written
    assert "up to date" in again.stderr
    for words in (
        ("-d", "one", "-t", "llama3", "-s", "s", "-o", "new"),
        ("-d", "one", "-t", "llama3", "-s", "s", "-o", "o", "--seed", "1", "--overwrite"),
        ("mix", "o", "--to", "mixed"),
        ("export", "o/one", "--for", "trl", "--to", "exported"),
    ):
        done = as_another(root, *words)
        assert done.returncode == 1, (words, done.stderr)
        assert "Permission denied" in done.stderr
        assert "Traceback" not in done.stderr
    (root / "s" / "two" / "shard").chmod(0)
    shut = as_another(root, "-d", "all", "-t", "llama3", "-s", "s", "-o", "home/out")
    assert shut.returncode == 1
    assert "s/two/shard: cannot be read: Permission denied" in shut.stderr
    assert "Traceback" not in shut.stderr
    assert (root / "home" / "out" / "one" / "cook.json").exists()
    (root / "o" / "two").chmod(0)
    unseen = as_another(root, "verify", "o")
    assert unseen.returncode in (1, 4), unseen.stderr
    assert "o/two" in unseen.stdout + unseen.stderr
    assert "Traceback" not in unseen.stderr


def test_a_folder_in_the_place_of_a_file_of_the_cache(ground, tmp_path):
    from cook.core import cache

    recipe = Recipe(
        datasets="d", tokenizer="llama3", source=ground / "s", output=tmp_path / "a", cache=tmp_path / "cache"
    )
    run(recipe)
    for path in [each for each in (tmp_path / "cache").rglob("*") if each.is_file() and each.name != "CACHEDIR.TAG"]:
        path.unlink()
        path.mkdir()
    result = CliRunner().invoke(
        main,
        [
            "-d",
            "d",
            "-t",
            "llama3",
            "-s",
            str(ground / "s"),
            "-o",
            str(tmp_path / "b"),
            "--cache",
            str(tmp_path / "cache"),
        ],
    )
    assert isinstance(result.exception, SystemExit | None)
    assert result.exit_code in (0, 1)
    assert cache.info(str(tmp_path / "cache"))["spools"] == 0


def test_an_added_token_that_is_empty(tmp_path, ground):
    folder = write_tokenizer(tmp_path / "t")
    told = orjson.loads((folder / "tokenizer.json").read_bytes())
    told["added_tokens"].append(told["added_tokens"][0] | {"id": 258, "content": "", "special": True})
    (folder / "tokenizer.json").write_bytes(orjson.dumps(told))
    line = ["-d", "d", "-t", str(folder), "-s", str(ground / "s"), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, line)
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code in (0, 1)


def test_a_footer_that_is_damaged_under_a_sealed_manifest(ground, tmp_path):
    shutil.copytree(ground / "o" / "d", tmp_path / "o" / "d")
    path = next((tmp_path / "o" / "d").glob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[-40:-8] = b"\xff" * 32
    path.write_bytes(data)
    fields = orjson.loads((path.parent / "cook.json").read_bytes())
    del fields["sha256"]
    fields["outputs"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    (path.parent / "cook.json").write_bytes(manifest.seal(fields))
    folder, root = str(path.parent), str(tmp_path / "o")
    for words, code in (
        (["verify", root], 4),
        (["show", folder], 1),
        (["mix", root, "--to", str(tmp_path / "m")], 1),
        (["export", folder, "--for", "trl", "--to", str(tmp_path / "e")], 1),
        (["report", folder, "--to", str(tmp_path / "r.html")], 1),
        (["diff", folder, root], 1),
        (["fingerprint", root], 1),
    ):
        result = CliRunner().invoke(main, words)
        assert isinstance(result.exception, SystemExit), (words, result.exception)
        assert (result.exit_code, "cannot be read" in result.output) == (code, True), (words, result.output)
    with pytest.raises(OutputError, match="cannot be opened"):
        load(folder)


def test_brackets_in_a_path(ground, tmp_path):
    root = tmp_path / "run[1]"
    line = ["-d", "d", "-t", "llama3", "-s", str(ground / "s"), "-o", str(root)]
    assert f'cook.load({str(root / "d")!r}, split="train")' in CliRunner().invoke(main, line).stderr
    assert len(load(root / "d")) == 1


def test_an_empty_scheduler_file(ground, tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "sched").touch()
    line = ["-d", "d", "-t", "llama3", "-s", str(ground / "s"), "-o", str(tmp_path / "o"), "--executor", "dask"]
    result = CliRunner().invoke(main, [*line, "--scheduler-file", str(tmp_path / "sched")])
    assert (result.exit_code, "sched: is empty" in result.stderr) == (1, True)


IN_A_CHILD = """
import multiprocessing
import cook
def again(name):
    recipe = cook.Recipe(datasets="d", tokenizer="llama3", source={source!r}, output={output!r} + name, cache="none")
    try:
        print(len(cook.run(recipe).results), flush=True)
    except cook.CookError as exc:
        print(exc, flush=True)
if __name__ == "__main__":
    {before}
    worker = multiprocessing.get_context({method!r}).Process(target=again, args=["two"], daemon={daemon})
    worker.start()
    worker.join(60)
    print(worker.exitcode, flush=True)
    worker.kill()
"""


@pytest.mark.parametrize(
    ("before", "method", "daemon", "told"),
    [
        ("pass", "spawn", True, "1"),
        ("pass", "fork", True, "1"),
        ("again('one')", "fork", False, "1"),
        ("again('one')", "fork", True, "this process was forked, as a daemon, of one in which cook had run"),
    ],
)
def test_a_run_in_a_child(tmp_path, before, method, daemon, told):
    """One that is forked after a run has no threads of the engine's, for which it would wait."""
    write_shard(tmp_path / "s", "d", [entry(f"text {i} " + "word " * 50) for i in range(3000)])
    script, output = tmp_path / "script.py", str(tmp_path / "out")
    source = str(tmp_path / "s")
    script.write_text(IN_A_CHILD.format(source=source, output=output, before=before, method=method, daemon=daemon))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    *_, last, code = done.stdout.splitlines()
    assert (last.startswith(told), code) == (True, "0"), done.stdout + done.stderr
