"""No sign of data, names or others' words that could steer a terminal reaches one: in every command, by one test."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

import cook
from conftest import entry, pair, write_shard
from cook import Recipe
from cook.cli import app, summary
from cook.cli.printing import echo, print_json, print_table
from cook.core.errors import BadLines, CookError, CookWarning, Problem, SeveralFailed, SourceError
from cook.core.escapes import IGNORABLE, escape_controls, escape_json_controls
from cook.core.recipe import read_config

COOK = str(Path(sys.executable).with_name("cook"))
STEERS = "\x1b]0;x\x07\x1b[31m\r\x7f\x9b1m\u061c\u200b\u200e\u202e\u2028\u2029\u2060\u2066\ufeff\ufe0f\U000e0041"
FORGED = "FORGED: right"
NAME = f"{STEERS}\n{FORGED}"  # of files and folders, which may hold all but "/"
SET = "d\x9b1m\u061c\u200b\u200e\u202e\u2060\u2066\ufeff\ufe0f\U000e0041"  # a dataset's may hold no controls of C0
RAW, ANSWERS = f"raw{NAME}.jsonl", f"answers{NAME}.jsonl"
NOT_UTF8 = os.fsdecode(b"\xff")
TEXT = STEERS + "\nx"


def is_dangerous(sign: str) -> bool:
    """By Unicode's categories, told apart from cook's own rule."""
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn") or 0xFE00 <= ord(sign) <= 0xFE0F


def assert_harmless(printed: bytes, *, terminal: bool = False) -> None:
    text = printed.decode("utf-8", "surrogateescape")
    if terminal:  # colours, where bars begin again, and its ends of lines
        text = re.sub(r"\x1b\[[0-9;]*m|\x1b\[A|\r", "", text)
    assert not {ascii(sign) for sign in text if is_dangerous(sign)} - {ascii("\n")}
    assert not [line for line in text.split("\n") if line.startswith(FORGED)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which every name and text is hostile, and all that the commands make of it."""
    root = tmp_path_factory.mktemp("terminal")
    rows = [entry(f"{i}" + TEXT, pair("q" + TEXT, "a" + TEXT)) for i in range(4)]
    write_shard(root / ("s" + NAME), SET, [*rows, {"context" + NAME: 1}, b"{" + TEXT.encode()], "a" + NAME + ".jsonl")
    write_shard(root / "bytes", "d", rows, f"a{NOT_UTF8}.jsonl")
    write_shard(root / "bytes", "d" + NOT_UTF8, rows)
    (root / (RAW)).write_bytes(b"".join(orjson.dumps({"text": f"{i} {TEXT}"}) + b"\n" for i in range(3)))
    (root / ("recipe" + NAME)).write_text("a\x9b: [")
    (root / ("keys" + NAME)).write_text(f'{{"{escape_controls(SET)}": 1}}')
    (root / "styles").write_text('{"\\e[31m\\u202e": 1}')
    (root / "other").mkdir()
    (root / "other" / ("x" + NAME)).write_text("mine")
    (root / "tokenizer.json").write_text('{"model": "\x7f"}')
    return root


COOKING = ("-d", SET, "-s", "s" + NAME, "--on-error", "skip")
LLAMA = ("-t", "llama3")
OUT, BOOK = "out" + NAME, "corpus" + NAME
MIXED, EXPORTED, PROMPTS, PARSED = (what + SET for what in ("mix", "exp", "prompts", "parsed"))  # held to be names
DONE = f"{OUT}/{SET}"
NOWHERE = "nowhere" + NAME

