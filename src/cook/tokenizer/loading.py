"""Which tokenizer: a name -> Tokenizer, all that a run needs to know of it, and the engine that encodes for it.

A preset works offline; a folder or a tokenizer.json is read where it lies; OWNER/NAME is fetched from the Hub: its
tokenizer.json and what tells control tokens (see `control`). BOS and EOS default from the preset or from the
configuration. Every id is the one that Hugging Face `tokenizers` gives: a file that says otherwise is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from cook.core import cache
from cook.core.errors import NO_FILE, CookWarning, TokenizerError, install_hint, is_no_file, name_some, suggestion
from cook.core.recipe import NO_BOS, Recipe
from cook.tokenizer import control, growth
from cook.tokenizer.engine import Engine, Ids, Offsets
from cook.tokenizer.engines.bundled import tokenizer_json
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.presets import PRESETS, Preset, find_preset

if TYPE_CHECKING:
    from cook.tokenizer.engines.splintr import SplintrEngine


class Tokenizer(NamedTuple):
    """A tokenizer, resolved; small, and picklable for workers."""

    name: str
    """The preset's name, the Hub id, or the folder's name."""
    preset: str | None
    path: str | None
    """The tokenizer.json, where it is no preset."""
    fingerprint: str
    """sha256 of the vocabulary of a preset, else of the tokenizer.json."""
    engine: str
    quick_engine: str
    """The engine for little work, which loads at once."""
    cache: str | None
    """The cache's folder, for what is slow to make."""
    vocab_size: int
    """Every id is below it."""
    bos: str | None
    bos_id: int | None
    eos: str
    eos_id: int
    pad_id: int
    """The model's, else EOS."""
    unk_id: int | None
    """What the model has for text that it lacks: the one special token that ordinary text may give."""
    specials: tuple[tuple[str, int], ...]
    """The tokens whose strings in data are spelt in letters: control tokens, and unnamed ones (see `control`)."""
    covers_all_text: bool = True
    """Whether it has tokens for all text; else see `unknown_characters`."""
    unnamed: tuple[str, ...] = ()
    """Added tokens that look like markers, and that nothing names: they are in `specials`, or `added_tokens` is so."""

    @property
    def folder_name(self) -> str:
        """The name as one folder's name: the Hub's OWNER/NAME becomes OWNER--NAME."""
        return self.name.replace("/", "--")


class EngineWarning(CookWarning):
    """The fast engine stepped aside."""


class TokenizerWarning(CookWarning):
    """The tokenizer is used otherwise than its files say."""


class _TokenizerFiles(NamedTuple):
    """What the three kinds of tokenizers have in common before BOS and EOS are settled."""

    name: str
    preset: Preset | None
    path: Path | None
    fingerprint: str
    ids: dict[str, int]  # every token that may be named: added tokens, and the vocabulary of a tokenizer.json
    specials: dict[str, int]  # of a preset
    vocab_size: int
    unk_id: int | None
    config: dict[str, Any] | None  # bos_token, eos_token, pad_token, and more of a file's; None: nothing says
    document: dict[str, Any] = {}  # the tokenizer.json  # noqa: RUF012 - never changed
    templates: str = ""

    def special_tokens(self, *named: str | None) -> control.SpecialTokens:
        """Its tokens that are no text, when these are named too."""
        if self.preset:
            return control.SpecialTokens(self.specials, {})
        every = {*control.configured_tokens(self.config or {}), *filter(None, named)}
        return control.classify_tokens(self.document, self.ids, every, self.templates)

    def token(self, which: str) -> str | None:
        """The token that the configuration names as BOS, EOS or for padding."""
        return control.token_text((self.config or {}).get(f"{which}_token"))


