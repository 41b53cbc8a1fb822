"""Nobody's file is overwritten: every writer of every command against each kind of thing that may lie at its target."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

import cook
from conftest import entry, write_shard
from cook import Recipe
from cook.cli.app import main
from cook.store.dataset_card import CardWarning

pytest.importorskip("jinja2", reason="the extra report is not installed")

# What a command writes, as arguments; {to} is the target. A folder (of a dataset: ROOT's) or a file.
WRITERS = {
    "cook": ("-d set -t llama3 -s source -o {root} --no-cache --seed 3", "folder"),
    "mix": ("mix made/cooked --to {to} --seed 3", "folder"),
    "export": ("export made/cooked/set --for jsonl --to {to}", "folder"),
    "corpus": ("corpus source --to {root} --seed 3", "folder"),
    "corpus -t": ("corpus source --to {root} -t llama3 --seed 3", "folder"),
    "parse": ("parse answers.jsonl --prompts made/prompts.jsonl --to {to} --unique-questions", "folder"),
    "prompts": ("prompts raw.jsonl --to {to} -t llama3 --max-new-tokens 99", "file"),
    "report": ("report made/cooked/set --to {to} --samples 0", "file"),
    "cache": ("-d set -t llama3 -s source -o out --cache {to}", "cache"),
    "cache clear": ("cache clear --cache {to}", "cache"),
}
MADE = {  # of each kind one, made with other settings
    "cook": "-d set -t llama3 -s source -o made/cooked --no-cache",
    "mix": "mix made/cooked --to made/mix",
    "export": "export made/cooked/set --for trl --to made/export",
    "corpus": "corpus source --to made/corpus",
    "corpus -t": "corpus source --to made/packed -t llama3",
    "prompts": "prompts raw.jsonl --to made/prompts.jsonl -t llama3",
    "parse": "parse answers.jsonl --prompts made/prompts.jsonl --to made/parsed",
    "report": "report made/cooked/set --to made/page.html --samples 0",
    "cache": "-d set -t llama3 -s source -o made/other --cache made/cache",
}
OWN = {  # where what the same command made lies
    "cook": "cooked/set", "mix": "mix", "export": "export", "corpus": "corpus/set", "corpus -t": "packed/set",
    "parse": "parsed", "prompts": "prompts.jsonl", "report": "page.html", "cache": "cache", "cache clear": "cache",
}  # fmt: skip


def run(folder: Path, line: str) -> int:
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(main, line.split()).exit_code
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Path:
    """A folder with a source, raw texts, answers, and of each kind of output one, in `made`."""
    folder = tmp_path_factory.mktemp("ground")
    write_shard(folder / "source", "set", [entry(f"context {i}") for i in range(9)])
    (folder / "raw.jsonl").write_bytes(b"".join(orjson.dumps({"text": f"text {i}"}) + b"\n" for i in range(3)))
    (folder / "made").mkdir()
    for name, line in MADE.items():
        if name == "parse":
            rows = map(orjson.loads, (folder / "made/prompts.jsonl").read_bytes().splitlines())
            text = "<QUE> Why? <ANS> So. </END>"
            answers = (orjson.dumps({"custom_id": row["custom_id"], "text": text}) + b"\n" for row in rows)
            (folder / "answers.jsonl").write_bytes(b"".join(answers))
        assert run(folder, line) == 0, name
    return folder


def stranger(path: Path) -> None:
    path.write_text("my only copy")


def folder_of(*names: str) -> Callable[[Path, Path, str], None]:
    def put(path: Path, base: Path, name: str) -> None:
        for of in names:
            (path / of).parent.mkdir(parents=True, exist_ok=True)
            stranger(path / of)

    return put


def copied(path: Path, source: Path) -> None:
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, path)
    if (side := source.with_name(source.name + ".cook")).exists():
        shutil.copytree(side, path.with_name(path.name + ".cook"))


def spoilt(path: Path, base: Path, name: str) -> None:
    """What the same command made, with something of a stranger's in it; a file is changed."""
    copied(path, base / "made" / OWN[name])
    stranger(path / "spools" / "mine.ids" if name.startswith("cache") else path / "mine" if path.is_dir() else path)


