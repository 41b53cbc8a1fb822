"""The pages say what is so: the README's commands run as they stand there, and options, recipes and links exist.

The README's blocks run in order in one folder, with the real tools and a Hub on the loopback; CI runs those two that
install. What they leave there is then looked at.
"""

import dataclasses
import importlib.resources
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import orjson
import pyarrow.parquet as pq
import pytest

from cook import read_config
from cook.cli.app import main
from reference import write_model
from servers.hub_server import HubServer

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

BLOCK = re.compile(r"^(<!-- run by CI -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
LONG_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OTHER_TOOLS = re.compile(  # a command of theirs, with its flags
    r"(?:\b(?:hf|pip|make|pytest|python|openssl|dask|vllm)|\.ci/run)\b[^\n&|;]*"
)

COLLECTION = "instruction-pretrain/ft-instruction-synthesizer-collection"
MODEL = "Qwen/Qwen3-0.6B-Base"
UPLOADED = "my-name/cooked-squad"


class Block(NamedTuple):
    """A fenced block; place: page and line of its first line."""

    by_ci: bool
    language: str
    text: str
    place: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(bool(block[1]), block[2], block[3], f"{page.name}:{text.count(chr(10), 0, block.start(3)) + 1}")
        for block in BLOCK.finditer(text)
    ]
    assert text.count("```") == 2 * len(found), f"{page.name}: a block opens or closes in a way that no test knows"
    return found