def resolve_tokenizer(recipe: Recipe, work_bytes: int = 0) -> Tokenizer:
    """The tokenizer that a recipe names, with the engine for `work_bytes` bytes of input a process.

    Raises TokenizerError.
    """
    source = _locate(recipe.tokenizer)
    eos = recipe.eos or source.token("eos")
    bos = source.token("bos") if recipe.bos is None else recipe.bos
    if not eos:
        raise TokenizerError(f"{source.name}: no tokenizer_config.json names its EOS; pass --eos TOKEN")
    if recipe.bos is None and source.config is None:
        raise TokenizerError(f"{source.name}: no tokenizer_config.json names its BOS; pass --bos TOKEN, or --bos none")
    bos = None if bos in NO_BOS else bos
    found = source.special_tokens(bos, eos)
    bos_id = None if bos is None else _single_token_id(source, found, "bos", bos)
    eos_id = _single_token_id(source, found, "eos", eos)
    spelt = found.control | (found.unnamed if recipe.added_tokens == "text" else {})
    folder = cache.prepare_cache(recipe.cache)
    tokenizer = Tokenizer(
        name=source.name,
        preset=source.preset.name if source.preset else None,
        path=str(source.path) if source.path else None,
        fingerprint=source.fingerprint,
        engine=REFERENCE_ENGINE,
        quick_engine=REFERENCE_ENGINE,
        cache=str(folder) if folder else None,
        vocab_size=source.vocab_size,
        bos=bos,
        bos_id=bos_id,
        eos=eos,
        eos_id=eos_id,
        pad_id=source.ids.get(source.token("pad") or "", eos_id),
        unk_id=None if source.unk_id in (bos_id, eos_id) else source.unk_id,
        specials=tuple(sorted(spelt.items(), key=lambda item: item[1])),
        covers_all_text=source.preset is not None or control.covers_all_text(source.document),
        unnamed=tuple(found.unnamed),
    )
    if not source.preset:
        _check_files(tokenizer, source, spelt, bos if recipe.bos is None else None)
    return _with_engines(tokenizer, recipe, work_bytes)


def _check_files(tokenizer: Tokenizer, source: _TokenizerFiles, spelt: dict[str, int], bos: str | None) -> None:
    """Hold a tokenizer's files to the library, warn of what cook changes, and remember where they lie."""
    if "/" not in source.name:  # else it is of the Hub, where its name finds it
        _remember_place(tokenizer)
    _check_against_reference(tokenizer, source)
    _warn_of_changes(source, spelt, bos)


def _with_engines(tokenizer: Tokenizer, recipe: Recipe, work_bytes: int) -> Tokenizer:
    """The tokenizer with the engines that the recipe names, or that are fast for so much work."""
    engine = _choose_engine(tokenizer, recipe.engine, work_bytes)
    reason = f"chosen for {work_bytes:,} bytes a process" if recipe.engine == "auto" else f"--engine {recipe.engine}"
    logger.info("engine: %s (%s)", engine, reason)
    quick_engine = _choose_engine(tokenizer, recipe.engine, 0) if engine == SLOW_START_ENGINE else engine
    return tokenizer._replace(engine=engine, quick_engine=quick_engine)


def _check_against_reference(tokenizer: Tokenizer, source: _TokenizerFiles) -> None:
    """Raise TokenizerError where `tokenizers` numbers a token otherwise than the tokenizer.json does."""
    added = [token["content"] for token in source.document.get("added_tokens") or () if token["content"]]
    tokens = sorted({*added, *(token for token, _ in tokenizer.specials)})

    def ask() -> bytes:
        return orjson.dumps(reference_engine(tokenizer).ids_of(tokens))

    library = orjson.loads(_cached_answer(tokenizer, REFERENCE_ENGINE, "ids", ask))
    wrong = [(token, own) for token, own in zip(tokens, library, strict=True) if own != source.ids[token]]
    if wrong:
        details = name_some([f"{token} is {source.ids[token]} there and {own} to the library" for token, own in wrong])
        raise TokenizerError(
            f"{source.path}: token ids differ from those of Hugging Face tokenizers, which models are trained with: "
            f"{details}. Renumber its added_tokens without a gap"
        )


def _warn_of_changes(source: _TokenizerFiles, spelt: dict[str, int], bos: str | None) -> None:
    """Warn of what the tokenizer's files have, and cook does otherwise."""
    if off := control.disabled_settings(source.document, spelt):
        message = (
            f"{source.name}: its tokenizer.json has {', '.join(off)}: switched off, so that no text is lost or changed"
        )
        warnings.warn(message, TokenizerWarning, stacklevel=3)
    if bos and control.adds_bos(source.document, source.config or {}, bos) is False:
        warnings.warn(
            f"{source.name}: {bos} opens every input, though the model's own tokenizer adds no BOS; --bos none leaves "
            f"it out, --bos '{bos}' keeps it without this line",
            TokenizerWarning,
            stacklevel=3,
        )