# In order: what one makes, others take. Each is a run of its command; the second is its exit code.
RUNS = {
    "": [
        ((*COOKING, *LLAMA, "-o", OUT), 0),
        ((*COOKING, *LLAMA, "-o", OUT, "--json"), 0),
        ((*COOKING, *LLAMA, "-o", OUT, "--dry-run"), 0),
        ((*COOKING, *LLAMA, "-o", OUT, "--dry-run", "--json"), 0),
        ((*COOKING, *LLAMA, "-o", OUT, "--seed", "1"), 5),
        (("-d", SET, "-s", "s" + NAME, *LLAMA, "-o", "o2"), 3),
        (("-d", SET, "-s", "s" + NAME, *LLAMA, "-o", "o2", "--json"), 3),
        ((*COOKING, "-t", NOWHERE, "-o", "o2"), 1),
        ((*COOKING, "-t", "./tokenizer.json", "-o", "o2"), 1),
        ((*COOKING, *LLAMA, "--eos", "x" + NAME, "-o", "o2"), 1),
        ((*COOKING, *LLAMA, "--context-template", NAME, "-o", "o2"), 2),
        ((*COOKING, *LLAMA, "--delimiter", NAME + r"\n", "-o", "o2", "-q"), 0),
        ((*COOKING, *LLAMA, "--delimiter", NAME + r"\n", "-o", "o2", "--dry-run"), 0),
        (("-d", "x" + NAME, "-d", SET + "x", "-s", "s" + NAME, *LLAMA), 2),
        (("-d", SET, "-s", NOWHERE, *LLAMA), 1),
        (("-d", SET, "-s", "s" + NAME + NOT_UTF8, *LLAMA), 2),
        (("-d", "d", "-s", "bytes", *LLAMA), 1),
        (("-d", "d" + NOT_UTF8, "-s", "bytes", *LLAMA), 2),
        (("--config", NOWHERE), 2),
        (("--config", "recipe" + NAME), 2),
        (("--config", "keys" + NAME), 2),
        (("x" + NAME,), 2),
        ((f"--x{NAME}",), 2),
        (("--packing", "x" + NAME), 2),
        (("--seed", "x" + NAME), 2),
        (("--fields", "x" + NAME), 2),
    ],
    "list": [
        (("datasets", "-s", "s" + NAME), 0),
        (("datasets", "-s", "s" + NAME, "--json"), 0),
        (("datasets", "-s", "bytes"), 0),
        (("datasets", "-s", "bytes", "--json"), 0),
        (("datasets", "-s", NOWHERE), 1),
        (("x" + NAME,), 2),
    ],
    "show": [
        ((OUT,), 0),
        ((OUT, "--tokens"), 0),
        ((OUT, "--json"), 0),
        ((OUT, "-d", "x" + NAME), 2),
        ((OUT, "--split", "x" + NAME), 2),
        ((NOWHERE,), 1),
    ],
    "verify": [
        ((OUT,), 0),
        ((OUT, "--json"), 0),
        ((DONE, "--deep", "--source", "s" + NAME), 0),
        ((DONE, "--deep", "--source", NOWHERE), 1),
        (("other",), 1),
        ((NOWHERE,), 1),
    ],
    "diff": [((OUT, DONE), 0), ((OUT, "o2"), 4), ((OUT, "o2", "--json"), 4), ((OUT, NOWHERE), 1)],
    "fingerprint": [((OUT,), 0), ((NOWHERE,), 1)],
    "mix": [
        ((OUT, "--to", MIXED), 0),
        ((OUT, "--to", MIXED, "--json"), 0),
        ((OUT, "--to", MIXED, "--seed", "1"), 5),
        ((OUT, "--to", "m", "--weights", f"x{NAME}=1"), 2),
        ((OUT, "--to", "m", "--weights", "x" + NAME), 2),
        ((OUT, "--to", "other"), 5),
        ((OUT, "--to", "mix" + NAME), 2),
        ((NOWHERE, "--to", "m"), 1),
    ],
    "export": [
        ((DONE, "--for", "jsonl", "--to", EXPORTED), 0),
        ((DONE, "--for", "jsonl", "--to", EXPORTED, "--json"), 0),
        ((DONE, "--for", "trl", "--to", "other"), 5),
        ((DONE, "--for", "trl", "--to", "e", "--split", NAME), 2),
        ((NOWHERE, "--for", "trl", "--to", "e"), 1),
    ],
    "report": [
        ((OUT, "--to", "page" + NAME), 0),
        ((OUT, "--to", "page" + NAME, "--json"), 0),
        ((NOWHERE,), 1),
    ],
    "corpus": [
        (("s" + NAME, "--to", BOOK, "--on-error", "skip"), 0),
        (("s" + NAME, "--to", BOOK, "--on-error", "skip", "--json"), 0),
        (("s" + NAME, "--to", "c"), 3),
        (("s" + NAME, "--to", "c", "--styles", "styles"), 2),
        ((NOWHERE, "--to", "c"), 1),
    ],
    "prompts": [
        ((RAW, "--to", PROMPTS, *LLAMA), 0),
        ((RAW, "--to", PROMPTS, *LLAMA, "--json"), 0),
        (("s" + NAME, "--to", "p", *LLAMA), 3),
        ((NOWHERE, "--to", "p", *LLAMA), 1),
    ],
    "parse": [
        ((ANSWERS, "--prompts", PROMPTS, "--to", PARSED), 0),
        ((ANSWERS, "--prompts", PROMPTS, "--to", PARSED, "--json"), 0),
        ((RAW, "--prompts", PROMPTS, "--to", "a"), 3),
        ((ANSWERS, "--prompts", NOWHERE, "--to", "a"), 1),
        ((NOWHERE, "--prompts", PROMPTS, "--to", "a"), 1),
    ],
    "help": [(("verify",), 0), (("x" + NAME,), 2)],
    "version": [(("--json",), 0), (("x" + NAME,), 2)],
    "init": [
        (("s" + NAME, "-o", "draft" + NAME), 0),
        (("s" + NAME, "-o", "draft" + NAME), 5),
        ((NOWHERE,), 1),
    ],
    "cache": [
        (("info", "--cache", NOWHERE), 0),
        (("info", "--cache", NOWHERE, "--json"), 0),
        (("clear", "--cache", "other"), 1),
        (("x" + NAME,), 2),
    ],
}
AFTERWARDS = {  # of what the commands above made
    "show": [((MIXED,), 0), ((BOOK,), 0), ((BOOK, "--json"), 0)],
    "verify": [((MIXED,), 0), ((BOOK,), 0), ((PROMPTS,), 0), ((PARSED,), 0)],
    "report": [((MIXED, "-q"), 0)],
}


