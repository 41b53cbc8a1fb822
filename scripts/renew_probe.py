"""Write src/cook/engines/probe.json: the ids of the probe texts for each preset, by the reference engine.

    python scripts/renew_probe.py

Run it when probe texts or presets change. The reference is Hugging Face tokenizers on the preset's tokenizer.json.
"""

from pathlib import Path

import orjson

import cook.engines
from cook.engines.bundled import PRESETS, tokenizer_json, vocabulary_fingerprint
from cook.engines.hf import HfEngine
from cook.engines.probe import probe_ids


def main() -> None:
    """Write the file, and check the fingerprints that stand in the code."""
    table = {}
    for name, preset in PRESETS.items():
        if vocabulary_fingerprint(preset) != preset.fingerprint:
            raise SystemExit(f"{name}: the fingerprint in the code is not that of the bundled vocabulary")
        table[name] = probe_ids(HfEngine(tokenizer_json(preset)))
    path = Path(cook.engines.__file__).with_name("probe.json")
    path.write_bytes(orjson.dumps(table) + b"\n")
    print(f"{path}: {sum(len(rows) for rows in table.values())} texts")


if __name__ == "__main__":
    main()