logger = logging.getLogger(__name__)
REFERENCE_ENGINE = "hf"
SLOW_START_ENGINE = "fastokens"
MAX_TOKENIZER_JSON_BYTES = 256 << 20  # of a tokenizer.json; those of models have up to 40 MB
CONFIG_FILES = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")  # what tells control tokens
MAX_VOCAB = 1 << 24  # ids; a table of this many is made
FASTOKENS_MIN_BYTES = (
    108 << 20
)  # bytes a process from which fastokens, 1.5 s slower to load, is done sooner than splintr


def _choose_engine(tokenizer: Tokenizer, asked: str, work_bytes: int) -> str:
    """The engine for a job: the one asked for, or the fastest for its size, if it is exact for this tokenizer.

    A preset is probed where it is loaded, which takes no time; a tokenizer.json here, by the reference.
    """
    has_fastokens = importlib.util.find_spec("fastokens") is not None
    if asked == "fastokens" and not has_fastokens:
        raise TokenizerError(f"--engine fastokens: is not installed; {install_hint('fast')}")
    wanted: tuple[str, ...] = (asked,)
    if asked == "auto":
        wanted = ("fastokens", "splintr") if has_fastokens and work_bytes > FASTOKENS_MIN_BYTES else ("splintr",)
    for engine in wanted:
        if engine == REFERENCE_ENGINE or tokenizer.preset or _matches_reference(tokenizer._replace(engine=engine)):
            return engine
    _warn_inexact(tokenizer, wanted[-1])
    return REFERENCE_ENGINE


def _warn_inexact(tokenizer: Tokenizer, engine: str) -> None:
    warnings.warn(
        f"{tokenizer.name}: {engine} does not give the ids of Hugging Face tokenizers, which encode instead, slower",
        EngineWarning,
        stacklevel=2,
    )


