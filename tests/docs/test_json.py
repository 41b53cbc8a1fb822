"""docs/json.md against what the commands print: every field that is printed is documented, and the other way round."""

import importlib.util
import re
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

import cook
from cook.cli.app import main
from faults.injecting import Bench
from tokenizer.test_control import spell, wordpiece, write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
WHOLE, NUMBER = (lambda value: type(value) is int), (lambda value: type(value) in (int, float))
TYPES = {
    "text": lambda value: isinstance(value, str),
    "whole": WHOLE,
    "number": NUMBER,
    "true/false": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "any": lambda value: True,
}


def sections():
    """By heading, the documented fields and their types."""
    parts = re.split(r"^## `(.+)`$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        heading: {name: kind.strip() for name, kind, _ in ROW.findall(text)}
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


DOCUMENTED = sections()


def steps(name):
    """`a[].<b>` as ["a", "[]", "<b>"]."""
    return re.findall(r"\[\]|<[^>]+>|[^.\[\]<>]+", name)


def leaves(value, where=()):
    """Every path that holds a value, and the value; what is empty has none."""
    if isinstance(value, dict):
        for key, inside in value.items():
            yield from leaves(inside, (*where, key))
    elif isinstance(value, list):
        for inside in value:
            yield from leaves(inside, (*where, "[]"))
    else:
        yield where, value


def fits(documented, kind, path):
    """Whether a path is one that is documented; of any type is also all that lies in it."""
    wanted = steps(documented)
    if kind == "any" and len(path) > len(wanted):
        path = path[: len(wanted)]
    return len(path) == len(wanted) and all(
        want == got or (want.startswith("<") and got != "[]") for want, got in zip(wanted, path, strict=True)
    )


def problems(heading, *documents):
    """What of the documents is not as documented, and what is documented and in none of them."""
    fields = DOCUMENTED[heading]
    seen = set()
    wrong = []
    for document in documents:
        for path, value in leaves(document):
            name = next((name for name, kind in fields.items() if fits(name, kind.split(",")[0], path)), None)
            seen.add(name)
            kinds = fields[name].removesuffix(", optional").split(" or ") if name else ()
            if not any(TYPES[kind](value) for kind in kinds):
                wrong.append(f"{path} is {value!r}, documented as {fields.get(name)}")
    return wrong + [f"{name} is documented and not there" for name in fields.keys() - seen]


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """By heading, what commands print for data that holds all that there is to tell."""
    work = tmp_path_factory.mktemp("json")
    lines = (
        (Path(cook.__file__).parent / "sample" / "squad" / "shard" / "00000.jsonl")
        .read_bytes()
        .splitlines(keepends=True)
    )
    rows = [
        {"context": "none", "QA_list": []},
        {"context": "A <QUE> and </s> <|eot_id|> <b>.", "QA_list": [{"Q": " ", "A": "x"}, {"Q": "q", "A": "a"}]},
    ]
    (work / "in" / "bad").mkdir(parents=True)
    (work / "in" / "bad" / "0.jsonl").write_bytes(b"{")
    chain = [
        {"context": "c", "QA_list": [], "followed_by_next": True},
        {"context": "d", "QA_list": [], "inherit_from_prev": True},
    ]
    (work / "in" / "half.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in (*rows, *chain)) + b"{")
    (work / "in" / "odd.jsonl").write_bytes(b"".join([*lines, *(orjson.dumps(row) + b"\n" for row in rows)]))
    found = {}

    def run(heading, *arguments, code=0):
        done = CliRunner().invoke(main, [*map(str, arguments)])
        assert done.exit_code == code, done.output
        found.setdefault(heading, []).append(orjson.loads(done.stdout))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COOK_CACHE", str(work / "cache"))
        patch.chdir(work)
        common = ["-t", "llama3", "-s", "in", "--json", "-q", "--max-length", 260, "--max-dropped", 1]
        run("cook --json", "-d", "all", *common, "--validation", 0.3, "-o", "r", code=3)
        run("cook --json", "-d", "bad", *common, code=3)
        run("cook --dry-run --json", "-d", "odd", *common, "--dry-run")
        (work / "un" / "d").mkdir(parents=True)
        (work / "un" / "d" / "a.jsonl").write_text('{"context": "c", "QA_list": [{"Q": "q", "A": "a"}]}')
        (work / "un" / "d" / "b.json").write_text("{}")
        unread = ["-d", "d", "-t", "llama3", "-s", "un", "--on-error", "skip", "--dry-run", "--json"]
        run("cook --dry-run --json", *unread)
        unread = ["--on-error", "skip", "--json", "-q"]
        run("cook --json", "-d", "d", "-t", "llama3", "-s", "un", *unread, "-o", "had")
        run("cook corpus --json", "corpus", "un", *unread, "--to", "had-text")
        run("cook verify --json", "verify", "had", "--json")
        lacking = write(work / "t", spell(wordpiece(), ("<|fim|>", {}), ("<b>", {})))  # most words of the data
        common = ["-t", lacking, "--max-unknown", 1, "--json", "-q"]
        run("cook --json", "-d", "odd", "-s", "in", *common, "-o", "lost")
        run("cook show --json", "show", "lost", "-t", lacking, "--json", "--tokens", "--sequence", 0)
        run("cook corpus --json", "corpus", "in", "-d", "odd", "--to", "l", *common)
        run("cook list datasets --json", "list", "datasets", "--json")
        run("cook list datasets --source SOURCE --json", "list", "datasets", "--source", "in", "--json")
        run("cook list tokenizers --json", "list", "tokenizers", "--json")
        run("cook mix --json", "mix", "r", "--to", "m", "--json", "-q", "--weights", "odd=1.5")
        run("cook mix --json", "mix", "r", "--to", "n", "--json", "-q", "--sequences", 5)
        run("cook export --json", "export", "r/odd", "--for", "hf", "--to", "e", "--json", "-q")
        run("cook export --json", "export", "m", "--for", "trl", "--to", "f", "--json", "-q")
        (work / "r" / "notes").mkdir()
        run("cook verify --json", "verify", "r", "--json")
        run("cook fingerprint", "fingerprint", "r")
        (work / "un" / "e.jsonl").write_text('{"context": "c", "QA_list": [{"Q": "q", "A": "a"}]}')
        run("cook init --json", "init", "un", "-o", "draft.yaml", "--json")
        run("cook fingerprint -o FILE --json", "fingerprint", "r", "-o", "r.json", "--json")
        run("cook cache clear --json", "cache", "clear", "--cache", "empty", "--json")
        run("cook version --json", "version", "--json")
        run("cook fingerprint", "fingerprint", "m")
        run("cook diff --json", "diff", "r", "m", "--json", code=4)
        bench = Bench(work / "r" / "odd", work / "broken", "in")
        (name, *_) = bench.files()
        rows = bench.read(name)
        rows["labels"][0][0] = 1
        bench.write(name, rows)
        run("cook verify --json", "verify", "broken", "--json", code=4)  # a finding of the whole file
        bench.seal()
        run("cook verify --json", "verify", "broken", "--json", code=4)  # and of a row
        run("cook cache info --json", "cache", "info", "--json")
        run("cook show --json", "show", "r", "--json", "--tokens", "--random", "--seed", 1)
        run("cook show --json", "show", "m", "--json")
        if importlib.util.find_spec("jinja2"):
            run("cook report --json", "report", "r", "--json", "-q")
        texts = [{"text": text} for text in ("A mill by the river.", "Of ink.", "Bees. " * 9000, "Wax.", " ")]
        (work / "raw.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in texts))
        prompts = ["prompts", "raw.jsonl", "-t", "llama3", "--json", "-q", "--rounds", 2]
        run("cook prompts --json", *prompts, "--to", "p.jsonl")
        run("cook prompts --json", *prompts, "--to", "b.jsonl", "--format", "openai-batch", "--model", "m")
        asked = [orjson.loads(line)["custom_id"] for line in (work / "p.jsonl").read_bytes().splitlines()]
        written = ["<QUE> What? <ANS> That. </END>\n\n<QUE> Why", "nothing"]
        answers = [{"custom_id": name, "text": text} for name, text in zip(asked, written, strict=False)]
        (work / "a.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in answers))
        run("cook parse --json", "parse", "a.jsonl", "--prompts", "p.jsonl", "--to", "c/new", "--json", "-q")
        run("cook prompts --json", *prompts, "--previous", "c/new", "--to", "q.jsonl")
        run("cook corpus --json", "corpus", "in", "-d", "odd", "--to", "t", "--json", "-q")
        run("cook corpus --json", "corpus", "sample", "--to", "u", "-t", "llama3", "--json", "-q")
        run("cook corpus --json", "corpus", "in", "-d", "half", "--to", "v", "--json", "-q", "--on-error", "skip")
        run("cook verify --json", "verify", "t", "--json")
        run("cook show CORPUS --json", "show", "t", "--json")
        run("errors", "mix", "nowhere", "--to", "w", "--json", code=1)
        run("errors", "corpus", "nowhere", "--to", "w", "--json", code=1)
        run("errors", "show", "nowhere", "--json", code=1)
    return found


@pytest.mark.parametrize("heading", DOCUMENTED)
def test_what_is_printed_is_what_is_documented(printed, heading):
    if heading == "cook report --json" and heading not in printed:
        pytest.skip("Jinja is not installed: pip install '.[report]'")
    assert problems(heading, *printed[heading]) == []


def test_every_command_that_prints_json_is_on_the_page():
    def commands(group, *names):
        for name in group.list_commands(None):
            command = group.get_command(None, name)
            if hasattr(command, "list_commands"):
                yield from commands(command, *names, name)
            elif any("--json" in option.opts for option in command.params):
                yield " ".join((*names, name))

    missing = [name for name in commands(main) if not any(each.startswith(f"cook {name}") for each in DOCUMENTED)]
    assert missing == []


def test_what_is_not_as_documented_is_seen():
    assert problems("cook diff --json", {"same": True, "datasets": {"a": ["x"]}}) == []
    assert problems("cook diff --json", {"same": 1, "datasets": {"a": ["x"]}, "more": "y"}) == [
        "('same',) is 1, documented as true/false",
        "('more',) is 'y', documented as None",
    ]
    assert problems("cook diff --json", {"same": True}) == ["datasets.<dataset>[] is documented and not there"]