KINDS: dict[str, Callable[[Path, Path, str], object]] = {
    "nothing": lambda to, base, name: None,
    "an empty folder": lambda to, base, name: to.mkdir(),
    "its own": lambda to, base, name: copied(to, base / "made" / OWN[name]),
    "its own, with a stranger's": spoilt,
    "a shard": lambda to, base, name: shutil.copyfile(base / "source/set/shard/00000.jsonl", to),
    "a file": lambda to, base, name: stranger(to),
    "a manifest": lambda to, base, name: shutil.copyfile(base / "made/cooked/set/cook.json", to),
    "another's folder": lambda to, base, name: copied(to, base / "made" / ("mix" if name != "mix" else "export")),
    "another's file": lambda to, base, name: copied(
        to, base / "made" / ("page.html" if name != "report" else "prompts.jsonl")
    ),
    "a folder": folder_of("notes", "train-00000.parquet"),
    "a folder with a cook.json": folder_of("cook.json", "train-00000.parquet"),
    "a folder with names of cook's": folder_of("spools/x/p.ids", "digests/l.txt", "lock", "shard/00000.jsonl"),
    "a link to a file": lambda to, base, name: to.symlink_to(base / "raw.jsonl"),
    "a link to a folder": lambda to, base, name: to.symlink_to(base / "strangers"),
    "a link to its own": lambda to, base, name: to.symlink_to(base / "made" / OWN[name]),
    "a dangling link": lambda to, base, name: to.symlink_to(base / "nowhere"),
    "a pipe": lambda to, base, name: os.mkfifo(to),
}
# What a writer may replace, without and with --overwrite; of a cache, what it may put its own beside or take away.
FREE = ("nothing", "an empty folder")
FOLDERS = {"free": FREE, "overwrite": ("its own",)}
MAY = {
    "prompts": {"free": ("nothing",), "overwrite": ("its own", "its own, with a stranger's")},
    "report": {"free": ("nothing", "its own"), "overwrite": ("a file", "a manifest", "its own, with a stranger's")},
    "cache": {"free": (*FREE, "its own", "its own, with a stranger's"), "overwrite": ()},
}
MAY["cache clear"] = MAY["cache"]
# A link that a user names as a cache's folder, or as a ROOT, is followed: it is the place that is named.
FOLLOWED = {("cache", "a link to its own"), ("cache clear", "a link to its own")}


def state(folder: Path) -> dict[str, bytes]:
    """All below a folder but folders: bytes of files, targets of links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.fsencode(os.readlink(path))
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
        elif not path.is_dir():
            found[str(path.relative_to(folder))] = b"special"
    return found


def outcome(ground: Path, tmp_path: Path, writer: str, kind: str, overwrite: bool) -> str:
    """What came of it; nothing that is not the writer's may have changed."""
    base = tmp_path / "base"
    shutil.copytree(ground, base)
    folder_of("notes", "cook.json")(base / "strangers", base, "")
    line, form = WRITERS[writer]
    root = base / "target"
    root.mkdir()
    to = root / ("set" if "{root}" in line else "it.jsonl" if kind == "a shard" else "it")
    KINDS[kind](to, base, writer)
    before = state(base)
    line = line.format(root=root, to=to) + (" --overwrite" if overwrite and form != "cache" else "") + " -q"
    code = run(base, line.removesuffix(" -q") if writer == "cache clear" else line)
    after = state(base)
    mine = [path for path in before if not path.startswith(("target/", "out/"))]
    if (writer, kind) in FOLLOWED:
        mine = [path for path in mine if not path.startswith("made/cache/")]
    assert [path for path in mine if after.get(path) != before[path]] == [], "another place was written to"
    gone = [path for path in before if path not in mine and after.get(path) != before[path]]
    others = [path for path in gone if before[path] == b"my only copy"]
    may = MAY.get(writer, FOLDERS)
    if kind not in may["free"] and not (overwrite and kind in may["overwrite"]) and (writer, kind) not in FOLLOWED:
        assert code in (1, 2, 5), f"{writer} on {kind}"
        assert before == {path: after[path] for path in before}, f"{writer} on {kind}"
        assert not [path for path in after if path not in before and not path.startswith("out/")]
        return f"refused ({code})"
    assert code == 0, f"{writer} on {kind}"
    assert not others or (kind in may["overwrite"] and form == "file")
    return "replaced" if gone and form != "cache" else "written"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer(ground, tmp_path, writer, kind):
    for overwrite in (False, True):
        outcome(ground, tmp_path / str(overwrite), writer, kind, overwrite)


# Places in what is read, or in a result, and beside a result

