"""Outputs are checked against their manifests, and with `deep` against the shards that they were made from.

manifest   its syntax and sha256; sizes and hashes of the files that it names             (folder)
rows       columns, lengths, BOS, EOS and special ids, mask and labels of every row       (rows)
sums       counts, figures, skipped.jsonl, and the packing plan of the recipe             (folder)
shards     encoded again as by a cook: the same examples in the same places               (against_source, readback)
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from cook.check.folder import FolderCheck
from cook.check.rows import Finding, Findings
from cook.core.errors import (
    CookError,
    OutputError,
    RecipeError,
    SourceError,
    TokenizerError,
    refuse_empty,
)
from cook.core.escapes import escape_controls
from cook.core.files import sha256_of
from cook.core.recipe import Recipe, hub_address
from cook.executors.local import cancel_on_error, dataset_threads, local_executor, ordered_results
from cook.executors.process import usable_cores
from cook.pipeline import startup
from cook.pipeline.identity import unread_field
from cook.read.source import Shard, Source
from cook.read.sources import open_source
from cook.store import dataset_card, kinds, manifest
from cook.store.outputs import all_cooked_folders, iter_folders
from cook.tokenizer.loading import Tokenizer, recorded_place, resolve_tokenizer

_OPENING = threading.Lock()  # one thread at a time fetches from the Hub
DEEP = ("cook.check.against_source",)  # imported before workers begin, which then share it
CHECK_BY_KIND: Mapping[str, str] = {  # kind -> its class in cook.check, imported when it is needed
    kinds.DATASET: "against_source.DatasetCheck",
    kinds.PACKED: "corpus.PackedCheck",
    kinds.MIX: "mix.MixCheck",
    kinds.CORPUS: "corpus.TextCheck",
    kinds.PROMPTS: "synthesis.PromptsCheck",
    kinds.PARSE: "synthesis.ParsedCheck",
}


@dataclasses.dataclass(frozen=True)
class Checked:
    """The result of checking one output."""

    name: str
    folder: Path
    compared: bool
    """Whether the output was compared with its shards."""
    findings: list[Finding]
    found: int
    """The number of findings. `findings` lists the first 10,000 of each file."""
    holds: dict[str, int]
    """Amounts that could be read, by noun: sequences, examples, tokens; for a corpus as text, texts and letters."""
    unread: tuple[str, ...] = ()
    """Files among the shards that cook did not read, from the manifest."""

    @property
    def sequences(self) -> int:
        """The number of sequences that could be read."""
        return self.holds.get("sequences", 0)

    @property
    def examples(self) -> int:
        """The number of examples that could be read."""
        return self.holds.get("examples", 0)

    @property
    def tokens(self) -> int:
        """The number of tokens that could be read; for prompts, tokens of prompts."""
        return self.holds.get("tokens", 0)


@dataclasses.dataclass(frozen=True)
class Verified:
    """The results of checking a path."""

    datasets: list[Checked]
    unchecked: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    """Folders of a ROOT that were not checked, or not in full, with the reason."""

    @property
    def found(self) -> int:
        """The number of findings; 0 if nothing is wrong."""
        return sum(checked.found for checked in self.datasets)


def verify(
    path: str | os.PathLike[str], *, deep: bool = False, source: str | None = None, tokenizer: str | None = None
) -> Verified:
    """Check a dataset, a mix, or all that is cooked in a ROOT: all that `cook verify` does from a shell.

    With `deep`, the shards of `source` are encoded again and every example is compared; temporary files take four bytes
    a token. Large outputs are checked on all cores by spawned processes, so a script calls this under
    `if __name__ == "__main__":`. What is wrong becomes a finding; raises CookError for what cannot be checked.
    """
    refuse_empty(path=path, source=source, tokenizer=tokenizer)
    if deep != (source is not None):
        raise RecipeError("source: deep compares with the shards of a source; give both, or neither")
    root = Path(path)
    folders = all_cooked_folders(root)
    checks, errors, unchecked = _open_checks(folders)
    if deep and len(checks) > 1:
        others = [check for check in checks if check.why_not_comparable]
        unchecked |= {each.folder: f"{each.why_not_comparable}, and is checked without --deep" for each in others}
    for name in {check.fields["tokenizer"]["name"] for check in checks if deep and "tokenizer" in check.fields}:
        startup.preload_vocabulary(name, decodes=True)  # before workers begin, which then share it
    done = _each(checks, source, tokenizer, errors)
    if not (root / manifest.MANIFEST_NAME).exists():
        roots = sorted({root, *(folder.parent for folder in folders if folder.is_relative_to(root))})
        done += _missing_manifests(root)
        done += [found for each in roots for found in (*_closed_folders(each), *_check_root_card(each))]
        unchecked |= _other_folders(roots, [*folders, *(each.folder for each in done)])
    return Verified(done, unchecked)


def _open_checks(folders: list[Path]) -> tuple[list[FolderCheck], dict[Path, CookError], dict[Path, str]]:
    """The checks of folders, the errors of those that cannot be opened, and what is not checked.

    Raises OutputError where all are of kinds that verify does not check.
    """
    checks, errors, unchecked = list[FolderCheck](), dict[Path, CookError](), dict[Path, str]()
    for folder in folders:
        plain = FolderCheck(folder)
        try:
            checks.append(_check_for_kind(plain) if _read_manifest(plain) else plain)
        except OutputError as exc:
            if not plain.fields:
                checks.append(plain)
                errors[folder] = exc
            elif folder == folders[-1] and not checks:
                raise
            else:
                unchecked[folder] = f"is {plain.kind.noun}, and is not checked"
    return checks, errors, unchecked


def _other_folders(roots: list[Path], known: list[Path]) -> dict[Path, str]:
    """Folders beside results that hold none, and no Parquet file that a result could have lost its manifest of."""
    beside = (folder for root in roots for folder in sorted(root.glob("[!.]*/")))
    return {
        folder: f"has no {manifest.MANIFEST_NAME}, and is not checked"
        for folder in beside
        if not any(each.is_relative_to(folder) for each in known)
    }


def _each(
    checks: list[FolderCheck], source: str | None, tokenizer: str | None, errors: dict[Path, CookError]
) -> list[Checked]:
    """Check several folders at once, on all cores, the largest first.

    What cannot be checked is a finding beside others; raised is an error that all have in common, or of the only one.
    """
    deep = source is not None
    sizes = [_size(check, deep) for check in checks]
    jobs, checking, compared = usable_cores(), dict[int, Future[bool]](), dict[Path, bool]()
    with (
        local_executor(jobs, sum(sizes), DEEP if deep else ()) as pool,
        dataset_threads(jobs) as threads,
        cancel_on_error(pool),
    ):
        for at in sorted(range(len(checks)), key=lambda at: -sizes[at]):
            if checks[at].folder not in errors:
                shards = source if len(checks) == 1 or not checks[at].why_not_comparable else None
                checking[at] = threads.submit(_run_check, checks[at], shards, tokenizer, pool)
        for at, running in sorted(checking.items()):
            try:
                compared[checks[at].folder] = running.result()
            except CookError as exc:
                errors[checks[at].folder] = exc
    if len(errors) == len(checks) and len({str(error) for error in errors.values()}) == 1:
        raise next(iter(errors.values()))
    for check in checks:
        if check.folder in errors:
            check.manifest_finding(f"cannot be checked: {'; '.join(errors[check.folder].lines)}")
    return [_checked(check, compared.get(check.folder, False)) for check in checks]


def _size(check: FolderCheck, deep: bool) -> int:
    """The bytes of a folder's files; and of the shards that are encoded again."""
    size = sum(each.stat().st_size for each in check.folder.iterdir() if each.is_file())
    shards: list[dict[str, Any]] = check.fields.get("inputs", []) if deep else []
    return size + sum(int(row["bytes"]) for row in shards)


