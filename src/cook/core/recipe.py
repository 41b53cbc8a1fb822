"""The recipe: the complete, frozen configuration of a run, and the YAML file it may come from."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from cook.core import yaml_file
from cook.core.catalog import HUB_COLLECTION
from cook.core.choices import (
    ADDED_TOKENS,
    ENGINES,
    EXECUTORS,
    ON_ERROR_POLICIES,
    OVERLONG_POLICIES,
    PACKING_ALIASES,
    PACKINGS,
    SPLIT_POLICIES,
)
from cook.core.errors import RecipeError, short_repr, suggestion
from cook.core.escapes import is_encodable

Packing = Literal["best-fit", "best-fit-decreasing", "in-order", "none", "wrap"]  # the last for a corpus alone
Overlong = Literal["split", "truncate", "drop", "error"]
OnError = Literal["fail", "skip"]
Splits = Literal["names", "all-train"]
EngineName = Literal["auto", "splintr", "fastokens", "hf"]
ExecutorName = Literal["local", "dask"]
AddedTokens = Literal["text", "tokens"]
CLUSTER_SETTINGS = (
    "scheduler",
    "scheduler_file",
    "tls_ca",
    "tls_cert",
    "tls_key",
)  # settings that go with executor dask
# Settings that change no byte of a result.
NON_OUTPUT_SETTINGS = (
    *("revision", "output", "max_dropped", "max_unknown", "on_error", "follow_links"),
    *("engine", "jobs", "cache", "overwrite", "executor", *CLUSTER_SETTINGS),
)
NO_BOS = ("", "none")  # how a user says that there is no BOS
HUB = "hub"
HUB_SCHEME = "hf://"


class Fields(NamedTuple):
    """The keys of a shard's lines: of the context, of the list of pairs, and in each pair of its two sides."""

    context: str = "context"
    pairs: str = "QA_list"
    question: str = "Q"
    answer: str = "A"


