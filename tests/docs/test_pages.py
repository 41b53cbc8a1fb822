"""The pages say what is so: their commands run as they stand there, and options, recipes, errors and links exist.

The blocks of a page run in order, in a folder of its own, with the real tools and a Hub on the loopback; CI runs those
two of the README that install. What they leave there is then looked at, and git must ignore all of it.
"""

import dataclasses
import importlib.resources
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import click
import orjson
import pyarrow.parquet as pq
import pytest
import yaml

import cook as package
from cook import read_config
from cook.cli.app import main
from cook.core import errors
from reference import write_model
from servers.hub_server import HubServer

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

BLOCK = re.compile(
    r'^(?:<!-- (run by CI|needs \w+|not run: [^\n]+) -->\n)?```(\w*)(?: title="([^"\n]+)")?\n(.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
SHOWN = ("text", "json", "mermaid")  # blocks that nobody runs
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
LONG_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OTHER_TOOLS = re.compile(  # a command of theirs, with its flags
    r"(?:\b(?:hf|pip|make|pytest|python|openssl|dask|vllm)|\.ci/run)\b[^\n&|;]*"
)

COLLECTION = "instruction-pretrain/ft-instruction-synthesizer-collection"
MODEL = "Qwen/Qwen3-0.6B-Base"
UPLOADED = "my-name/cooked-squad"


class Block(NamedTuple):
    """A fenced block. mark: the comment before it; title: its file; place: page and line of its first line."""

    mark: str
    language: str
    title: str
    text: str
    place: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = [
        Block(
            block[1] or "",
            block[2],
            block[3] or "",
            block[4],
            f"{page.name}:{text.count(chr(10), 0, block.start(4)) + 1}",
        )
        for block in BLOCK.finditer(text)
    ]
    assert text.count("```") == 2 * len(found), f"{page.name}: a block opens or closes in a way that no test knows"
    return found


def is_run(block: Block) -> bool:
    return block.language not in SHOWN and (not block.mark or block.mark.startswith("needs "))


OTHER_TESTS = {"cluster.md", "paper.md"}  # tests/executors/test_dask.py, test_paper_page.py
RUN = [page for page in PAGES if page.name not in OTHER_TESTS and any(map(is_run, blocks(page)))]


@dataclasses.dataclass(frozen=True)
class Reader:
    """Someone who types what a page says, in one folder, and has a token for uploads."""

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
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{place}: exit code {done.returncode} of {command}\n{done.stdout}{done.stderr}"
        return done

    def shell(self, text: str, place: str, **more: str) -> str:
        return self.run("bash", "-euo", "pipefail", "-c", text, place=place, **more).stdout

    def follow(self, block: Block) -> None:
        """Run a block, or write the file that it is."""
        needs = block.mark.removeprefix("needs ")
        if not is_run(block) or (needs and importlib.util.find_spec(needs) is None):
            return
        if block.title:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            token = {"HF_TOKEN": "hf_dummy"} if "hf upload " in block.text else {}
            self.shell(block.text, block.place, **token)
        elif block.language == "python":
            printed = self.run(sys.executable, "-c", block.text, place=block.place).stdout
            assert printed, f"{block.place}: printed nothing"
        else:
            raise AssertionError(f"{block.place}: a block of {block.language or 'no language'}, which no test runs")


def tiny_weights(folder: Path) -> None:
    """A model with random weights, and all of the preset's ids, beside a tokenizer."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    config = Qwen3Config(vocab_size=151_936, hidden_size=16, intermediate_size=16, tie_word_embeddings=True, **settings)
    Qwen3ForCausalLM(config).save_pretrained(folder)


def hub_files(folder: Path, with_weights: bool) -> dict[str, bytes]:
    """What the model's repository on the Hub holds."""
    write_model(folder, "qwen3")
    if with_weights:
        tiny_weights(folder)
        config = orjson.loads((folder / "tokenizer_config.json").read_bytes())
        config |= {"tokenizer_class": "Qwen2TokenizerFast", "eos_token": "<|endoftext|>"}
        (folder / "tokenizer_config.json").write_bytes(orjson.dumps(config))
    return {"model.safetensors": b"weights"} | {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Reader]]:
    """By page, someone who has followed all of it, in a checkout of their own."""
    sample = importlib.resources.files("cook") / "sample"
    shards = [(name, shard) for name in ("squad", "race") for shard in (sample / name / "shard").iterdir()]
    collection = {f"{name}/shard/{shard.name}": shard.read_bytes() for name, shard in shards}
    readers: dict[tuple[Path, bool], Reader] = {}
    with ExitStack() as stack:

        def follow(page: Path, trains: bool = False) -> Reader:
            if (page, trains) in readers:
                return readers[page, trains]
            work = tmp_path_factory.mktemp(page.stem)
            checkout, home = work / "checkout", work / "home"
            folder = checkout if page == README else checkout / "try" / page.stem
            folder.mkdir(parents=True)
            shutil.copytree(ROOT / "configs", checkout / "configs")
            shutil.copy(ROOT / ".gitignore", checkout)
            found = [block for block in blocks(page) if (block.mark == "needs trl") == trains]
            hub = stack.enter_context(HubServer())
            hub.add(MODEL, hub_files(work / "model", trains))
            hub.add(COLLECTION, collection | {"README.md": b"# The collection\n"}, kind="dataset")
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            cache = str(tmp_path_factory.getbasetemp() / "cook-cache")
            environment = hub.environment(home, PATH=path, HOME=str(home), COOK_CACHE=cache)
            home.mkdir(exist_ok=True)
            reader = Reader(folder, hub, environment)
            if trains:
                (folder / "cooked").mkdir()
            readers[page, trains] = reader  # also where a block fails: its test says so once
            for block in found:
                reader.follow(block)
            return reader

        yield follow


