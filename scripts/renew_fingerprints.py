"""Write tests/data/fingerprints.json and sample.fingerprint.json anew: what the sample is cooked to.

    python scripts/renew_fingerprints.py

Run it when a change of ids, masks or boundaries is meant, and say why in the commit.
"""

import sys
import tempfile
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from commands.test_diff import GOLDEN
from cook import Recipe, fingerprint, run
from end_to_end.test_regression import FILE, PACKINGS, fingerprints


def main() -> None:
    """Cook the sample once a strategy."""
    with tempfile.TemporaryDirectory() as folder:
        made = {packing: fingerprints(packing, Path(folder) / packing) for packing in PACKINGS}
    old = orjson.loads(FILE.read_bytes()) if FILE.exists() else {}
    FILE.write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    changed = [f"{p}/{name}" for p, found in made.items() for name in found if old.get(p, {}).get(name) != found[name]]
    with tempfile.TemporaryDirectory() as folder:
        run(Recipe(datasets="all", tokenizer="llama3", source="sample", output=folder))
        GOLDEN.write_bytes(orjson.dumps(fingerprint(folder), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print(f"{FILE}: {len(changed)} changed {' '.join(changed)}")


if __name__ == "__main__":
    main()
