"""The command: flags, configuration, exit codes, messages, what goes to which stream, and how fast it starts."""

import contextlib
import itertools
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import termios
import time
from importlib.metadata import version
from pathlib import Path

import click
import orjson
import pytest
import yaml

import cook as package
from conftest import entry, write_shard
from cook.cli.app import main
from cook.core.catalog import CATALOG
from cook.core.choices import OVERLONG_POLICIES, PACKINGS, PRESET_NAMES
from cook.core.errors import FIELDS_HINT, JSON_LINES_HINT, SKIP_HINT
from cook.core.recipe import SETTING_CHECKS, Recipe
from cook.tokenizer.presets import PRESETS

SQUAD = ("-d", "squad", "-t", "llama3", "-s", "sample")


def test_the_main_job(cook, tmp_path):
    result = cook("--dataset", "squad", "--tokenizer", "llama3", "--source", "sample")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "1 dataset in " in result.stderr
    assert "load_dataset('cooked/llama3', 'squad', split=\"train\")" in result.stderr
    for figure in ("entries", "pairs", "sequences", "tokens", "trained", "full", "seconds"):
        assert figure in result.stderr
    assert sorted(path.name for path in (tmp_path / "cooked" / "llama3" / "squad").iterdir()) == [
        "cook.json",
        "train-00000-of-00001.parquet",
    ]
    again = cook(*SQUAD)
    assert again.exit_code == 0
    assert "up to date" in again.stderr


def test_the_summary_says_what_was_left_out(cook, tmp_path):
    rows = [
        entry(),
        {"context": "x", "QA_list": []},
        entry("long " * 300),
        entry("y", *[{"Q": "q" * 9, "A": "a" * 9}] * 40),
    ]
    write_shard(tmp_path, "set", rows)
    result = cook("-d", "set", "-t", "llama3", "-s", ".", "--max-length", "128", "--max-dropped", "0.5")
    assert result.exit_code == 0, result.stderr
    assert "set: 1 entry without pairs left out (skipped.jsonl)" in result.stderr
    assert "set: 1 pair too long for a sequence left out (skipped.jsonl)" in result.stderr
    assert "set: 1 entry too long for a sequence made into several examples" in result.stderr


def test_json_is_all_of_standard_output(cook):
    result = cook(*SQUAD, "-d", "race", "--json", "-q")
    assert result.stderr == ""
    found = orjson.loads(result.stdout)
    assert [row["name"] for row in found["datasets"]] == ["squad", "race"]
    assert found["datasets"][0]["counts"]["entries"] == 40


def test_dry_run_prints_a_recipe_that_config_reads(cook, tmp_path):
    result = cook(*SQUAD, "--delimiter", "\n", "--dry-run")
    assert not (tmp_path / "cooked").exists()
    assert "# squad: 2 shards" in result.stdout
    assert result.stdout.count("00000.jsonl") == 1
    path = tmp_path / "recipe.yaml"
    path.write_text(result.stdout)
    settings = yaml.safe_load(result.stdout)
    assert (settings["delimiter"], settings["bos"], settings["output"]) == ("\n", "<|begin_of_text|>", "cooked/llama3")
    assert cook("--config", str(path), "--dry-run").stdout == result.stdout
    shown = orjson.loads(cook("--config", str(path), "--dry-run", "--json").stdout)
    assert shown["recipe"]["datasets"] == ["squad"]
    assert len(shown["shards"]["squad"]) == 2