def _missing_manifests(root: Path) -> Iterator[Checked]:
    """The datasets of a ROOT that have lost their manifest: folders with files that `load_dataset` would read."""
    for folder, names in iter_folders(root):
        cooked = any(fnmatch.fnmatchcase(name, "*-?????-of-?????.parquet") for name in names)
        if cooked and manifest.MANIFEST_NAME not in names and folder != root:
            findings = Findings()
            findings.note(manifest.MANIFEST_NAME, None, "is missing; move the folder away, and cook the dataset again")
            yield Checked(folder.name, folder, False, findings.listed, 1, {})


def _closed_folders(root: Path) -> Iterator[Checked]:
    """The folders of a ROOT that cannot be read, and links to what is not there."""
    for folder in sorted(root.glob("[!.]*")):
        gone = folder.is_symlink() and not os.path.exists(folder)
        if gone or (os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK)):
            findings = Findings()
            findings.note(
                manifest.MANIFEST_NAME, None, f"cannot be read: the folder {'is not there' if gone else 'is closed'}"
            )
            yield Checked(folder.name, folder, False, findings.listed, 1, {})


def _check_root_card(root: Path) -> list[Checked]:
    """The card of a ROOT, if cook wrote it and it is not what cook would write now."""
    findings = Findings()
    try:
        there = (root / dataset_card.CARD_NAME).read_bytes()
    except OSError:
        return []
    if (
        dataset_card.CARD_MARK.encode() not in there
        or there == dataset_card.render_card(dataset_card.read_manifests(root)).encode()
    ):
        return []
    findings.note(
        dataset_card.CARD_NAME, None, "is not the card of the datasets that are here; cook any of them to renew it"
    )
    return [Checked(dataset_card.CARD_NAME, root, False, findings.listed, 1, {})]


def _checked(check: FolderCheck, compared: bool) -> Checked:
    return Checked(
        name=check.fields.get("dataset", check.folder.name),
        folder=check.folder,
        compared=compared,
        findings=check.findings.listed,
        found=len(check.findings),
        holds=check.contents(),
        unread=tuple(check.fields.get("unread", ())),
    )