@pytest.fixture
def reader(followed: Callable[[Path], Reader]) -> Reader:
    """Someone who has followed the whole README."""
    return followed(README)


def outputs(reader: Reader) -> dict[str, dict]:
    """The manifests of what lies in a reader's `cooked`, by folder."""
    root = reader.folder / "cooked"
    return {
        str(path.parent.relative_to(root)): orjson.loads(path.read_bytes())
        for path in root.rglob("cook.json")
        if "kept" not in path.parts
    }


@pytest.mark.parametrize("page", RUN, ids=lambda path: path.name)
def test_a_page_runs_as_it_stands_and_git_sees_nothing_new(followed, page):
    reader = followed(page)
    checkout = reader.folder if page == README else reader.folder.parents[1]
    for command in ("git init -q", "git add .gitignore configs", "git commit -qm all", "git status --porcelain"):
        name = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a"}
        printed = subprocess.run(
            shlex.split(command), cwd=checkout, env=os.environ | name, capture_output=True, text=True, check=True
        ).stdout
    assert printed == "", f"{page.name} leaves what git sees"


@pytest.mark.many
@pytest.mark.parametrize("page", [README, ROOT / "docs" / "train-trl.md"], ids=lambda path: path.name)
def test_a_training_script_trains(followed, page):
    pytest.importorskip("trl")
    folder = followed(page, trains=True).folder
    assert (folder / "cooked" / "qwen3" / "squad" / "cook.json").exists()


@pytest.mark.parametrize("page", [page for page in RUN if page != README], ids=lambda path: path.name)
def test_a_page_names_the_folder_that_it_works_in(page):
    if any(block.language == "sh" and not block.mark.startswith("not run") for block in blocks(page)):
        assert f"`mkdir -p try/{page.stem} && cd try/{page.stem}`" in page.read_text("utf-8")