def test_flags_win_over_the_configuration(cook, tmp_path):
    (tmp_path / "r.yaml").write_text("datasets: [race]\ntokenizer: llama3\nsource: sample\nmax_length: 512\nseed: 9\n")
    shown = yaml.safe_load(cook("--config", "r.yaml", "-d", "squad", "--seed", "0", "--dry-run").stdout)
    assert (shown["datasets"], shown["seed"], shown["max_length"]) == (["squad"], 0, 512)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-d", "squad"), 2, "pass --tokenizer"),
        (("-t", "llama3"), 2, "pass --dataset"),
        ((*SQUAD, "--max-length", "x"), 2, "is not a valid integer"),
        ((*SQUAD, "--max-length", "1"), 2, "max_length: must be a whole number from 2"),
        ((*SQUAD, "--packing", "tight"), 2, "'tight' is not one of 'best-fit'"),
        ((*SQUAD, "--pair-template", "{question}"), 2, "pair_template: lacks {answer}"),
        (("-d", "sqad", "-t", "llama3", "-s", "sample"), 2, "did you mean squad"),
        (("-d", "../x", "-t", "llama3", "-s", "sample"), 2, "cannot name a dataset"),
        (("-d", "QED", "-t", "llama3", "-s", "sample"), 2, "this source does not hold it"),
        (("-d", "squad", "-t", "lama3", "-s", "sample"), 1, "did you mean llama3"),
        ((*SQUAD, "--bos", "<s>"), 1, "its own is <|begin_of_text|>"),
        (("-d", "squad", "-t", "llama3", "-s", "nowhere"), 1, "nowhere: no such folder"),
        (("-d", "squad", "-t", "llama3"), 1, "HF_HUB_OFFLINE is set, and the files of revision main are not known"),
        ((*SQUAD, "--revision", "v1"), 2, "revision: is of a source on the Hub, which 'sample' is not"),
        (("-d", "x", "-t", "llama3", "-s", "hf://models/a/b"), 2, "source: a collection on the Hub is hf://datasets/"),
        (("-d", "x", "-t", "llama3", "-s", "hf://datasets/a/b@v1", "--revision", "v2"), 2, "revision: is given twice"),
        (("list", "datasets", "-s", "hf://datasets/a"), 2, "a collection on the Hub is hf://datasets/OWNER/NAME"),
        ((*SQUAD, "--config", "none.yaml"), 2, "none.yaml: cannot be read"),
        (
            (*SQUAD, "list", "tokenizers"),
            2,
            "--tokenizer: stands before the command 'list', which would ignore it.",
        ),
        (("list", "tokenizers", "-s", "sample"), 2, "--source goes with datasets"),
        (("--no-such-flag",), 2, "No such option"),
        (("--json", "list", "tokenizers"), 2, "--json: stands before the command 'list'"),
        (("squad",), 2, "To cook it: cook --dataset squad --tokenizer llama3\n"),
        (("race", "QED", "--limit", "3"), 2, "cook --dataset race --dataset QED --limit 3 --tokenizer llama3\n"),
        (("-t", "mistral", "SQuAD"), 2, "To cook it: cook --dataset squad -t mistral\n"),
        (("prepare",), 2, "No such command 'prepare'. For all commands: cook help\n"),
        (("squat",), 2, "No such command 'squat'. For all commands: cook help\n"),
        (("list", "dataset"), 2, "Did you mean 'datasets'?"),
        (("list", "zebras"), 2, "'zebras' is not one of 'datasets', 'tokenizers'.\ncook: see: cook list --help\n"),
        ((*SQUAD, "--packing", "best_fit"), 2, "Did you mean 'best-fit'?"),
        ((*SQUAD, "--packing", "wrapped"), 2, "Only `cook corpus --tokenizer` has wrap: it cuts examples."),
        (("help", "veryfi"), 2, "Did you mean 'verify'?"),
        (("veryfi", "cooked"), 2, "No such command 'veryfi'. Did you mean 'verify'?"),
        ((*SQUAD, "--max-length", "16"), 3, "do not fit in 16 tokens"),
        ((*SQUAD, "--max-length", "64", "--overlong", "error"), 3, "an example is longer than 64 tokens"),
        ((*SQUAD, "-o", "/proc/x"), 1, "/proc/x: cannot be written"),
    ],
)
def test_errors_have_a_message_and_a_code(cook, arguments, code, message):
    result = cook(*arguments)
    assert message in result.stderr
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_unknown_key_of_the_configuration(cook, tmp_path):
    (tmp_path / "r.yaml").write_text("max_lenght: 512\n")
    result = cook("--config", "r.yaml")
    assert result.exit_code == 2
    assert "cook: r.yaml: unknown key 'max_lenght'; did you mean max_length?" in result.stderr


def test_bad_lines_exit_3_and_name_file_line_and_field(cook, tmp_path):
    write_shard(tmp_path, "set", [entry(), {"context": "c", "QA_list": [{"Q": "q"}]}])
    result = cook("-d", "set", "-t", "llama3", "-s", ".")
    assert result.exit_code == 3
    assert result.stderr == f"cook: set/shard/00000.jsonl:2: QA_list[0].A: is missing\ncook: {SKIP_HINT}\n"