def _matches_reference(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer's engine gives the reference's ids for the probe texts; remembered in the cache."""
    from cook.tokenizer.engines import probe

    def agrees() -> bool:
        texts = probe.probe_texts([token for token, _ in tokenizer.specials])
        try:
            return probe.gives_same_ids(reference_engine(tokenizer), _create_engine(tokenizer), texts)
        except TokenizerError:
            return False

    return (
        _cached_answer(tokenizer, tokenizer.engine, "exact", lambda: b"exact" if agrees() else b"differs") == b"exact"
    )


ENGINE_PACKAGES = {"splintr": "splintr-rs", REFERENCE_ENGINE: "tokenizers"}


def _cached_answer(tokenizer: Tokenizer, engine: str, what: str, compute: Callable[[], bytes]) -> bytes:
    """An answer on a tokenizer.json by an engine's version, kept in the cache: to load the reference takes a second."""
    if tokenizer.cache is None:
        return compute()
    from importlib.metadata import version  # takes 30 ms to import

    from cook.tokenizer.engines import probe

    rules = hashlib.sha256(orjson.dumps([probe.PROBE_VERSION, tokenizer.specials])).hexdigest()[:16]
    name = f"{tokenizer.fingerprint}-{what}-{rules}-{engine}-{version(ENGINE_PACKAGES.get(engine, engine))}"
    return cache.get_or_compute(Path(tokenizer.cache) / "probes" / name, compute)


_engines: dict[tuple[Any, ...], Engine] = {}
_load_lock = threading.Lock()


def load_engine(tokenizer: Tokenizer, quick: bool = False) -> Engine:
    """The engine that encodes for a tokenizer; loaded once a process. A preset that is not exact gets the reference.

    For a `quick_engine` use it is the one of those for little work, unless the other is there already.
    """
    from cook.tokenizer.engines import probe

    key = (tokenizer.engine, tokenizer.fingerprint, tokenizer.specials)
    with _load_lock:
        if quick and key not in _engines:
            tokenizer = tokenizer._replace(engine=tokenizer.quick_engine)
            key = (tokenizer.engine, *key[1:])
        if key not in _engines:
            engine = _create_engine(tokenizer)
            probed = tokenizer.preset and tokenizer.engine != REFERENCE_ENGINE
            if probed and probe.probe_ids(engine) != probe.known_ids(tokenizer.preset or ""):
                _warn_inexact(tokenizer, tokenizer.engine)
                engine = _create_engine(tokenizer._replace(engine=REFERENCE_ENGINE))
            _engines[key] = engine
        return _engines[key]


def special_token_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """The texts that stand for control tokens: the model's own, and those that a bundled vocabulary adds to them."""
    added = _bundled(tokenizer.preset).specials if tokenizer.preset else ()
    return tuple(sorted({*added, *(token for token, _ in tokenizer.specials)}))


def warm_up(tokenizer: Tokenizer) -> None:
    """Load the engine before there is work for it. What goes wrong is told when it is asked to encode."""
    with contextlib.suppress(TokenizerError):
        load_engine(tokenizer)


def reference_engine(tokenizer: Tokenizer) -> HfEngine:
    """Hugging Face tokenizers, for the same tokenizer; loaded once a process."""
    engine = load_engine(tokenizer._replace(engine=REFERENCE_ENGINE))
    assert isinstance(engine, HfEngine)
    return engine


def _create_engine(tokenizer: Tokenizer) -> Engine:
    """Load the tokenizer's engine. Raises TokenizerError."""
    if tokenizer.engine == "splintr":
        from cook.tokenizer.engines.splintr import SplintrEngine

        if tokenizer.preset:
            return _bundled(tokenizer.preset)
        return SplintrEngine.from_json(tokenizer_document(tokenizer))
    if tokenizer.engine == "fastokens":
        from cook.tokenizer.engines.fastokens import FastokensEngine

        if tokenizer.preset:
            return FastokensEngine(tokenizer_json(PRESETS[tokenizer.preset], prune_merges=True))
        return FastokensEngine(tokenizer_document(tokenizer))
    return HfEngine(tokenizer_document(tokenizer))


def tokenizer_document(tokenizer: Tokenizer) -> bytes:
    """The tokenizer.json that engines get: of a preset, or of the file by `spell_out_special_tokens`.

    Raises TokenizerError where the file is no more the one resolved.
    """
    if tokenizer.preset is None:
        data = _read_file(Path(tokenizer.path or ""))
        if hashlib.sha256(data).hexdigest() != tokenizer.fingerprint:
            raise TokenizerError(f"{tokenizer.path}: changed while it was in use")
        spelt = {token for token, _ in tokenizer.specials}
        return orjson.dumps(control.spell_out_special_tokens(_parse(Path(tokenizer.path or ""), data), spelt))
    preset = PRESETS[tokenizer.preset]
    if tokenizer.cache is None:
        return tokenizer_json(preset)
    return cache.get_or_compute(
        Path(tokenizer.cache) / "tokenizers" / preset.fingerprint, lambda: tokenizer_json(preset)
    )


def added_ids(tokenizer: Tokenizer) -> set[int]:
    """The ids of all added tokens: control tokens, and those that are ordinary text."""
    if tokenizer.preset:
        return {i for _, i in tokenizer.specials}
    document = _parse(Path(tokenizer.path or ""), tokenizer_document(tokenizer))
    return {token["id"] for token in document["added_tokens"]}


def token_ends(tokenizer: Tokenizer) -> Callable[[str], Offsets]:
    """A function that says where the tokens of a text end, in characters: the same whichever engine encodes."""

    def ends(text: str) -> Offsets:
        found = None
        if tokenizer.preset:
            found = _bundled(tokenizer.preset).token_ends(text)
        return reference_engine(tokenizer).token_ends(text) if found is None else found

    return ends


@lru_cache
def _bundled(preset: str) -> SplintrEngine:
    from cook.tokenizer.engines.splintr import SplintrEngine

    return SplintrEngine.from_preset(PRESETS[preset])


def _locate(name: str) -> _TokenizerFiles:
    if preset := find_preset(name):
        config = {"bos_token": preset.bos, "eos_token": preset.eos}
        specials = dict(preset.specials)
        return _TokenizerFiles(
            preset.name, preset, None, preset.fingerprint, specials, specials, preset.vocab_size, None, {**config}
        )
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return _from_file(path.resolve().name, path / "tokenizer.json", *(path / file for file in CONFIG_FILES))
    if path.exists():
        folder = path.resolve().parent.name if path.name == "tokenizer.json" else path.stem
        return _from_file(folder, path, *map(path.with_name, CONFIG_FILES))
    is_path = name.startswith(("/", "./", "../", "~")) or path.suffix == ".json"
    if is_path or (path.parent != Path() and path.parent.is_dir()):  # meant as a path, though it could be a Hub id
        raise TokenizerError(f"{name}: no such folder or file")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        from cook.tokenizer import hub_files

        found = hub_files.fetch_tokenizer_file(name, "tokenizer.json")
        if found is None:
            raise TokenizerError(f"{name}: the repository has no tokenizer.json, which cook reads")
        # Of the same commit, though the repository may have moved on since.
        return _from_file(name, found, *hub_files.fetch_config_files(name, hub_files.commit_of(found)))
    known = [preset for p in PRESETS.values() for preset in (p.name, *p.aliases)]
    hint = suggestion(name, known)
    raise TokenizerError(
        f"{name}: no tokenizer of that name{f'; {hint}' if hint else '.'}"
        f" Presets: {', '.join(known)}. Else pass a folder, a tokenizer.json, or a Hub id OWNER/NAME."
    )


def _from_file(
    name: str, path: Path, config: Path | None, tokens: Path | None, template: Path | None
) -> _TokenizerFiles:
    data = _read_file(path)
    document = _parse(path, data)
    try:
        ids, unk = _vocabulary(document)
    except (TypeError, KeyError, ValueError, AttributeError) as exc:
        raise TokenizerError(f"{path}: is not a tokenizer.json: it has no model with a vocabulary") from exc
    growth.check_growth(path, document)
    found = [_parse(each, _read_file(each)) for each in (tokens, config) if each and os.path.lexists(each)]
    settings = {key: value for each in found for key, value in each.items() if value is not None}
    texts = [control.chat_templates(settings)]
    if template and os.path.lexists(template):
        texts.append(_read_file(template).decode(errors="replace"))
    return _TokenizerFiles(
        name, None, path.absolute(), hashlib.sha256(data).hexdigest(), ids, {}, max(ids.values()) + 1, unk,
        settings if found else None, document, "\n".join(texts),
    )  # fmt: skip


def _vocabulary(document: dict[str, Any]) -> tuple[dict[str, int], int | None]:
    """The ids of all tokens, and of what stands for the unknown. Raises for what is none."""
    model = document["model"]
    vocab = model["vocab"]
    if isinstance(vocab, list):  # Unigram: [piece, score] in the order of ids
        vocab = {piece: i for i, (piece, _) in reversed(list(enumerate(vocab)))}
    added = {token["content"]: token for token in document.get("added_tokens") or () if token["content"]}
    ids = vocab | {content: token["id"] for content, token in added.items()}
    if not vocab or not all(type(i) is int and 0 <= i < MAX_VOCAB for i in ids.values()):
        raise ValueError("ids")
    return ids, model.get("unk_id", ids.get(model.get("unk_token") or ""))  # Unigram has the id


def _single_token_id(source: _TokenizerFiles, found: control.SpecialTokens, which: str, token: str) -> int:
    """The id of BOS or EOS, which must be one control token of the tokenizer."""
    if token in found.control:
        return found.control[token]
    right = source.token(which)
    hint = f"; its own is {right}" if right and right != token else ""
    flag = f"{source.name}: its tokenizer_config.json has {which}_token" if right == token else f"--{which}"
    if token in source.ids:
        raise TokenizerError(
            f"{flag} {token}: is no special token of {source.name}, so that any text could hold it{hint}"
        )
    if not right and (near := suggestion(token, found.control, 3)):
        hint += f"; {near}"
    raise TokenizerError(f"{flag} {token}: is not one token of {source.name}{hint}")


def _read_file(path: Path) -> bytes:
    if is_no_file(path):
        raise TokenizerError(f"{path}: {NO_FILE}")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOKENIZER_JSON_BYTES + 1)
    except OSError as exc:
        raise TokenizerError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if len(data) > MAX_TOKENIZER_JSON_BYTES:
        raise TokenizerError(
            f"{path}: has more than {MAX_TOKENIZER_JSON_BYTES:,} bytes, which no tokenizer.json of a model has"
        )
    return data


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise TokenizerError(f"{path}: is not JSON, as a tokenizer.json is: {exc}") from exc
    if not isinstance(document, dict):
        raise TokenizerError(f"{path}: must hold a JSON object")
    return document