def test_every_command_is_here():
    assert set(RUNS) == {"", *app.COMMANDS}
    assert all({bool(code) for _, code in runs} == {False, True} for runs in RUNS.values())


def on_terminal(arguments, folder):
    """A run on a terminal of its own: what it was sent, and the exit code."""
    mine, its = os.openpty()
    running = subprocess.Popen([COOK, *arguments], cwd=folder, stdin=its, stdout=its, stderr=its)
    os.close(its)
    sent = b""
    try:
        while more := os.read(mine, 1 << 16):
            sent += more
    except OSError:  # it was closed
        pass
    os.close(mine)
    return running.wait(), sent


def _answer(place):
    asked = [orjson.loads(line) for line in (place / PROMPTS).read_bytes().splitlines()]
    told = [{"custom_id": row["custom_id"], "text": f"<QUE> {TEXT} <ANS> {TEXT} </END>"} for row in asked[:-1]]
    told.append({"custom_id": asked[-1]["custom_id"], "text": NAME})
    (place / ANSWERS).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in told))


@pytest.mark.filterwarnings("default")
def test_no_command_prints_what_steers_a_terminal(place, monkeypatch):
    """One test, since commands take what others made."""
    monkeypatch.chdir(place)
    for runs in (RUNS, AFTERWARDS):
        for command, each in runs.items():
            for given_to_it, expected in each:
                arguments = ([command] if command else []) + list(given_to_it)
                if command == "parse" and not (place / ANSWERS).exists():
                    _answer(place)
                code, sent = on_terminal(arguments, place)
                assert code == expected, (arguments, sent[-2000:].decode())
                assert b"Traceback" not in sent, sent.decode()
                assert_harmless(sent, terminal=True)
                piped = CliRunner().invoke(app.main, arguments)
                assert isinstance(piped.exception, SystemExit | None), arguments
                assert_harmless(piped.stdout_bytes)
                assert_harmless(piped.stderr_bytes)
                if "--json" in arguments:
                    assert isinstance(orjson.loads(piped.stdout_bytes), dict | list)


HOSTILE = st.text(
    st.sampled_from([*STEERS, *"\n\t\0\x85 #:'\"-a\\é[]{}|>&*!%@`", NOT_UTF8]) | st.characters(), max_size=40
)
NAMES = st.lists(HOSTILE, max_size=4)