def test_several_with_one_that_fails(cook, tmp_path):
    write_shard(tmp_path, "bad", [b"{"])
    write_shard(tmp_path, "good", [entry()])
    write_shard(tmp_path, "ugly", [b"{"])
    result = cook("-d", "all", "-t", "llama3", "-s", ".")
    assert result.exit_code == 3
    assert "1 dataset in" in result.stderr
    assert "cook: bad: bad/shard/00000.jsonl:1: begins JSON that goes over several lines" in result.stderr
    found = orjson.loads(cook("-d", "all", "-t", "llama3", "-s", ".", "--json").stdout)
    assert [row["name"] for row in found["datasets"]] == ["good"]
    assert [(row["name"], row["exit_code"]) for row in found["failures"]] == [("bad", 3), ("ugly", 3)]
    assert "cook: ugly: ugly/shard/00000.jsonl:1: begins JSON that goes over several lines" in result.stderr
    assert f"cook: ugly: {JSON_LINES_HINT}\n" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "place", "told"),
    [
        (("verify", "."), "cook.check.verifier.verify", "cook: interrupted\n"),
        (
            SQUAD,
            "cook.pipeline.runner.run",
            "cook: interrupted; finished datasets are complete. Run the same command again to resume.\n",
        ),
        (
            (*SQUAD, "--no-cache"),
            "cook.pipeline.runner.run",
            "cook: interrupted; finished datasets are complete. Run the same command again; the others start anew.\n",
        ),
        (
            ("mix", ".", "--to", "m"),
            "cook.pipeline.mixing.mix",
            "cook: interrupted; nothing was replaced. Run the same command again.\n",
        ),
    ],
)
def test_an_interrupt_says_what_it_left(cook, monkeypatch, arguments, place, told):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    result = cook(*arguments)
    assert result.exit_code == 130
    assert result.stderr.startswith(told)


def test_an_interrupt_while_the_command_is_imported():
    code = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from cook.__main__ import start
start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "cook: interrupted\n")


def test_another_result_is_there(cook):
    assert cook(*SQUAD).exit_code == 0
    result = cook(*SQUAD, "--seed", "1")
    assert result.exit_code == 5
    assert "recipe.seed: it has 0, this run 1" in result.stderr
    assert cook(*SQUAD, "--seed", "1", "--overwrite").exit_code == 0