def test_what_the_readme_leaves(reader):
    made = outputs(reader)
    expected = {"llama3/squad", "mine/manuals", "qwen3-axolotl/squad", "published/squad"}
    assert set(made) == expected
    assert made["published/squad"]["recipe"]["packing"] == "in-order"
    exported = orjson.loads((reader.folder / "exports" / "axolotl" / "cook.json").read_bytes())
    assert exported["export"]["target"] == "axolotl"
    assert len(CONFIGS) == 2, "docs/recipes.md says that configs/ has two"


def test_what_the_readme_prints_and_lists_is_so(reader):
    """But the time, which is another."""
    [first] = [
        block
        for block in blocks(README)
        if block.text.startswith("cook --dataset squad") and block.text.count("\n") == 1
    ]
    again = first.text.rstrip("\n") + " --output cooked/printed --no-cache 2>&1"
    columns = [re.split(r" {2,}", line.strip()) for line in reader.shell(again, first.place).splitlines()]
    text = README.read_text("utf-8")
    shown = [re.split(r" {2,}", line.strip()) for line in re.findall(r"^    (.+)$", text, re.MULTILINE)]
    shutil.rmtree(reader.folder / "cooked" / "printed")
    head, row = (next(line for line in columns if line[0] == name) for name in ("dataset", "squad"))
    assert [head, row[:-1]] == [shown[0], shown[2][:-1]]
    listed = {line[0] for line in shown[3:]} - {"cooked/llama3/", "squad/"}
    lying = {path.name for path in (reader.folder / "cooked" / "llama3").rglob("*") if path.is_file()}
    assert listed == lying


def test_the_readme_is_short():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 150
    prose = re.sub(r"^(\|| {4}|#|!\[|<!--).*$", "", BLOCK.sub("", text), flags=re.MULTILINE)
    sentences = re.split(r"(?<=[.?!:])\s|\n\n|\n- ", re.sub(r"\]\([^)]*\)", "]", prose))
    assert [each for each in sentences if len(each.split()) > 25] == []


def test_what_the_pages_leave(followed):
    def page(name):
        return outputs(followed(ROOT / "docs" / f"{name}.md"))

    made = page("own-data")
    assert set(made) == {"mine/manuals", "mine/oil", "skip/manuals"}
    made = page("tokenizers")
    assert set(made) == {"Qwen--Qwen3-0.6B-Base/squad", "model/squad"}
    assert made["model/squad"]["tokenizer"]["eos"] == "<|im_end|>"
    made = page("validation")
    assert {output["split"] for output in made["split/race"]["outputs"]} == {"train", "validation"}
    assert {output["split"] for output in made["named/manuals"]["outputs"]} == {"train", "test"}
    made = page("recipes")
    assert made["recipe/race"]["recipe"]["max_length"] == 1024, "the flag did not win over recipe.yaml"
    assert made["recipe/race"]["recipe"]["packing"] == "in-order"
    assert page("mixing")["mixed"]["mix"]["weights"] == {"race": 0.5, "squad": 2.0}
    assert set(page("hub")) == {"collection/squad", "collection/race", "offline/race", "real/squad"}
    assert set(page("make")) == {"make/squad", "make/race"}


def test_axolotls_settings_are_those_of_the_export(followed):
    reader = followed(ROOT / "docs" / "train-axolotl.md")
    use = (reader.folder / "exports" / "axolotl" / "USE.md").read_text("utf-8")
    [told] = re.findall(r"```yaml\n(.*?)```", use, re.DOTALL)
    told = yaml.safe_load(told.replace("THIS FOLDER", "exports/axolotl"))
    for page in (README, ROOT / "docs" / "train-axolotl.md"):
        [given] = [yaml.safe_load(block.text) for block in blocks(page) if block.language == "yaml"]
        assert told.items() <= given.items()
        assert given["flash_attention"]


def test_the_page_on_corpora_runs_as_it_stands(followed):
    folder = followed(ROOT / "docs" / "corpus.md").folder
    made = {
        path.parent.parent.name: orjson.loads(path.read_bytes()) for path in folder.glob("corpora/*/squad/cook.json")
    }
    assert set(made) == {"text", "table", "wrapped", "mine", "python"}
    assert made["mine"]["recipe"] == made["python"]["recipe"]
    assert made["mine"]["recipe"]["weights"]["several"]["dialogue"] == 25
    assert made["wrapped"]["counts"]["texts"] == made["text"]["counts"]["texts"]


