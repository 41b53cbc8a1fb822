"""The part of a check that all kinds of outputs share: the files of a folder against its manifest.

Each kind has a subclass: `sequences`, `mix`, `corpus`, `synthesis`.
"""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson

from cook.check.rows import Findings
from cook.core import records
from cook.core.recipe import Recipe
from cook.core.records import entry_keys
from cook.encode import left_out
from cook.executors.local import ordered_results
from cook.read.source import Shard
from cook.store import columns, kinds, manifest
from cook.store.outputs import file_fault
from cook.tokenizer.loading import Tokenizer


class FolderCheck:
    """The check of one output folder. Findings are collected; see `run`, `check_plan` and `compare_with_source`."""

    own_files: ClassVar[frozenset[str]] = frozenset((manifest.MANIFEST_NAME,))
    """Files that cook writes into the folder and that the manifest does not list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fields: dict[str, Any] = {}
        """The manifest; empty if it could not be read."""
        self.findings = Findings()
        self.recipe: Recipe | None = None
        self.readable = True
        """Whether all files could be read. If not, sums are not checked."""
        self.damaged: set[str] = set()
        """Names of files whose size or hash is wrong. Their rows are not read."""
        self.names: list[str] = []
        """The name of each file whose rows are checked."""
        self.skipped = np.empty(0, records.SKIPPED_RECORD_DTYPE)
        """The rows of skipped.jsonl."""

    @property
    def kind(self) -> kinds.Kind:
        """The kind of the manifest; a dataset's if the manifest could not be read."""
        return kinds.kind_of(self.fields or {"kind": kinds.DATASET})

    @property
    def why_not_comparable(self) -> str:
        """Why it cannot be compared with shards; empty if it can."""
        return self.kind.why_not_comparable

    def run(self, tokenizer: str | None, pool: Executor) -> None:
        """Check what the folder alone can tell, except the plan."""
        raise NotImplementedError

    def contents(self) -> dict[str, int]:
        """The amounts that were read, by nouns in the plural."""
        return {}

    def check_plan(self, recipe: Recipe) -> None:
        """Compare the order of sequences with the plan that the recipe gives. Texts and lines have no plan."""

    def compare_with_source(self, shards: list[Shard], tokenizer: Tokenizer | None, pool: Executor) -> None:  # noqa: ARG002
        """Compare the output with its shards; differences become findings. Not called if `why_not_comparable`."""
        raise AssertionError(f"nothing compares {self.kind.noun} with shards")

    def manifest_finding(self, what: str) -> None:
        """Add a finding on the manifest."""
        self.findings.note(manifest.MANIFEST_NAME, None, what)

    def expect_equal(self, where: str, is_now: Any, expected: Any) -> None:
        """Add a finding if a field of the manifest differs from what was found, in value or type."""
        if is_now != expected or type(is_now) is not type(expected):
            self.manifest_finding(f"{where} is {is_now!r}; expected {expected!r}")

    def check_files(self, pool: Executor) -> None:
        """Check sizes and hashes of the files in the manifest, and that the folder holds no other files."""
        outputs = self.fields["outputs"]
        jobs = ((0, (self.folder / row["name"], row)) for row in outputs)
        for (_, (_, row)), fault in ordered_results(pool, _job_fault, jobs):
            self.note_damage(row["name"], fault)
        expected = self.own_files | {row["name"] for row in outputs}
        deep = self.kind.has_subfolders
        for path in sorted(self.folder.rglob("*") if deep else self.folder.iterdir()):
            name = path.relative_to(self.folder).as_posix()
            if name not in expected and not path.name.startswith(".") and not (deep and path.is_dir()):
                self.findings.note(name, None, "is here; expected only the files that the manifest names")

    def row_files(self) -> list[dict[str, Any]]:
        """The manifest's rows of the files of splits."""
        return [output for output in self.fields["outputs"] if output["name"] != kinds.SKIPPED_NAME]

    def check_file_names(self, suffix: str) -> None:
        """Check the names of the files of each split."""
        by_split: dict[str, list[str]] = {}
        for output in self.row_files():
            by_split.setdefault(str(output.get("split")), []).append(output["name"])
        for split, names in by_split.items():
            expected = columns.file_names(len(names), split, suffix)
            if names != expected:
                what = f"outputs: of split {split} are {', '.join(names[:3])}; expected {', '.join(expected[:3])}"
                self.manifest_finding(what)

    def note_damage(self, name: str, fault: str) -> None:
        """Add a finding on a damaged file; nothing if `fault` is empty."""
        if fault:
            self.findings.note(name, None, fault)
            self.damaged.add(name)
            self.readable = False

    def check_tokenizer(self, found: Tokenizer) -> None:
        """Compare the tokenizer of the manifest with the tokenizer itself."""
        recorded = self.fields["tokenizer"]
        for field in ("vocab_size", "bos", "bos_id", "eos", "eos_id", "pad_id", "unk_id"):
            self.expect_equal(f"tokenizer.{field}", recorded.get(field), getattr(found, field))
        self.expect_equal("tokenizer.special_ids", recorded["special_ids"], [i for _, i in found.specials])

    def check_settings_sealed(self, recipe: Recipe) -> None:
        """Check that the manifest's recipe is what cook writes for these settings."""
        recorded = {key: value for key, value in self.fields["recipe"].items() if key != "splits"}
        written = (orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in (recipe.determining(), recorded))
        if len(set(written)) > 1:
            what = "expected every setting that determines bytes, in the form that cook writes it"
            self.manifest_finding(f"recipe: {what}")

    def entry_location(self, shard: int, line: int) -> str:
        """An entry as SHARD:LINE."""
        inputs = self.fields["inputs"]
        return f"{inputs[shard]['name'] if 0 <= shard < len(inputs) else shard}:{line}"

    def check_skipped(self, recipe: Recipe) -> None:
        """Check the rows of skipped.jsonl, and their sums in the manifest."""
        name, counts = kinds.SKIPPED_NAME, self.fields["counts"]
        shards = {row["name"]: index for index, row in enumerate(self.fields["inputs"])}
        for output in self.fields["outputs"]:
            if output["name"] == name:
                self.skipped, wrong = left_out.read_skipped(self.folder / name, shards, recipe)
                for number, what in wrong:
                    self.findings.note(name, number, f"{what}; expected a row as cook writes it")
                self.readable &= not wrong
                self.expect_equal(f"outputs: {name}: rows", output["rows"], len(self.skipped) + len(wrong))
        order = entry_keys(self.skipped["shard"], self.skipped["line"])
        if (np.diff(order) < 0).any():
            self.findings.note(name, int(np.flatnonzero(np.diff(order) < 0)[0]) + 2, "expected the order of the shards")
        for key, there in records.skipped_counts(*records.count_skipped(self.skipped)).items():
            self.expect_equal(f"counts.{key}", counts[key], there)


def _job_fault(job: tuple[Path, dict[str, Any]]) -> str:
    return file_fault(*job)