def _remember_place(tokenizer: Tokenizer) -> None:
    """Keep where a tokenizer.json lies, for `recorded_place`."""
    if tokenizer.cache and tokenizer.path:
        kept, path = Path(tokenizer.cache) / "places" / tokenizer.fingerprint, os.fsencode(tokenizer.path)
        if cache.get(kept) != path:
            cache.put(kept, path)


def recorded_place(recorded: dict[str, Any], setting: str | None) -> str:
    """What to find the tokenizer of a manifest by: the tokenizer.json that a run read, if it is still the same.

    Else the name that the manifest has. `setting`: a recipe's `cache`.
    """
    name, fingerprint = str(recorded["name"]), str(recorded["fingerprint"])
    preset = find_preset(name)
    if (preset and preset.fingerprint == fingerprint) or not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        return name
    folder = cache.prepare_cache(setting)
    path = folder and cache.get(folder / "places" / fingerprint)
    with contextlib.suppress(TokenizerError):
        if path and hashlib.sha256(_read_file(Path(os.fsdecode(path)))).hexdigest() == fingerprint:
            return os.fsdecode(path)
    return name


def resolve_recorded(recorded: dict[str, Any], named: str | None, setting: str | None = None) -> Tokenizer:
    """The tokenizer of a manifest: the one that it names, or `named`, if it is the same. Raises TokenizerError."""
    name = named or recorded_place(recorded, setting)
    try:
        settings = {"bos": recorded["bos"] or "none", "eos": recorded["eos"], "cache": setting}
        recipe = Recipe(datasets=("all",), tokenizer=name, engine="hf", **settings)
        found = resolve_tokenizer(recipe)
        if found.unnamed and not {i for _, i in found.specials} <= {*recorded.get("special_ids", ())}:
            found = resolve_tokenizer(dataclasses.replace(recipe, added_tokens="tokens"))  # as it was cooked
    except TokenizerError as exc:
        message = f"the data was cooked with {recorded['name']}; pass --tokenizer with its folder or file"
        raise TokenizerError(message, *exc.lines) from exc
    if found.fingerprint != recorded["fingerprint"]:
        raise TokenizerError(
            f"{name}: is not the tokenizer that the data was cooked with: its fingerprint is "
            f"{found.fingerprint[:12]}…, the manifest has {recorded['fingerprint'][:12]}… of {recorded['name']}; "
            "pass --tokenizer with its folder or file"
        )
    return found