@pytest.mark.parametrize("name", ["errors", "recipe", "python"])
def test_the_reference_has_all(name):
    text = (ROOT / "docs" / f"{name}.md").read_text("utf-8")
    if name == "errors":
        rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE))
        kinds = [
            each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.CookError)
        ]
        codes = {each.__name__: str(each.exit_code) for each in kinds}
        assert rows == codes | {"SeveralFailed": "highest"}
    elif name == "recipe":
        rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+)`? \|", text, re.MULTILINE))
        assert list(rows) == [field.name for field in dataclasses.fields(package.Recipe)]
        for field in dataclasses.fields(package.Recipe):
            default = "null" if field.default is None else field.default
            default = str(default).lower() if isinstance(default, bool) else default
            if default is not dataclasses.MISSING and field.name not in ("fields", "delimiter"):
                assert rows[field.name].strip().strip('"') == str(default), field.name
    else:
        named = set(re.findall(r"^::: cook\.(\w+)$", text, re.MULTILINE))
        assert named == set(package.__all__) - {"__version__"}


def test_only_what_is_needed_is_fetched(followed):
    """A collection's shards and no card, a model's tokenizer and no weights."""
    fetched = [
        found[0]
        for name in ("hub", "tokenizers")
        for request in followed(ROOT / "docs" / f"{name}.md").hub.requests
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


def test_the_page_on_views_prints_what_it_says(followed):
    """Its first block ends with what is printed below it."""
    page = ROOT / "docs" / "views.md"
    reader = followed(page)
    first = next(block for block in blocks(page) if block.language == "sh")
    printed = "".join(f"    {line}\n" for line in reader.shell("cook show cooked/manuals", first.place).splitlines())
    assert printed in page.read_text("utf-8")
    if importlib.util.find_spec("jinja2"):
        assert "<title>seen: " in (reader.folder / "report.html").read_text("utf-8")


def test_make_does_nothing_for_what_is_there(followed):
    reader = followed(ROOT / "docs" / "make.md")
    manifests = [reader.folder / "cooked" / "make" / name / "cook.json" for name in ("squad", "race")]
    before = [path.stat().st_mtime_ns for path in manifests]
    assert "Nothing to be done" in reader.shell("make -j2", "make.md, the Makefile again", LC_ALL="C")
    assert [path.stat().st_mtime_ns for path in manifests] == before


def test_an_uploaded_root_is_a_dataset_repository(followed):
    reader = followed(ROOT / "docs" / "sharing.md")
    root = reader.folder / "cooked" / "llama3"
    uploaded = reader.hub.files(UPLOADED, kind="dataset")
    assert {"README.md", "squad/cook.json", "squad/train-00000-of-00001.parquet"} <= set(uploaded)
    assert uploaded == {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    code = f"from datasets import load_dataset; print(len(load_dataset({UPLOADED!r}, 'squad', split='train')))"
    rows = pq.read_metadata(root / "squad" / "train-00000-of-00001.parquet").num_rows
    assert int(reader.run(sys.executable, "-c", code, place="load_dataset").stdout) == rows > 0


def test_the_completion_is_a_script(followed):
    reader = followed(ROOT / "docs" / "troubleshooting.md")
    [script] = [
        path
        for path in Path(reader.environment["HOME"]).rglob("*cook*")
        if path.is_file() and "COOK_COMPLETE" in path.read_text()
    ]
    assert "complete " in script.read_text()
    reader.run("bash", "-n", str(script), place="completion")


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
        shown = told[heading] + (told["cook help cluster"] if heading == "cook" else "")
        missing = options(command) - set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", shown))
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
    assert mentioned or page.name not in ("README.md", "cli.md"), "no flag was found, so this test sees nothing"


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
