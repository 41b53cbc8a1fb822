"""A regression anyone can read: the sample, cooked with each strategy, against committed fingerprints.

`python scripts/renew_fingerprints.py` renews them, when a change of ids, masks or boundaries is meant.
"""

import hashlib
from pathlib import Path

import numpy as np
import orjson
import pytest

from cook import Recipe, read_cooked, run
from cook.core.recipe import PACKINGS

FILE = Path(__file__).parents[1] / "data" / "fingerprints.json"


def fingerprint(folder: Path) -> str:
    """sha256 of the ids, masks, labels and boundaries of all sequences; of nothing that a library's version changes."""
    digest = hashlib.sha256()
    for row in read_cooked(folder).sequences():
        for field in row[:6]:
            digest.update(np.int64(len(field)).tobytes() + field.astype("<i4").tobytes())
    return digest.hexdigest()


def fingerprints(packing: str, root: Path) -> dict[str, str]:
    """The fingerprint of each dataset of the sample."""
    recipe = Recipe(datasets="all", tokenizer="llama3", source="sample", packing=packing, max_length=1024, output=root)
    return {result.name: fingerprint(result.folder) for result in run(recipe).results}


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_sample_is_cooked_as_before(packing, tmp_path):
    assert fingerprints(packing, tmp_path) == orjson.loads(FILE.read_bytes())[packing]
