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

import orjson
import pyarrow.parquet as pq
import pytest

from cook import read_config
from cook.cli import main
from hub_server import HubServer
from reference import write_model

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

BLOCK = re.compile(r"^(<!-- run by CI -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
LONG_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OTHER_TOOLS = re.compile(r"\b(?:hf|pip|make|mkdir)\b[^\n&|;]*")  # a command of theirs, with its flags

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
    return [
        Block(bool(mark), language, body, f"{page.name}:{text.count(chr(10), 0, found.start(3)) + 1}")
        for found in BLOCK.finditer(text)
        for mark, language, body in [found.groups()]
    ]


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
        if block.language == "sh":
            token = {"HF_TOKEN": "hf_dummy"} if block.text.startswith("hf upload ") else {}
            self.shell(block.text, block.place, **token)
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
    shards = {f"{name}/shard/{shard.name}": shard.read_bytes()
              for name in ("squad", "race") for shard in (sample / name / "shard").iterdir()}  # fmt: skip
    with HubServer() as hub:
        hub.add(MODEL, {path.name: path.read_bytes() for path in own.iterdir()} | {"model.safetensors": b"weights"})
        hub.add(COLLECTION, shards | {"README.md": b"# The collection\n"}, kind="dataset")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        cache = str(tmp_path_factory.getbasetemp() / "cook-cache")
        reader = Reader(folder, hub, hub.environment(folder / "home", PATH=path, COOK_CACHE=cache))
        for block in blocks(README):
            if not block.by_ci:
                reader.follow(block)
        yield reader


def test_the_readme_runs_as_it_stands(reader):
    roots = {str(path.parent.relative_to(reader.folder / "cooked")) for path in reader.folder.rglob("cook.json")}
    assert roots == {
        "llama3/squad",
        "llama3/manuals",
        "real/squad",
        "Qwen--Qwen3-0.6B-Base/squad",
        "model/squad",
        "recipe/squad",
        "recipe/race",
        "python/squad",
        "make/squad",
        "make/race",
    }
    made = {root: orjson.loads((reader.folder / "cooked" / root / "cook.json").read_bytes()) for root in roots}
    assert made["recipe/race"]["recipe"]["max_length"] == 1024, "the flag did not win over recipe.yaml"
    assert made["recipe/race"]["recipe"]["packing"] == "in-order"
    assert made["model/squad"]["tokenizer"]["eos"] == "<|im_end|>"


def test_only_what_is_needed_is_fetched(reader):
    """`--include "squad/*"` leaves the other data sets, and a Hub id costs no weights."""
    fetched = {found[0] for request in reader.hub.requests if (found := re.search(r"(?<=/)[^/]+/[^/]+/resolve/.*", request.path))}
    raise SystemExit(fetched)