INSIDE = {
    "cook, in a dataset": "-d set -t llama3 -s source -o source/set -q",
    "cook, in its shards": "-d set -t llama3 -s source -o source/set/shard/deep -q",
    "cook, in its source": "-d set -t llama3 -s source -o source -q",
    "cook, in a result": "-d set -t llama3 -s source -o made/cooked/set/deep/deeper -q",
    "corpus, in a dataset": "corpus source --to source/set/new",
    "mix, in a result": "mix made/cooked --to made/cooked/set/mix",
    "mix, over what is mixed": "mix made/cooked --to made/cooked/set --overwrite",
    "export, over what is exported": "export made/cooked/set --for trl --to made/cooked/set --overwrite",
    "export, in a result": "export made/cooked/set --for trl --to made/mix/new/deep",
    "parse, over the answers": "parse answers.jsonl --prompts made/prompts.jsonl --to answers.jsonl --overwrite",
    "parse, beside the prompts": "parse answers.jsonl --prompts made/prompts.jsonl --to made/prompts.jsonl.cook/x",
    "prompts, over the texts": "prompts raw.jsonl --to raw.jsonl -t llama3 --overwrite",
    "prompts, over what are prompts": "prompts made/prompts.jsonl --to made/prompts.jsonl -t llama3 --overwrite",
    "prompts, in a folder of texts": "prompts texts --to texts/new.jsonl -t llama3",
    "prompts, in a result": "prompts raw.jsonl --to made/cooked/set/new.jsonl -t llama3",
    "report, over a manifest": "report made/cooked --to made/cooked/set/cook.json --samples 0 --overwrite",
    "report, in a result": "report made/cooked --to made/parsed/shard/page.html --samples 0 --overwrite",
    "report, over a card": "report made/cooked --to made/cooked/README.md --samples 0 --overwrite",
    "report, over a shard": "report made/cooked --to source/set/shard/00000.jsonl --samples 0 --overwrite",
    "report, over prompts": "report made/cooked --to made/prompts.jsonl --samples 0 --overwrite",
}


@pytest.mark.parametrize("what", INSIDE)
def test_nothing_goes_into_or_over_what_is_read_or_made(ground, tmp_path, what):
    base = tmp_path / "base"
    shutil.copytree(ground, base)
    (base / "texts").mkdir()
    shutil.copyfile(base / "raw.jsonl", base / "texts/raw.jsonl")
    before = state(base)
    assert run(base, INSIDE[what]) in (1, 2, 5)
    assert state(base) == before


COOK = "-d set -t llama3 -s source -o {root} --no-cache -q"


@pytest.mark.parametrize("killed", ["set", "set.old", ".card.lock", "set.lock"])
def test_a_folder_called_as_cooks_work_is_a_strangers(ground, tmp_path, killed):
    base = tmp_path / "base"
    shutil.copytree(ground, base)
    work = base / "root/.cook"
    (work / killed).parent.mkdir(parents=True)
    if killed.endswith("lock"):
        stranger(work / killed)
    else:
        (work / killed).mkdir()
        stranger(work / killed / "mine")
    for name in ("other.lock", "README.md", ".README.md.tmp"):
        if not (work / name).exists():
            stranger(work / name)
    before = state(work)
    assert run(base, COOK.format(root="root")) == (0 if killed == "set.old" else 1)
    assert {name: data for name, data in state(work).items() if data == b"my only copy"} == before


@pytest.mark.parametrize("dangles", [False, True])
def test_a_link_called_as_cooks_work_is_not_followed(ground, tmp_path, dangles):
    base = tmp_path / "base"
    shutil.copytree(ground, base)
    (base / "root").mkdir()
    (base / "strangers").mkdir()
    (base / "root/.cook").symlink_to(base / ("nowhere" if dangles else "strangers"))
    for name in ("other.lock", "README.md", "set"):
        stranger(base / "strangers" / name)
    before = state(base)
    assert run(base, COOK.format(root="root")) == 1
    assert state(base) == before


@pytest.mark.parametrize(
    "kind", ["a file", "a link to a file", "a link to a card", "a dangling link", "a folder", "a pipe"]
)
def test_a_card_that_is_not_cooks_is_left(ground, tmp_path, kind):
    base = tmp_path / "base"
    shutil.copytree(ground, base)
    (base / "root").mkdir()
    card = base / "root/README.md"
    if kind == "a link to a card":
        card.symlink_to(base / "made/cooked/README.md")
    else:
        KINDS[kind](card, base, "")
    before = state(base)
    with pytest.warns(CardWarning, match="cook did not write it"):
        cook.run(Recipe(datasets="set", tokenizer="llama3", source=base / "source", output=base / "root", cache="none"))
    assert before == {name: state(base)[name] for name in before}
