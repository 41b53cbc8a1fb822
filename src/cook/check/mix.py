"""Mixes against their manifests: rows as of any sequences, the amount from each dataset, their order, and the card."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Executor
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from cook.check.sequences import SequenceCheck, mask_rule
from cook.core.errors import CookError
from cook.pack import mix_plan
from cook.shapes.protocol import MaskRule
from cook.store import dataset_card
from cook.store.manifest import MANIFEST_NAME


class MixCheck(SequenceCheck):
    """The check of a mix."""

    own_files = frozenset((MANIFEST_NAME, dataset_card.CARD_NAME))

    def run(self, tokenizer: str | None, pool: Executor) -> None:  # noqa: ARG002 - only its datasets have a recipe
        """Check files, card, rows, and the amounts and order of the datasets."""
        self.check_files(pool)
        self._check_card()
        self.check_special_ids()
        self.check_rows(pool)
        if not self.readable:
            return
        try:
            self._check_mix_rows()
        except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError, CookError) as exc:
            self.manifest_finding(f"its fields are not those that cook writes: {type(exc).__name__}: {exc}")

    def row_limits(self) -> tuple[dict[str | None, int], dict[str | None, MaskRule], int | None]:
        """Length limits and mask rules by dataset; the number of shards is not known."""
        sources = self.fields["sources"]
        return (
            {row["name"]: row["max_length"] for row in sources},
            {row["name"]: mask_rule(row) for row in sources},
            None,
        )

    def _check_card(self) -> None:
        path = self.folder / dataset_card.CARD_NAME
        there = path.read_bytes() if path.exists() else None
        if there != dataset_card.render_mix_card(self.fields).encode():
            self.findings.note(path.name, None, "is not the card that cook wrote with this mix")

    def _check_mix_rows(self) -> None:
        """Compare the dataset of each row with the amounts and the stream that the settings of the mix give."""
        fields = self.fields
        names = [row["name"] for row in fields["sources"]]
        self.expect_equal("datasets", sorted(fields["datasets"]), sorted(names))
        sizes = np.concatenate([self.sizes[name] for name in self.names])
        rows = self.first_rows[self.examples["file"]] + self.examples["row"]
        trained = np.bincount(rows, self.examples["trained"], len(sizes)).astype(np.int64)
        number = {name: index for index, name in enumerate(names)}
        of = np.array([number[name] for name in self.datasets])
        rows_of = fields["datasets"]
        held = [rows_of[name]["held"]["sequences"] for name in names]
        mix_settings = fields["mix"]
        # A dataset of weight 0 is not among the sources.
        weights = {name: weight for name, weight in mix_settings["weights"].items() if name in names}
        settings = mix_plan.check_settings(
            weights, mix_settings["sequences"], mix_settings["seed"], mix_settings["split"], None, names
        )
        factors = [settings.weights.get(name, Fraction(1)) for name in names]
        asked, given = mix_plan.allocate_sequences(held, factors, settings.sequences)
        total = Counter[str]()
        for index, name in enumerate(names):
            mine = of == index
            got = {
                "sequences": int(mine.sum()),
                "tokens": int(sizes[mine].sum()),
                "trained_tokens": int(trained[mine].sum()),
            }
            total.update(got)
            self.expect_equal(f"datasets.{name}.given", rows_of[name]["given"], got)
            self.expect_equal(f"datasets.{name}.given.sequences", rows_of[name]["given"]["sequences"], given[index])
            amounts = {
                key: round(float(asked[index] * amount / held[index]), 3)
                for key, amount in rows_of[name]["held"].items()
            }
            self.expect_equal(f"datasets.{name}.asked", rows_of[name]["asked"], amounts)
        self.expect_equal("counts", fields["counts"], dict(total))
        if len(of) == sum(given):
            stream = mix_plan.plan_stream(names, held, given, settings.seed)
            self._check_stream(names, of, np.searchsorted(np.cumsum(held), stream, side="right"))

    def _check_stream(self, names: list[str], of: npt.NDArray[np.int64], expected: npt.NDArray[np.int64]) -> None:
        """Note the first row whose dataset, by its index in `names`, is not the expected one."""
        for row in np.flatnonzero(expected != of)[:1].tolist():
            file = int(np.searchsorted(self.first_rows, row, side="right")) - 1
            what = f"its dataset is {names[of[row]]}; expected {names[expected[row]]}, by settings and seed"
            self.findings.note(self.names[file], row - int(self.first_rows[file]), what)