def checked_encoder(engine: Engine, tokenizer: Tokenizer) -> Callable[[Sequence[str]], tuple[Ids, Offsets]]:
    """The engine's `encode`, with every id checked to be of the model's vocabulary, and no special token."""
    forbidden = np.zeros(tokenizer.vocab_size, bool)
    forbidden[[i for _, i in tokenizer.specials if i != tokenizer.unk_id]] = True
    names = {i: token for token, i in tokenizer.specials}
    workaround = "" if engine.name == REFERENCE_ENGINE else ", and pass --engine hf"
    lowest = int(forbidden.argmax()) if forbidden.any() else tokenizer.vocab_size

    def encode(texts: Sequence[str]) -> tuple[Ids, Offsets]:
        ids, offsets = engine.encode(texts)
        highest = int(ids.max(initial=0))
        if highest >= tokenizer.vocab_size:
            raise TokenizerError(
                f"{engine.name} {engine.version} gave id {highest} for {tokenizer.name}, whose vocabulary has "
                f"{tokenizer.vocab_size} ids; please report this{workaround}"
            )
        if highest >= lowest and forbidden[ids].any():
            raise TokenizerError(
                f"{engine.name} {engine.version} gave the special token {(i := int(ids[forbidden[ids]][0]))} of "
                f"{tokenizer.name} for ordinary text ({names[i]}); please report this{workaround}"
            )
        return ids, offsets

    return encode