def test_warnings_are_one_line(tmp_path):
    (tmp_path / "cooked" / "llama3").mkdir(parents=True)
    (tmp_path / "cooked" / "llama3" / "README.md").write_text("mine")
    done = subprocess.run([COOK, *SQUAD, "-q"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == "cook: warning: cooked/llama3/README.md: cook did not write it, so it is left as it is\n"


def test_a_newline_written_as_two_characters_is_told(tmp_path):
    done = subprocess.run(
        [COOK, *SQUAD, "--delimiter", r"\n\n", "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith("cook: warning: delimiter: holds a backslash and an n")


def test_the_cache_command(cook, tmp_path):
    assert cook(*SQUAD, "--cache", "kept").exit_code == 0
    found = orjson.loads(cook("cache", "info", "--cache", "kept", "--json").stdout)
    assert (found["folder"], found["spools"]) == ("kept", 2)
    assert found["bytes"] > 40_000
    freed = cook("cache", "clear", "--cache", "kept").stderr
    assert found["bytes"] < int(freed.removesuffix(" bytes freed\n").replace(",", "")) < found["bytes"] * 200
    (tmp_path / "project" / "spools").mkdir(parents=True)
    result = cook("cache", "clear", "--cache", "project")
    assert result.exit_code == 1
    assert result.stderr.startswith("cook: project: holds other things than a cache of cook's, and nothing in it is")
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["spools"]
    (tmp_path / "empty").mkdir()
    assert cook("cache", "clear", "--cache", "empty").exit_code == 0
    assert list((tmp_path / "empty").iterdir()) == []
    assert cook("cache", "clear", "--cache", "nowhere").exit_code == 0
    assert not (tmp_path / "nowhere").exists()
    assert orjson.loads(cook("cache", "info", "--cache", "kept", "--json").stdout)["spools"] == 0


def test_a_terminal_of_80_columns_cuts_no_name(tmp_path):
    code = f"import pty; pty.spawn([{COOK!r}, 'list', 'datasets'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"COLUMNS": "80"}, capture_output=True, text=True, check=True
    )
    assert all(row.name in done.stdout and row.obligations in done.stdout for row in CATALOG)


def test_lists(cook):
    listed = orjson.loads(cook("list", "datasets", "--json").stdout)
    assert [row["name"] for row in listed] == [row.name for row in CATALOG]
    assert "CC BY-SA 4.0" in cook("list", "datasets").stdout
    sample = orjson.loads(cook("list", "datasets", "-s", "sample", "--json").stdout)
    assert {row["name"]: row["shards"] for row in sample} == {"WikiTableQuestions": 2, "race": 2, "squad": 2}
    assert [row["name"] for row in orjson.loads(cook("list", "tokenizers", "--json").stdout)] == list(PRESETS)


def test_help(cook):
    assert cook().stdout == cook("--help").stdout
    for heading in ("Data:", "Tokenizer:", "Sequences:", "Output:", "Run:", "Inspect:", "Examples:"):
        assert heading in cook("-h").stdout
    assert "--scheduler" not in cook("-h").stdout
    assert "--scheduler-file FILE" in cook("help", "cluster").stdout
    for arguments in (("--version",), ("-V",), ("version",)):
        assert cook(*arguments).stdout == f"cook, version {version('instruct-cook')}\n"
    for words in ((), ("verify",), ("cache", "clear")):
        assert cook("help", *words).stdout == cook(*words, "--help").stdout


def commands_below(group, words=()):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from commands_below(command, (*words, name))


EVERY_COMMAND = dict(commands_below(main))


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_examples_that_parse_and_the_common_options(words):
    command = EVERY_COMMAND[words]
    lines = command.epilog.replace("\\\n", "").splitlines()
    examples = [line.strip() for line in lines[lines.index("Examples:") + 1 :] if line.strip()]
    assert examples
    for example in examples:
        first, *given = shlex.split(example.partition(" >")[0])
        assert first == "cook"
        names = tuple(itertools.takewhile(lambda word: not word.startswith("-"), given))
        named = next((names[:n] for n in (2, 1) if names[:n] in EVERY_COMMAND), ())
        with contextlib.suppress(click.exceptions.Exit):  # of --print-styles
            EVERY_COMMAND.get(named, main).make_context("cook", given[len(named) :])
    flags = {flag for param in command.params for flag in param.opts}
    assert {"--json", "-q", "--quiet"} <= flags or isinstance(command, click.Group) or words == ("help",)
    if "--to" in flags or "--output" in flags:
        assert {"-o", "--output", "--to"} <= flags


@pytest.mark.parametrize("words", [(), ("help", "cluster"), *EVERY_COMMAND], ids=" ".join)
def test_no_sentence_of_the_help_is_long(cook, words):
    text = cook(*words, *(() if "cluster" in words else ("--help",))).stdout.partition("Examples:")[0]
    for paragraph in re.split(r"\n\s*\n|\n(?=  -)|\n  (?=\w+  )", text):
        for sentence in re.split(r"(?<=[.:;?])\s", " ".join(paragraph.split())):
            assert len(sentence.split()) <= 25, sentence


def test_the_command_and_the_recipe_agree():
    """Each setting has a flag, each choice is offered, and the help tells the recipe's own default."""
    flags = {param.name: param for param in main.params}
    assert set(SETTING_CHECKS) <= set(flags)
    assert tuple(flags["packing"].type.choices) == PACKINGS
    assert tuple(flags["overlong"].type.choices) == OVERLONG_POLICIES
    assert tuple(PRESETS) == PRESET_NAMES
    recipe = Recipe(datasets="x", tokenizer="x")
    for name in (
        "max_length",
        "packing",
        "overlong",
        "max_dropped",
        "seed",
        "source",
        "context_template",
        "pair_template",
    ):
        assert str(getattr(recipe, name)) in flags[name].help


@pytest.mark.parametrize(
    ("words", "expected"), [("cook -d sq", "squad"), ("cook -d AQ", "AQUA_RAT_yes_opt"), ("cook -t ll", "llama3")]
)
def test_shell_completion(words, expected):
    environment = os.environ | {"_COOK_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
    done = subprocess.run([COOK], env=environment, capture_output=True, text=True, check=False)
    assert f"plain,{expected}" in done.stdout


COOK = str(Path(sys.executable).with_name("cook"))
HEAVY = (
    *("numpy", "pyarrow", "datasets", "orjson", "tqdm", "yaml", "rich", "splintr", "tokenizers", "huggingface_hub"),
    "zstandard",
    "torch",
)


@pytest.mark.parametrize("statement", ["import cook", "import cook.cli.app", "from cook import Recipe, CookError"])
def test_imports_are_lazy(statement):
    code = f"import sys; {statement}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_cooking_never_imports_what_is_slow_to(tmp_path):
    """Nor commands that it is not, nor what reads packages' metadata or resources, archives or masked arrays."""
    slow = {"datasets", "pandas", "pyarrow", "tokenizers", "huggingface_hub", "cook.cli.commands.mix"}
    slow |= {"importlib.metadata", "importlib.readers", "zipfile", "numpy.ma"}
    cook = ["-d", "squad", "-t", "llama3", "-s", "sample", "-q", "--max-length", "200", "--max-dropped", "1"]
    code = (
        "import sys; from cook.cli.app import main\n"
        f"main([*{cook!r}, '-o', {str(tmp_path)!r}, '--json'], standalone_mode=False)\n"
        f"print(sorted({slow!r} & set(sys.modules)))"
    )
    *printed, imported = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert imported == "[]"
    assert '"overlong"' in "".join(printed)  # which is looked for in the table of what was left out


def test_help_is_fast():
    """By its CPU time, which other work on the machine stretches less than the clock's."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([COOK, "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.15


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupts(tmp_path, sent, code):
    write_shard(tmp_path, "set", [entry(f"context {i} " + "word " * 400) for i in range(20_000)])
    command = [COOK, "-d", "set", "-t", "llama3", "-s", str(tmp_path), "-o", str(tmp_path / "out")]
    command += ["--engine", "hf"]  # the others are done before an interrupt reaches them
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / ".cook").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sent)
    _, error = process.communicate(timeout=10)
    assert process.returncode == code
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_exported_names():
    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        _ = package.nothing


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_standard_output_that_is_full(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "cook", "list", "tokenizers"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "cook: standard output: cannot be written: No space left on device\n"


def test_a_fingerprint_is_written_whole_or_not_at_all(cook, tmp_path, monkeypatch):
    assert cook(*SQUAD).exit_code == 0
    kept = tmp_path / "kept.json"
    for flag in ("-o", "--output", "--to"):
        done = cook("fingerprint", "cooked/llama3", flag, "kept.json", "--json")
        assert orjson.loads(done.stdout) == {"file": "kept.json", "datasets": ["squad"]}
    assert kept.read_text() == cook("fingerprint", "cooked/llama3").stdout
    assert cook("diff", "kept.json", "cooked/llama3").exit_code == 0
    before = kept.read_bytes()
    assert cook("fingerprint", "nowhere", "-o", "kept.json").exit_code == 1

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    done = cook("fingerprint", "cooked/llama3", "-o", "kept.json")
    assert (done.exit_code, kept.read_bytes()) == (1, before)
    assert "No space left on device" in done.stderr
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_quiet_and_json_everywhere(cook):
    assert cook(*SQUAD, "-q").exit_code == 0
    assert cook("diff", "cooked/llama3", "cooked/llama3", "-q").stderr == ""
    assert cook("verify", "cooked/llama3", "-q").stderr == ""
    assert orjson.loads(cook("version", "--json").stdout) == {"version": version("instruct-cook")}
    assert orjson.loads(cook("cache", "clear", "--json", "-q").stdout)["bytes"] > 0
    assert orjson.loads(cook("show", "cooked/llama3", "-q", "--json").stdout)
    failed = cook("corpus", "nowhere", "--to", "x", "--json", "-q")
    assert [row["exit_code"] for row in orjson.loads(failed.stdout)["failures"]] == [1]


def test_names_of_packings_that_trl_has(cook, tmp_path):
    assert cook(*SQUAD, "--packing", "bfd", "-q").exit_code == 0
    stored = orjson.loads((tmp_path / "cooked/llama3/squad/cook.json").read_bytes())["recipe"]["packing"]
    assert stored == "best-fit-decreasing"
    assert Recipe(datasets="x", tokenizer="y", packing="bfd").packing == "best-fit-decreasing"
    assert cook("corpus", "sample", "--to", "c", "-t", "llama3", "--packing", "wrapped", "-q").exit_code == 0
    assert orjson.loads((tmp_path / "c/squad/cook.json").read_bytes())["recipe"]["packing"] == "wrap"


def test_verbose_says_what_is_decided(cook):
    first = cook(*SQUAD, "--verbose", "--jobs", "2").stderr
    for told in (
        "source: sample: datasets squad",
        "jobs: 2",
        "engine: splintr (chosen for",
        "2 parts of shards to",
    ):
        assert told in first
    assert "up to date: same recipe" in cook(*SQUAD, "--verbose").stderr
    assert "squad: 0 parts of shards to encode, 2 in the cache" in cook(*SQUAD, "--verbose", "-o", "b").stderr
    assert "engine:" not in cook(*SQUAD, "-o", "c").stderr


def test_a_shard_whose_lines_all_fail_alike_says_so_once(cook, tmp_path):
    rows = [{"passage": "c", "qas": [{"Q": "q", "A": "a"}]}] * 30
    write_shard(tmp_path, "set", rows)
    result = cook("-d", "set", "-t", "llama3", "-s", ".")
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert lines[0].startswith("cook: set/shard/00000.jsonl: all 30 lines: context: is missing")
    assert lines[1].startswith("cook: set/shard/00000.jsonl: all 30 lines: QA_list: is missing")
    assert lines[2:] == [f"cook: {FIELDS_HINT}"]
    keys = [{"question": "q", "answer": "a"}]
    write_shard(tmp_path, "set", [{"context": "c", "QA_list": keys * (1 + i % 3)} for i in range(30)])
    for command in (("-d", "set", "-t", "llama3", "-s", "."), ("corpus", ".", "--to", "texts")):
        told = cook(*command).stderr
        assert "all 30 lines: QA_list[…].Q: is missing" in told
        assert "--on-error" not in told
    write_shard(tmp_path, "set", [*rows, entry()])  # one line is good
    told = cook("-d", "set", "-t", "llama3", "-s", ".").stderr
    assert "set/shard/00000.jsonl:1: context: is missing" in told
    assert told.endswith(f"cook: {SKIP_HINT}\n")


@pytest.mark.parametrize(("term", "moves"), [("dumb", False), ("xterm", True)])
def test_a_dumb_terminal_gets_no_escapes(tmp_path, term, moves):
    write_shard(tmp_path, "set", [entry(f"context {i} " + "word " * 300) for i in range(2_000)])
    command = [COOK, "-d", "set", "-t", "llama3", "-s", "."]
    mine, its = os.openpty()
    termios.tcsetwinsize(its, (24, 80))  # of none tqdm draws nothing
    running = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"TERM": term}, stderr=its, stdout=its)
    os.close(its)
    sent = b""
    with contextlib.suppress(OSError), open(mine, "rb", buffering=0) as terminal:
        while more := terminal.read(1 << 16):
            sent += more
    assert running.wait() == 0
    assert b"1 dataset in " in sent
    assert (b"\r" in sent.replace(b"\r\n", b"")) == moves
    assert (b"\x1b" in sent) == moves


def test_the_sample_bears_its_own_licence(cook, tmp_path):
    """Its datasets have names of the catalog, and texts that were written for cook."""
    cook("-d", "squad", "-d", "race", "-t", "llama3", "-s", "sample", "-o", "out", "-q")
    cook("mix", "out", "--to", "mixed", "-q")
    said = "- squad, of the sample that comes with cook: MIT (keep the notice)"
    for card in ("out", "mixed"):
        text = (tmp_path / card / "README.md").read_text()
        assert said in text
        assert "SQuAD-explorer" not in text
    listed = orjson.loads(cook("list", "datasets", "-s", "sample", "--json").stdout)
    assert {row["licence"] for row in listed} == {"MIT"}
    write_shard(tmp_path / "copy", "squad", [entry()])
    cook("-d", "squad", "-t", "llama3", "-s", "copy", "-o", "real", "-q")
    assert (
        "[squad](https://rajpurkar.github.io/SQuAD-explorer/): CC BY-SA 4.0"
        in (tmp_path / "real" / "README.md").read_text()
    )
    [row] = orjson.loads(cook("list", "datasets", "-s", "copy", "--json").stdout)
    assert row["licence"] == "CC BY-SA 4.0"