DEFAULT_FIELDS = Fields()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The complete configuration of a run; the same defaults as the command's.

    Raises RecipeError, listing every setting that is wrong, when it is made.
    """

    datasets: tuple[str, ...]
    """Names of datasets, or "all" for every one that the source holds."""
    tokenizer: str
    """Preset, folder, tokenizer.json, or Hub id."""
    source: str = "hub"
    """"hub", hf://datasets/OWNER/NAME[@REVISION], "modelscope", modelscope://datasets/OWNER/NAME[@REVISION], a folder
    laid out DATASET/shard/*.jsonl, or "sample"."""
    revision: str | None = None
    """Branch, tag or commit of a source on the Hub; None: main, as it is now."""
    fields: Fields = DEFAULT_FIELDS
    """The keys of a shard's lines; a mapping of those that differ will do: {"context": "passage"}."""
    follow_links: bool = False
    """Read what symbolic links lead to outside of the source folder."""
    on_error: OnError = "fail"
    """What lines that are not entries do, and files that are not read: fail the dataset, or be left out, recorded."""
    output: str | None = None
    """ROOT, the folder that gets one folder a dataset; None: cooked/ + the tokenizer's name."""
    max_length: int = 4096
    """The most tokens a sequence holds."""
    packing: Packing = "best-fit"
    """How whole examples are joined into sequences; TRL's names bfd and wrapped are read as cook's."""
    overlong: Overlong = "split"
    """What becomes of an example longer than max_length."""
    max_dropped: float = 0.05
    """Largest share (0 to 1) of a dataset's pairs that `split` or `truncate` may lose."""
    max_unknown: float = 0.1
    """Largest share (0 to 1) of a dataset's characters that its tokenizer may lack."""
    seed: int = 0
    """Of the random order that best-fit packs in; 0 to 2**64 - 1."""
    bos: str | None = None
    """Token that opens an input; None: the tokenizer's own; "none": no BOS."""
    eos: str | None = None
    """Token that closes an output; None: the tokenizer's own."""
    added_tokens: AddedTokens = "text"
    """What the strings of added tokens are that look like markers and that nothing names: text, spelt in letters as
    those of control tokens are; or those tokens."""
    context_template: str = " <CON> {context} </CON>"
    """Text of the input, around the context."""
    pair_template: str = "<QUE> {question} <ANS> {answer} </END>"
    """Text of each question-answer pair."""
    delimiter: str = "\n\n"
    """Between the context block and the first pair, and between pairs."""
    validation: float | None = None
    """Entries that go to the split "validation", by a hash of their context: a share below 1, or a whole number of
    them at the most. None: all are for training."""
    splits: Splits = "names"
    """What shards named for a split (train, validation, valid, val, dev, test) are for: that split, or training all."""
    dedup: bool = False
    """Leave out entries whose context and pairs repeat those of an earlier one."""
    limit: int | None = None
    """Read only the first N entries of each dataset."""
    engine: EngineName = "auto"
    """What encodes: the faster exact one for the size of the job, or the one named. All give the same ids."""
    jobs: int | None = None
    """Processes; None: the cores this process may use."""
    cache: str | None = None
    """Folder that keeps tokens between runs; None: COOK_CACHE, else ~/.cache/cook; "none": no cache."""
    overwrite: bool = False
    """Replace a result of another recipe or of other inputs."""
    executor: ExecutorName = "local"
    """Where the work runs: on this machine, or on the workers of a Dask cluster."""
    scheduler: str | None = None
    """Address of the cluster's scheduler, tcp://HOST:PORT or tls://HOST:PORT."""
    scheduler_file: str | None = None
    """The file in which the scheduler was told to put its address."""
    tls_ca: str | None = None
    """For TLS, a PEM file: who signed the cluster's certificates; None: as Dask is configured."""
    tls_cert: str | None = None
    """This client's certificate, a PEM file; None: as Dask is configured."""
    tls_key: str | None = None
    """Its key, a PEM file; None: as Dask is configured."""

    checks: ClassVar[Mapping[str, Callable[[Any], str | None]]] = {}
    """CHECKS, and those of the settings that a recipe of another kind adds."""

    def __post_init__(self) -> None:
        # What YAML and callers naturally pass; from here on the types are as declared.
        if isinstance(self.datasets, str):
            object.__setattr__(self, "datasets", (self.datasets,))
        elif isinstance(self.datasets, list):
            object.__setattr__(self, "datasets", tuple(self.datasets))
        for name in ("tokenizer", "source", "output", "cache", *CLUSTER_SETTINGS):
            if isinstance(getattr(self, name), Path):
                object.__setattr__(self, name, str(getattr(self, name)))
        if isinstance(self.output, str) and self.output.startswith("~"):  # which no shell expands in --output=~/x
            object.__setattr__(self, "output", os.path.expanduser(self.output))
        if isinstance(self.fields, Mapping) and self.fields.keys() <= set(Fields._fields):
            object.__setattr__(self, "fields", Fields(**self.fields))
        if isinstance(self.packing, str):
            object.__setattr__(self, "packing", PACKING_ALIASES.get(self.packing, self.packing))
        for name in ("max_dropped", "max_unknown"):
            if type(getattr(self, name)) is int:
                object.__setattr__(self, name, float(getattr(self, name)))
        problems = [
            f"{name}: {wrong} (it is {short_repr(getattr(self, name))})"
            for name, check in self.checks.items()
            if (wrong := check(getattr(self, name)))
        ]
        if not problems:
            problems = _revision_problems(self.source, self.revision) + _cluster_problems(self)
        if problems:
            raise RecipeError(*problems)

    def determining(self) -> dict[str, Any]:
        """The settings that determine a dataset's bytes, as the manifest keeps them.

        Left out: `datasets` (each stands alone), `source`, `tokenizer`, `bos` and `eos` (the manifest holds what they
        resolved to: hashes, fingerprint, ids); `splits`, which the manifest holds where shards are named for some; and
        those that change no byte.
        """
        excluded = {"datasets", "source", "tokenizer", "bos", "eos", "splits", *NON_OUTPUT_SETTINGS}
        if self.added_tokens == "text":  # as it was before there was a choice
            excluded.add("added_tokens")
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in excluded}
        return settings | {"fields": self.fields._asdict()}

    @property
    def hashes(self) -> bool:
        """Whether contexts and entries are hashed, to tell which split they are for and which of them repeat."""
        return self.validation is not None or self.dedup

    def as_dict(self) -> dict[str, Any]:
        """Every setting, with JSON's and YAML's own types; what `--config` reads."""
        return dataclasses.asdict(self) | {"datasets": list(self.datasets), "fields": self.fields._asdict()}


def hub_address(source: str, revision: str | None = None) -> tuple[str, str | None] | None:
    """OWNER/NAME and the revision of a source on the Hub; None for any other source. Raises RecipeError.

    >>> hub_address("hf://datasets/owner/name@v1.0")
    ('owner/name', 'v1.0')
    """
    if source == HUB:
        return HUB_COLLECTION, revision
    if not source.startswith(HUB_SCHEME):
        return None
    found = re.fullmatch(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@(\S+))?", source)
    if not found:
        raise RecipeError(f"source: a collection on the Hub is hf://datasets/OWNER/NAME[@REVISION] (it is {source!r})")
    if found[2] and revision:
        raise RecipeError(f"revision: is given twice, {found[2]!r} in source and {revision!r}; leave one out")
    return found[1], found[2] or revision


def _revision_problems(source: str, revision: str | None) -> list[str]:
    try:
        if hub_address(source, revision) is None and revision is not None:
            return [f"revision: is of a source on the Hub, which {source!r} is not; leave it out"]
    except RecipeError as exc:
        return [str(exc)]
    return []


def _cluster_problems(recipe: Recipe) -> list[str]:
    given = [name for name in CLUSTER_SETTINGS if getattr(recipe, name) is not None]
    if recipe.executor == "local":
        return [f"{name}: goes with executor: dask" for name in given]
    problems = []
    if len({"scheduler", "scheduler_file"} & set(given)) != 1:
        problems.append("executor: dask needs one of scheduler (an address) and scheduler_file")
    if recipe.jobs is not None:
        problems.append("jobs: is for executor: local; a cluster has the workers it was started with; leave it out")
    return problems


def _integer(low: int, high: int, optional: bool = False) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if (optional and value is None) or (type(value) is int and low <= value <= high):
            return None
        return f"must be a whole number from {low:,} to {high:,}"

    return check


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str | None]:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def _text(optional: bool = False, empty: bool = False) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if optional and value is None:
            return None
        if not isinstance(value, str):
            return "must be text"
        if not value and not empty:
            return "must not be empty"
        return None if is_encodable(value) else "holds a lone surrogate, which has no UTF-8 form"

    return check


def _local_folder(value: Any) -> str | None:
    """Not a place that only looks like a folder: there a rename copies file by file, and can be seen half done."""
    if isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value):
        return (
            "must be a folder: a result appears whole or not at all, by the rename of a folder, which an object store "
            "does not have; name a folder, and copy what is whole"
        )
    return _text(optional=True)(value)


def _template(*placeholders: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if wrong := _text()(value):
            return wrong
        missing = [p for p in placeholders if p not in value]
        return f"lacks {' and '.join(missing)}" if missing else None

    return check


def _datasets(value: Any) -> str | None:
    if not isinstance(value, tuple) or not value:
        return "name at least one dataset, or all"
    return None if all(isinstance(name, str) and name for name in value) else "must be names"


def _share(value: Any) -> str | None:
    return None if isinstance(value, float) and 0 <= value <= 1 else "must be a share from 0 to 1"


def _validation(value: Any) -> str | None:
    if value is None or (type(value) is int and 1 <= value < 2**63) or (type(value) is float and 0 < value < 1):
        return None
    return "must be a share between 0 and 1, or a whole number of entries from 1"


def _fields(value: Any) -> str | None:
    if not isinstance(value, Fields):
        return f"must name keys for some of {', '.join(Fields._fields)}"
    if wrong := next(filter(None, map(_text(), value)), None):
        return f"each {wrong}"
    if value.context == value.pairs or value.question == value.answer:
        return "must not name one key for two things"
    return None


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _eos(value: Any) -> str | None:
    if value in NO_BOS:
        return "every output ends with an EOS; name a token"
    return _text(optional=True)(value)


# One check a setting: what is wrong with the value, or None. max_length is bounded by the int32 offsets of a batch.
SETTING_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "datasets": _datasets,
    "tokenizer": _text(),
    "source": _text(),
    "revision": _text(optional=True),
    "fields": _fields,
    "follow_links": _boolean,
    "on_error": _one_of(ON_ERROR_POLICIES),
    "output": _local_folder,
    "max_length": _integer(2, 2**24),
    "packing": _one_of(PACKINGS),
    "overlong": _one_of(OVERLONG_POLICIES),
    "max_dropped": _share,
    "max_unknown": _share,
    "seed": _integer(0, 2**64 - 1),
    "bos": _text(optional=True, empty=True),
    "eos": _eos,
    "added_tokens": _one_of(ADDED_TOKENS),
    "context_template": _template("{context}"),
    "pair_template": _template("{question}", "{answer}"),
    "delimiter": _text(empty=True),
    "validation": _validation,
    "splits": _one_of(SPLIT_POLICIES),
    "dedup": _boolean,
    "limit": _integer(1, 2**31 - 1, optional=True),
    "engine": _one_of(ENGINES),
    "jobs": _integer(1, 1024, optional=True),
    "cache": _local_folder,
    "overwrite": _boolean,
    "executor": _one_of(EXECUTORS),
    **dict.fromkeys(CLUSTER_SETTINGS, _text(optional=True)),
}
Recipe.checks = SETTING_CHECKS


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises RecipeError for a file that cannot be read, is no mapping, or has unknown keys.
    """
    settings, _ = yaml_file.read_yaml(path, "a recipe")
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise RecipeError(f"{path}: must hold settings as `key: value` lines")
    problems = []
    for key in settings:
        if key not in SETTING_CHECKS:
            hint = suggestion(re.sub(r"\W", "_", short_repr(key).strip("'\"")), SETTING_CHECKS)
            problems.append(f"{path}: unknown key {short_repr(key)}" + (f"; {hint}" if hint else ""))
    if "bos" in settings and settings["bos"] is None:
        problems.append(
            f"{path}: bos: null says too little: leave it out for the tokenizer's own, or write none for no BOS"
        )
    if problems:
        raise RecipeError(*problems, f"keys: {', '.join(SETTING_CHECKS)}")
    return dict(settings)
