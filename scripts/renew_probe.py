"""Write src/cook/tokenizer/engines/probe.json and merges.npz.

The first has the ids of the probe texts for each preset, by the reference engine; the second, for each token of a
preset, where the merge that makes it joins (see `cook.tokenizer.engines.bundled`).

    python scripts/renew_probe.py

Run it when probe texts or presets change. The reference is Hugging Face tokenizers on the preset's tokenizer.json.
"""

from pathlib import Path

import numpy as np
import orjson

import cook.tokenizer.engines
from cook.tokenizer.engines.bundled import last_merges, tokenizer_json, vocabulary_fingerprint
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.engines.probe import probe_ids
from cook.tokenizer.presets import PRESETS


def main() -> None:
    """Write the file, and check the fingerprints that stand in the code."""
    table, cuts = {}, {}
    for name, preset in PRESETS.items():
        if vocabulary_fingerprint(preset) != preset.fingerprint:
            raise SystemExit(f"{name}: the fingerprint in the code is not that of the bundled vocabulary")
        document = tokenizer_json(preset)
        table[name] = probe_ids(HfEngine(document))
        cuts[name] = last_merges(orjson.loads(document))
    path = Path(cook.tokenizer.engines.__file__).with_name("probe.json")
    path.write_bytes(orjson.dumps(table) + b"\n")
    np.savez_compressed(path.with_name("merges.npz"), **cuts)
    print(f"{path}: {sum(len(rows) for rows in table.values())} texts")


if __name__ == "__main__":
    main()
