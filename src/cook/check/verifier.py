"""What is cooked, held against its manifest; and, with `deep`, against the shards that it was made of.

manifest   its syntax and sha256, the files it names and their sizes and hashes           (folder)
rows       columns, lengths, BOS, EOS and special ids, mask and labels of every row       (rows)
sums       counts and figures, skipped.jsonl, and the plan that the recipe makes          (folder)
shards     encoded again by the stages of a cook: the same examples in the same places      (against_source, readback)
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import orjson

from cook.check import corpus, synthesis
from cook.check.against_source import prove
from cook.check.folder import Check
from cook.check.rows import Finding, Findings
from cook.core.errors import OutputError, RecipeError, SourceError, TokenizerError, refuse_empty
from cook.core.escapes import escaped
from cook.core.files import sha256_of
from cook.core.recipe import Recipe, hub_address
from cook.executors.local import executor, results
from cook.executors.process import usable_cores
from cook.pipeline import build, startup
from cook.read.source import Shard, Source
from cook.read.sources import open_source
from cook.store import dataset_card, kinds, manifest
from cook.store.outputs import cooked_folders
from cook.tokenizer.loading import Tokenizer, resolve

Compare = Callable[[Any, list[Shard], Tokenizer | None, Executor], None]  # a check, its shards, its tokenizer


CHECKS: Mapping[str, tuple[type[Check], Compare | None]] = {  # by the kind of a result
    kinds.DATASET: (Check, prove),
    kinds.PACKED: (corpus.PackedCheck, corpus.PackedCheck.prove),
    kinds.MIX: (Check, None),
    kinds.CORPUS: (corpus.TextCheck, corpus.TextCheck.prove),
    kinds.PROMPTS: (synthesis.PromptsCheck, None),
    kinds.PARSE: (synthesis.ParsedCheck, None),
}


@dataclasses.dataclass(frozen=True)
class Checked:
    """A dataset or a mix, checked."""

    name: str
    folder: Path
    compared: bool
    """Whether it was compared with its shards."""
    findings: list[Finding]
    found: int
    """How many findings there are; of each file the first 10,000 are in the list."""
    holds: dict[str, int]
    """What could be read of it: sequences, examples and tokens; of a corpus as text texts and letters, and so on."""
    unread: tuple[str, ...] = ()
    """The files among its shards that cook did not read, by its manifest."""

    @property
    def sequences(self) -> int:
        """Sequences that could be read."""
        return self.holds.get("sequences", 0)

    @property
    def examples(self) -> int:
        """Their examples."""
        return self.holds.get("examples", 0)

    @property
    def tokens(self) -> int:
        """Their tokens; of prompts theirs."""
        return self.holds.get("tokens", 0)


@dataclasses.dataclass(frozen=True)
class Verified:
    """What a check of a path came to."""

    datasets: list[Checked]

    @property
    def found(self) -> int:
        """How many findings there are; 0: all is right."""
        return sum(checked.found for checked in self.datasets)


def verify(
    path: str | os.PathLike[str], *, deep: bool = False, source: str | None = None, tokenizer: str | None = None
) -> Verified:
    """Check a dataset, a mix, or all that is cooked in a ROOT: all that `cook verify` does from a shell.

    With `deep` the shards of `source` are encoded again, and every example compared; it takes four bytes a token of
    room for temporary files. All cores are used, for large outputs by spawned processes: a script that calls this does
    so under `if __name__ == "__main__":`. Raises CookError for what cannot be checked; what is wrong is a finding.
    """
    refuse_empty(path=path, source=source, tokenizer=tokenizer)
    if deep != (source is not None):
        raise RecipeError("source: names the shards that deep compares with; give both, or neither")
    folders = cooked_folders(Path(path))
    checks = [_opened(folder) for folder in folders]
    for name in {check.fields["tokenizer"]["name"] for check, _ in checks if deep and "tokenizer" in check.fields}:
        startup.begin(name)  # before workers begin, which then share it
    size = sum(each.stat().st_size for folder in folders for each in folder.iterdir() if each.is_file())
    with executor(usable_cores(), size) as pool:
        done = [_verify(*check, source, tokenizer, pool) for check in checks]
    if not (Path(path) / manifest.NAME).exists():
        done += [*_without_manifest(Path(path)), *_root_card(Path(path))]
    return Verified(done)


def _without_manifest(root: Path) -> Iterator[Checked]:
    """The datasets of a ROOT that have lost their manifest: folders with files that `load_dataset` would read."""
    for folder in sorted({path.parent for path in root.glob("[!.]*/*-?????-of-?????.parquet")}):
        if not (folder / manifest.NAME).exists():
            findings = Findings()
            findings.note(manifest.NAME, None, "is missing; move the folder away, and cook the dataset again")
            yield Checked(folder.name, folder, False, findings.kept, 1, {})
    for folder in sorted(root.glob("[!.]*")):
        gone = folder.is_symlink() and not os.path.exists(folder)
        if gone or (os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK)):
            findings = Findings()
            findings.note(manifest.NAME, None, f"cannot be read: the folder {'is not there' if gone else 'is closed'}")
            yield Checked(folder.name, folder, False, findings.kept, 1, {})


def _root_card(root: Path) -> list[Checked]:
    """The card of a ROOT, if cook wrote it and it is not what cook would write now."""
    findings = Findings()
    try:
        there = (root / dataset_card.NAME).read_bytes()
    except OSError:
        return []
    if dataset_card.MARK.encode() not in there or there == dataset_card.card(dataset_card.cooked(root)).encode():
        return []
    findings.note(
        dataset_card.NAME, None, "is not the card of the datasets that are here; cook any of them to renew it"
    )
    return [Checked(dataset_card.NAME, root, False, findings.kept, 1, {})]


def _opened(folder: Path) -> tuple[Check, Compare | None]:
    plain = Check(folder)
    return _of_kind(plain) if _read(plain) else (plain, None)


def _verify(
    check: Check, compare: Compare | None, source: str | None, tokenizer: str | None, pool: Executor
) -> Checked:
    compared = bool(check.fields) and _check(check, compare, source, tokenizer, pool)
    return Checked(
        name=check.fields.get("dataset", check.folder.name),
        folder=check.folder,
        compared=compared,
        findings=check.findings.kept,
        found=len(check.findings),
        holds=check.holds(),
        unread=tuple(check.fields.get("unread", ())),
    )


def _of_kind(plain: Check) -> tuple[Check, Compare | None]:
    """The check that goes with the manifest that was read, and what compares with shards where anything does."""
    made, compare = CHECKS[plain.fields["kind"]]
    if made is Check:
        return plain, compare
    own = made(plain.folder)
    own.fields = plain.fields
    return own, compare


def _read(check: Check) -> bool:
    """Read the manifest. What is damaged is a finding; one of another cook an OutputError."""
    try:
        check.fields = manifest.read(check.folder)
    except OutputError as exc:
        if _of_another_cook(check.folder):
            raise
        check.wrong(str(exc).removeprefix(escaped(f"{check.folder / manifest.NAME}: ")))
        return False
    if check.fields["kind"] not in CHECKS:
        raise kinds.refused(check.folder, check.kind, "which verify does not check")
    return True


def _of_another_cook(folder: Path) -> bool:
    """Whether a manifest that is refused is whole all the same, and of another version or kind."""
    try:
        found = orjson.loads((folder / manifest.NAME).read_bytes())
        whole = found.pop("sha256", None) == manifest.digest(found)
        other = found["format_version"] != manifest.FORMAT_VERSION
        return whole and (other or (isinstance(found["kind"], str) and found["kind"] not in kinds.KINDS))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return False


def _check(check: Check, compare: Compare | None, source: str | None, tokenizer: str | None, pool: Executor) -> bool:
    """All that there is to check; whether the output was compared with its shards."""
    if source is not None and check.alone:
        raise OutputError(f"{check.folder}: {check.alone}: check it without --deep")
    try:
        check.look(tokenizer, pool)
    # Of a manifest whose fields are of other types than cook writes.
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, ZeroDivisionError) as exc:
        check.wrong(f"its fields are not those that cook writes: {type(exc).__name__}: {exc}")
        return False
    if source is not None:
        shards = _shards(check, source, pool)
        if not check.whole or check.recipe is None:
            return False
        told = check.fields.get("tokenizer")
        assert compare is not None  # where nothing compares, `alone` says why
        compare(check, shards, _tokenizer(check, check.recipe, tokenizer) if told else None, pool)
        return True
    if check.recipe is not None and not len(check.findings):
        check.plan(check.recipe)
    return False


def _tokenizer(check: Check, recipe: Recipe, name: str | None) -> Tokenizer:
    """The tokenizer that a dataset was cooked with. Raises TokenizerError for another."""
    told = check.fields["tokenizer"]
    where = f"{check.folder} was cooked with {told['name']}, of fingerprint {told['fingerprint']}; --tokenizer"
    try:
        found = resolve(recipe)
    except TokenizerError as exc:
        raise TokenizerError(*exc.lines, f"{where} says where it lies") from exc
    if found.fingerprint != told["fingerprint"]:
        raise TokenizerError(
            f"{name or told['name']}: is another tokenizer, of fingerprint {found.fingerprint}",
            f"{where} says where it lies",
        )
    check.same_tokenizer(found)
    return found


def _shards(check: Check, source: str, pool: Executor) -> list[Shard]:
    """The shards that a dataset was cooked from, matched by names and sha256. Raises SourceError."""
    name, unread = check.fields["dataset"], check.fields.get("unread", [])
    opened = _open(source, check.fields["source"] if check.recipe else {}, bool(unread))
    if name not in opened.names():
        raise SourceError(f"{source}: holds no dataset {name}, which {check.folder} was cooked from")
    there = {shard.name: shard for shard in opened.shards(name)}
    check.equal("unread", unread, build.unread(opened, name).get("unread", []))
    rows = check.fields["inputs"]
    hashed = results(pool, _hashed, ((0, there[row["name"]]) for row in rows if row["name"] in there))
    shards = []
    for row in rows:
        if row["name"] not in there:
            raise SourceError(f"{source}: {name}: holds no shard {row['name']}, which {check.folder} was cooked from")
        _, (shard, digest) = next(hashed)
        shards.append(shard)
        if digest != row["sha256"]:
            raise SourceError(
                f"{shard.path}: is not the shard that {check.folder} was cooked from: its sha256 is {digest}, the "
                f"manifest says {row['sha256']}"
            )
        check.equal(f"inputs: {row['name']}: bytes", row["bytes"], shard.size)
    return shards


def _hashed(shard: Shard) -> tuple[Shard, str]:
    return shard, shard.sha256 or sha256_of(shard.path)


def _open(source: str, told: dict[str, Any], skip: bool) -> Source:
    """The source; one on the Hub at the commit that the manifest names, unless it names one itself."""
    address = hub_address(source)
    commit = told.get("commit") if address and address[1] is None else None
    return open_source(source, follow_links=True, revision=commit, skip=skip)


def by_file(findings: list[Finding], most: int) -> Iterator[Finding]:
    """The first findings of each file."""
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.file] += 1
        if seen[finding.file] <= most:
            yield finding