@dataclasses.dataclass(frozen=True)
class Reader:
    """Someone who types what the README says, in one folder, and has a token for uploads."""

    folder: Path
    hub: HubServer
    environment: dict[str, str]

    def run(self, *command: str, place: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | more,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{place}: exit code {done.returncode} of {command}\n{done.stdout}{done.stderr}"
        return done

    def shell(self, text: str, place: str, **more: str) -> str:
        return self.run("bash", "-euo", "pipefail", "-c", text, place=place, **more).stdout

    def follow(self, block: Block) -> None:
        if "cook report" in block.text and importlib.util.find_spec("jinja2") is None:
            return
        if block.language == "sh":
            token = {"HF_TOKEN": "hf_dummy"} if block.text.startswith("hf upload ") else {}
            self.shell(block.text, block.place, **token)
        elif "cook.Collator" in block.text and importlib.util.find_spec("torch") is None:
            return
        elif block.language == "python":
            (self.folder / "script.py").write_text(block.text, encoding="utf-8")
            assert self.run(sys.executable, "script.py", place=block.place).stdout, f"{block.place}: printed nothing"
        elif block.language == "yaml":
            (self.folder / "recipe.yaml").write_text(block.text, encoding="utf-8")
        elif block.language == "make":
            (self.folder / "Makefile").write_text(block.text, encoding="utf-8")
            self.shell("make -j2", block.place)
        else:
            raise AssertionError(f"{block.place}: a block of {block.language or 'no language'}, which no test runs")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Someone who has followed the whole README."""
    folder = tmp_path_factory.mktemp("reader")
    own = write_model(folder / "my" / "model", "qwen3")
    sample = importlib.resources.files("cook") / "sample"
    shards = [(name, shard) for name in ("squad", "race") for shard in (sample / name / "shard").iterdir()]
    collection = {f"{name}/shard/{shard.name}": shard.read_bytes() for name, shard in shards}
    with HubServer() as hub:
        hub.add(MODEL, {path.name: path.read_bytes() for path in own.iterdir()} | {"model.safetensors": b"weights"})
        hub.add(COLLECTION, collection | {"README.md": b"# The collection\n"}, kind="dataset")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        cache = str(tmp_path_factory.getbasetemp() / "cook-cache")
        reader = Reader(
            folder, hub, hub.environment(folder / "home", PATH=path, HOME=str(folder / "home"), COOK_CACHE=cache)
        )
        for block in blocks(README):
            if not block.by_ci:
                reader.follow(block)
        yield reader


def test_the_readme_runs_as_it_stands(reader):
    roots = {
        str(path.parent.relative_to(reader.folder / "cooked")) for path in (reader.folder / "cooked").rglob("cook.json")
    }
    assert roots == {
        "llama3/squad",
        "collection/squad",
        "collection/race",
        "offline/race",
        "mine/manuals",
        "mine/oil",
        "split/race",
        "real/squad",
        "Qwen--Qwen3-0.6B-Base/squad",
        "model/squad",
        "recipe/squad",
        "recipe/race",
        "python/squad",
        "again/squad",
        "make/squad",
        "make/race",
        "mixed",
    }
    made = {root: orjson.loads((reader.folder / "cooked" / root / "cook.json").read_bytes()) for root in roots}
    assert made["recipe/race"]["recipe"]["max_length"] == 1024, "the flag did not win over recipe.yaml"
    assert made["recipe/race"]["recipe"]["packing"] == "in-order"
    assert made["model/squad"]["tokenizer"]["eos"] == "<|im_end|>"
    assert {output["split"] for output in made["split/race"]["outputs"]} == {"train", "validation"}
    assert made["mixed"]["mix"]["weights"] == {"race": 0.5, "squad": 2.0}
    for name, target in (("trl", "trl"), ("hf", "hf"), ("text", "jsonl")):
        exported = orjson.loads((reader.folder / "exports" / name / "cook.json").read_bytes())
        assert exported["export"]["target"] == target
    if importlib.util.find_spec("jinja2"):
        assert "<title>recipe: what was cooked</title>" in (reader.folder / "report.html").read_text("utf-8")
    assert len(CONFIGS) == 2, "the README says that configs/ has two"


def test_the_page_on_corpora_runs_as_it_stands(reader, tmp_path):
    another = dataclasses.replace(reader, folder=tmp_path)
    for block in blocks(ROOT / "docs" / "corpus.md"):
        if block.language == "yaml":
            (tmp_path / "mine.yaml").write_text(block.text, encoding="utf-8")
        else:
            another.follow(block)
    made = {
        path.parent.parent.name: orjson.loads(path.read_bytes()) for path in tmp_path.glob("corpora/*/squad/cook.json")
    }
    assert set(made) == {"text", "table", "wrapped", "mine", "python"}
    assert made["mine"]["recipe"] == made["python"]["recipe"]
    assert made["mine"]["recipe"]["weights"]["several"]["dialogue"] == 25
    assert made["wrapped"]["counts"]["texts"] == made["text"]["counts"]["texts"]


def test_only_what_is_needed_is_fetched(reader):
    """A collection's shards and no card, a model's tokenizer and no weights."""
    fetched = [
        found[0]
        for request in reader.hub.requests
        if (found := re.search(rf"({COLLECTION}|{MODEL})/resolve/.+", request.path))
    ]
    assert {re.sub(r"/resolve/[^/]+", "", path) for path in fetched} == {
        f"{COLLECTION}/squad/shard/00000.jsonl",
        f"{COLLECTION}/squad/shard/00001.jsonl",
        f"{COLLECTION}/race/shard/00000.jsonl",
        f"{COLLECTION}/race/shard/00001.jsonl",
        f"{MODEL}/tokenizer.json",
        f"{MODEL}/tokenizer_config.json",
        f"{MODEL}/special_tokens_map.json",
        f"{MODEL}/chat_template.jinja",
    }


def test_the_page_on_views_runs_and_prints_what_it_says(reader):
    """Its first block ends with what is printed below it."""
    page = ROOT / "docs" / "views.md"
    [first, *others] = [block for block in blocks(page) if block.language == "sh"]
    printed = "".join(f"    {line}\n" for line in reader.shell(first.text, first.place).splitlines())
    assert printed in page.read_text("utf-8")
    for block in others:
        reader.follow(block)


def test_make_does_nothing_for_what_is_there(reader):
    manifests = [reader.folder / "cooked" / "make" / name / "cook.json" for name in ("squad", "race")]
    before = [path.stat().st_mtime_ns for path in manifests]
    assert "Nothing to be done" in reader.shell("make -j2", "README.md, the Makefile again", LC_ALL="C")
    assert [path.stat().st_mtime_ns for path in manifests] == before


def test_an_uploaded_root_is_a_dataset_repository(reader):
    root = reader.folder / "cooked" / "llama3"
    uploaded = reader.hub.files(UPLOADED, kind="dataset")
    assert {"README.md", "squad/cook.json", "squad/train-00000-of-00001.parquet"} <= set(uploaded)
    assert uploaded == {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    code = f"from datasets import load_dataset; print(len(load_dataset({UPLOADED!r}, 'squad', split='train')))"
    rows = pq.read_metadata(root / "squad" / "train-00000-of-00001.parquet").num_rows
    assert int(reader.run(sys.executable, "-c", code, place="load_dataset").stdout) == rows > 0


def test_the_completion_is_a_script(reader):
    assert "complete " in (reader.folder / "home" / ".cook-complete.bash").read_text()
    reader.run("bash", "-n", "home/.cook-complete.bash", place=".cook-complete.bash")


def test_the_cli_page_is_renewed():
    spec = importlib.util.spec_from_file_location("renew", ROOT / "scripts" / "renew.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == script.cli_page(), "docs/cli.md is old: run `python scripts/renew.py cli`"


COMMANDS = (
    "init",
    "list",
    "mix",
    "export",
    "verify",
    "diff",
    "fingerprint",
    "show",
    "report",
    "prompts",
    "parse",
    "corpus",
)


def options(command):
    """Every name of every option, --help included."""
    params = command.get_params(click.Context(command))
    return {name for param in params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")}


def test_every_option_is_on_the_cli_page():
    sections = re.split(r"^## ", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {heading: body for heading, _, body in (section.partition("\n") for section in sections)}
    for heading, command in (
        ("cook", main),
        *((f"cook {name}", main.get_command(None, name)) for name in COMMANDS),
    ):
        missing = options(command) - set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", told[heading]))
        assert not missing, f"docs/cli.md: {heading}: lacks {missing}"


def code_of(page):
    """The code of a page: its fenced blocks and spans, or a recipe's comments."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        return "\n".join(re.findall(r"#.*", text))
    spans = re.findall(r"`([^`]+)`", BLOCK.sub("", text))
    return "\n".join([*(block.text for block in blocks(page)), *spans])


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=lambda path: path.name)
def test_every_flag_that_a_page_mentions_exists(page):
    mentioned = set(LONG_FLAG.findall(OTHER_TOOLS.sub("", code_of(page))))
    commands = [main.get_command(None, name) for name in main.list_commands(None)]
    unknown = mentioned - options(main).union(*map(options, commands))
    assert not unknown, f"{page.name}: cook has no {', '.join(sorted(unknown))}"
    assert mentioned or page.name == "licences.md", "no flag was found, so this test sees nothing"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_a_recipe_to_start_from_runs_by_its_comment(cook, config):
    assert read_config(config)
    [command] = re.findall(r"^# cook (.+)", config.read_text(encoding="utf-8"), re.MULTILINE)
    arguments = shlex.split(command)
    assert f"configs/{config.name}" in arguments
    done = cook(*(str(config) if argument == f"configs/{config.name}" else argument for argument in arguments))
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_to_a_file(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert links or page != README, "no link was found, so this test sees nothing"
