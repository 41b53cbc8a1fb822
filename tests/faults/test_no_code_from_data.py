"""Nothing that cook reads can have it run code: no recipe, template, cache file or tokenizer folder."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import zlib
from pathlib import Path

import pytest

import cook
from conftest import entry, pair, write_shard
from cook.core.errors import RecipeError
from cook.core.recipe import Recipe, read_config
from cook.encode import spool
from cook.shapes.formatter import Formatter
from cook.tokenizer.loading import load_engine, resolve_tokenizer

SOURCE = Path(cook.__file__).parent


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self):
        return Path.touch, (self.sprung,)


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))  # noqa: S301 - our own
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "text",
    [
        "datasets: !!python/object/apply:os.system ['touch {sprung}']",
        "!!python/object/apply:os.system ['touch {sprung}']",
        "datasets: !!python/object/new:os.system ['touch {sprung}']",
        "seed: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{sprung}']]",
        "seed: !!python/name:os.system",
        "seed: !!python/module:this",
        "seed: !!python/tuple [1]",
    ],
)
def test_a_recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text.format(sprung=tmp_path / "sprung"))
    with pytest.raises(RecipeError, match="could not determine a constructor"):
        read_config(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "wanted",
    [
        "{question.__class__}",
        "{answer.__init__.__globals__}",
        "{0.__class__}",
        "{0}{1}{2}",
        "{context.__class__}",
        "{question!r}",
        "{answer:>999999999}",
        "{question[0]}",
        "{}",
        "{{question.__class__}}",
        "%s %(question)s $question ${0}",
    ],
)
def test_a_template_substitutes_its_fields_and_nothing_else(wanted):
    recipe = Recipe(
        datasets="x",
        tokenizer="llama3",
        context_template=f"{wanted}|{{context}}|{wanted}",
        pair_template=f"{wanted}|{{answer}}|{{question}}|{wanted}",
        delimiter=wanted,
    )
    made = Formatter(recipe)
    assert made.input_text("C") == f"{wanted}|C|{wanted}{wanted}"
    assert made.output_text([("Q", "A")]) == f"{wanted}|A|Q|{wanted}"
    made = Formatter(Recipe(datasets="x", tokenizer="llama3"))  # and in the data
    assert made.input_text(wanted) == f" <CON> {wanted} </CON>\n\n"
    assert made.output_text([(wanted, wanted)]) == f"<QUE> {wanted} <ANS> {wanted} </END>"


def test_a_cache_file_that_is_a_pickle(tmp_path):
    write_shard(tmp_path, "set", [entry()])
    made = Recipe(
        datasets="set",
        tokenizer="llama2",
        source=str(tmp_path),
        output=str(tmp_path / "out"),
        cache=str(tmp_path / "cache"),
        jobs=1,
    )
    cook.run(made)
    (path,) = (tmp_path / "cache").rglob("*.index")
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    for data in (trap, trap + zlib.crc32(trap).to_bytes(4, "little")):  # the second is whole, as an index is
        path.write_bytes(data)
        assert spool.load(str(path.with_suffix(""))) is None
    again = cook.run(Recipe(**{**made.as_dict(), "output": str(tmp_path / "other")}))
    assert again.results[0].counts["examples"] == 1
    assert not (tmp_path / "sprung").exists()


def test_a_tokenizer_folder_with_code(models, tmp_path):
    """What transformers would run under trust_remote_code lies in the folder, and is not looked at."""
    folder = shutil.copytree(models["llama2"], tmp_path / "model")
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'sprung')!r}).touch()\n"
    for name in ("tokenization_mine.py", "__init__.py", "configuration_mine.py", "sitecustomize.py"):
        (folder / name).write_text(code)
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    config["auto_map"] = {"AutoTokenizer": ["tokenization_mine.Mine", "tokenization_mine.Mine"]}
    config["tokenizer_class"] = "Mine"
    config["chat_template"] = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"add_bos_token": True}))
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoConfig": "configuration_mine.Mine"}}))
    (folder / "added_tokens.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    write_shard(tmp_path / "in", "set", [entry("c", pair("q", "a"))])
    for engine in ("splintr", "hf"):
        made = Recipe(
            datasets="set",
            tokenizer=str(folder),
            source=str(tmp_path / "in"),
            output=str(tmp_path / engine),
            engine=engine,
            jobs=1,
        )
        assert load_engine(resolve_tokenizer(made)).name == engine
        assert cook.run(made).results[0].counts["examples"] == 1
    assert not (tmp_path / "sprung").exists()


CALLS = {"eval", "exec", "compile", "__import__"}  # as plain names; re.compile is another
ATTRIBUTES = {
    "system", "popen", "unpack_archive", "extractall", "unsafe_load", "full_load", "load_all",
    "read_pickle", "format_map",
    "from_pretrained", "run_path", "run_module",
}  # fmt: skip
MODULES = {"pickle", "cPickle", "shelve", "marshal", "dill", "joblib", "torch", "subprocess", "tarfile", "transformers"}
# Where one of these is right: (file, what), and why.
KNOWN = {
    ("tokenizer/presets.py", "from_pretrained"),  # splintr's own vocabularies, which lie in its package
}


def test_the_source_has_no_way_to():
    """No call that runs what it is given stands in the package: a new one is to be thought about here."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                found |= {(name, module) for module in modules if module.split(".")[0] in MODULES}
            elif isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                    found.add((name, node.func.id))
                elif isinstance(node.func, ast.Attribute) and node.func.attr in ATTRIBUTES:
                    found.add((name, node.func.attr))
                for keyword in node.keywords:
                    if keyword.arg == "trust_remote_code":
                        found.add((name, keyword.arg))
                    if keyword.arg in ("allow_pickle", "shell") and getattr(keyword.value, "value", None) is not False:
                        found.add((name, keyword.arg))
                if ast.unparse(node.func) in ("np.load", "numpy.load"):
                    assert any(keyword.arg == "allow_pickle" for keyword in node.keywords), name
                if ast.unparse(node.func) == "yaml.load":
                    assert ast.unparse(node.args[1]) == "Loader", name  # of SafeLoader: see test_a_recipe
    assert found == KNOWN