def _check_for_kind(plain: FolderCheck) -> FolderCheck:
    """The check for the kind of the manifest that was read."""
    module, _, name = CHECK_BY_KIND[plain.fields["kind"]].partition(".")
    made: FolderCheck = getattr(import_module(f"cook.check.{module}"), name)(plain.folder)
    made.fields = plain.fields
    return made


def _read_manifest(check: FolderCheck) -> bool:
    """Read the manifest; return whether it could be read. Damage is a finding; another version raises OutputError."""
    try:
        check.fields = manifest.read_manifest(check.folder)
    except OutputError as exc:
        if _from_other_version(check.folder):
            raise
        check.manifest_finding(str(exc).removeprefix(escape_controls(f"{check.folder / manifest.MANIFEST_NAME}: ")))
        return False
    if check.fields["kind"] not in CHECK_BY_KIND:
        raise kinds.wrong_kind_error(check.folder, check.kind, "which verify does not check")
    return True


def _from_other_version(folder: Path) -> bool:
    """Whether a refused manifest is undamaged, and of another version or kind."""
    try:
        found = orjson.loads((folder / manifest.MANIFEST_NAME).read_bytes())
        whole = found.pop("sha256", None) == manifest.digest(found)
        other = found["format_version"] != manifest.FORMAT_VERSION
        return whole and (other or (isinstance(found["kind"], str) and found["kind"] not in kinds.KINDS))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return False


def _run_check(check: FolderCheck, source: str | None, tokenizer: str | None, pool: Executor) -> bool:
    """Run all checks; return whether the output was compared with its shards."""
    if not check.fields:
        return False
    if source is not None and check.why_not_comparable:
        raise OutputError(f"{check.folder}: {check.why_not_comparable}: check it without --deep")
    try:
        check.run(tokenizer, pool)
    # Raised where fields of the manifest have other types than cook writes.
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, ZeroDivisionError) as exc:
        check.manifest_finding(f"its fields are not those that cook writes: {type(exc).__name__}: {exc}")
        return False
    if source is not None:
        shards = _recorded_shards(check, source, pool)
        if not check.readable or check.recipe is None:
            return False
        recorded = check.fields.get("tokenizer")
        check.compare_with_source(
            shards, _recorded_tokenizer(check, check.recipe, tokenizer) if recorded else None, pool
        )
        return True
    if check.recipe is not None and not len(check.findings):
        check.check_plan(check.recipe)
    return False


def _recorded_tokenizer(check: FolderCheck, recipe: Recipe, name: str | None) -> Tokenizer:
    """The tokenizer that a dataset was cooked with. Raises TokenizerError if it is another one."""
    recorded = check.fields["tokenizer"]
    where = f"{check.folder} was cooked with {recorded['name']}, of fingerprint {recorded['fingerprint']}; --tokenizer"
    try:
        place = name or recorded_place(recorded, recipe.cache)
        found = resolve_tokenizer(dataclasses.replace(recipe, tokenizer=place))
    except TokenizerError as exc:
        raise TokenizerError(*exc.lines, f"{where} says where it lies") from exc
    if found.fingerprint != recorded["fingerprint"]:
        raise TokenizerError(
            f"{name or recorded['name']}: is another tokenizer, of fingerprint {found.fingerprint}",
            f"{where} says where it lies",
        )
    check.check_tokenizer(found)
    return found


def _recorded_shards(check: FolderCheck, source: str, pool: Executor) -> list[Shard]:
    """The shards that a dataset was cooked from, matched by name and sha256. Raises SourceError."""
    name, unread = check.fields["dataset"], check.fields.get("unread", [])
    with _OPENING:
        opened = _open_recorded_source(source, check.fields["source"] if check.recipe else {}, bool(unread))
        if name not in opened.names():
            raise SourceError(f"{source}: holds no dataset {name}, which {check.folder} was cooked from")
        there = {shard.name: shard for shard in opened.shards(name)}
    check.expect_equal("unread", unread, unread_field(opened, name).get("unread", []))
    rows = check.fields["inputs"]
    hashed = ordered_results(pool, _with_sha256, ((0, there[row["name"]]) for row in rows if row["name"] in there))
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
        check.expect_equal(f"inputs: {row['name']}: bytes", row["bytes"], shard.size)
    return shards


def _with_sha256(shard: Shard) -> tuple[Shard, str]:
    return shard, shard.sha256 or sha256_of(shard.path)


def _open_recorded_source(source: str, recorded: dict[str, Any], skip: bool) -> Source:
    """Open the source; on the Hub, at the commit in the manifest unless `source` names a revision."""
    address = hub_address(source)
    commit = recorded.get("commit") if address and address[1] is None else None
    return open_source(source, follow_links=True, revision=commit, skip=skip)


def first_findings_per_file(findings: list[Finding], most: int) -> Iterator[Finding]:
    """At most `most` findings of each file, in order."""
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.file] += 1
        if seen[finding.file] <= most:
            yield finding