@given(sets=st.dictionaries(HOSTILE.filter(bool), NAMES, min_size=1, max_size=3), source=HOSTILE, eos=HOSTILE)
@example(sets={"d": ["d/shard/a\nlimit: 1\n#.jsonl"]}, source="s", eos="e")
@example(sets={"d": ["a\u2028limit: 1", "a\x85limit: 1", "a\rlimit: 1"]}, source="s\nlimit: 1", eos="\ufeff")
def test_a_printed_recipe_is_the_one_that_was_asked(sets, source, eos):
    """Whatever datasets and shards are called; with all that the recipe leaves open, and with nothing else."""
    source = source.encode("utf-8", "replace").decode() or "s"  # a recipe holds no lone surrogate
    eos = eos.encode("utf-8", "replace").decode() or "e"
    recipe = Recipe(datasets=("all",), tokenizer="t", source=f"./{source}", delimiter=source, eos=f"<{eos}>")
    ready = SimpleNamespace(
        recipe=recipe,
        shards={name: [SimpleNamespace(path=shard, size=1) for shard in shards] for name, shards in sets.items()},
        root=Path("out"),
        tokenizer=SimpleNamespace(bos=None, eos=recipe.eos),
        source=SimpleNamespace(provenance=dict),
        unread={name: [] for name in sets},
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        summary.print_preview(ready, as_json=False)
    assert_harmless(printed.getvalue().encode())
    comments = [line for line in printed.getvalue().split("\n") if line.startswith("#")]
    assert len(comments) == len(sets) + sum(map(len, sets.values()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.yaml")
        path.write_text(printed.getvalue(), encoding="utf-8")
        read = Recipe(**read_config(path))
    assert read == dataclasses.replace(recipe, datasets=tuple(sets), output="out", bos="none")


@given(HOSTILE)
def test_what_is_escaped_is_one_harmless_line(text):
    once = escape_controls(text)
    assert_harmless(once.encode())
    assert "\n" not in once
    assert escape_controls(once) == once
    assert not IGNORABLE & set(once)
    document = orjson.dumps({"a": text.encode("utf-8", "replace").decode()}, option=orjson.OPT_INDENT_2).decode()
    assert_harmless(escape_json_controls(document).encode())
    assert orjson.loads(escape_json_controls(document)) == orjson.loads(document)


def test_letters_of_every_script_stay():
    for text in ("naïve Ω 漢字 עברית فارسی हिन्दी 한국어 😀", "a b", r"C:\new"):
        assert escape_controls(text) == text


def test_an_errors_lines_are_cooks_own():
    """Each argument is a line, whatever it holds, also where errors hold errors, and made again."""
    name = f"a\n{FORGED}"
    bad = BadLines([Problem(name, 1, f"x\n{FORGED}", f"is\n{FORGED}")], 2)
    several = SeveralFailed({name: SourceError(f"{name}: no", "second"), "b": bad}, SimpleNamespace(results=[]))
    for error in (CookError(name, "second"), bad, several, copy.copy(several)):
        assert len(str(error).split("\n")) == len(error.lines) >= 2
        assert not [line for line in error.lines if line.startswith(FORGED)]
    assert several.lines[0] == escape_controls(name) + ": no"
    assert str(CookWarning(name)) == escape_controls(name)


def test_markup_in_a_name_is_no_markup(capsys):
    print_table([{"name": "[red]x[/blue] :smile:"}], sys.stdout)
    assert "[red]x[/blue] :smile:" in capsys.readouterr().out


def test_json_holds_a_name_that_is_no_utf8(capsys):
    print_json({"name": NOT_UTF8})
    assert json.loads(capsys.readouterr().out) == {"name": NOT_UTF8}
    echo(NOT_UTF8)
    assert capsys.readouterr().out == "\\udcff\n"


def test_an_error_that_nothing_takes_is_escaped_too():
    code = (
        "import cook.cli.app, sys\n"
        "def bad(**_): raise ValueError('x\x1b[31m\u202e')\n"
        "cook.cli.app.main = bad\n"
        "cook.cli.app.start()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("ValueError: x\\x1b[31m\\u202e\n")


def test_completions_are_lines():
    environment = os.environ | {"_COOK_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    environment["COMP_WORDS"] = "cook -t 'x\n/y'"
    done = subprocess.run([COOK], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "\n"


def test_all_that_is_printed_goes_through_one_place():
    """Nothing but the module for it prints; what shows a sequence, and bars, write to streams in ways of their own."""
    allowed = {
        "cli/printing.py",
        "views/terminal.py",
        "views/texts.py",
        "core/progress.py",
        "__main__.py",
        "cli/ending.py",
    }
    root = Path(cook.__file__).parent
    prints = re.compile(
        r"\bclick\.(?:echo|secho|style)\b|(?<![\w.])print\(|\.std(?:out|err)\.write|console\.print|os\.write\([12]\b"
    )
    found = {
        str(p.relative_to(root))
        for p in root.rglob("*.py")
        for line in p.read_text().splitlines()
        if prints.search(line) and ">>>" not in line
    }
    assert found <= allowed
