"""Write anew what is made from the code and committed.

    python scripts/renew.py cli             docs/cli.md, from `--help`
    python scripts/renew.py fingerprints    tests/data/fingerprints: when other ids, masks or borders are meant
    python scripts/renew.py golden          tests/data/golden, by the reference: when entries are added
    python scripts/renew.py probe           the engines' probe.json, merges.npz: when probe texts or presets change

A test holds each file to the code. The reference engine is Hugging Face tokenizers on a model's `tokenizer.json`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import orjson
import tokenizers
from click.testing import CliRunner

import cook
from cook.cli.app import COMMANDS, main
from cook.core.choices import PACKINGS
from cook.tokenizer.engines import bundled, probe
from cook.tokenizer.engines.hf import HfEngine
from cook.tokenizer.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"


def cli_page() -> str:
    """The text of docs/cli.md."""
    parts = ["# Command line\n\nMade from `--help` by `scripts/renew.py cli`.\n"]
    for words in ([], ["cluster"], *([name] for name in COMMANDS), ["cache", "info"], ["cache", "clear"]):
        help_text = CliRunner().invoke(main, ["help", *words], prog_name="cook", terminal_width=100).stdout
        title = " ".join(["cook", *(["help"] if words == ["cluster"] else []), *words])
        parts.append(f"## {title}\n\n```text\n{help_text.rstrip()}\n```\n")
    return "\n".join(parts)


def cli() -> None:
    """Write docs/cli.md."""
    (ROOT / "docs" / "cli.md").write_text(cli_page(), encoding="utf-8")


def fingerprints() -> None:
    """Cook the sample once a packing, and write `cook fingerprint` of each."""
    for packing in PACKINGS:
        with tempfile.TemporaryDirectory() as folder:
            cook.run(cook.Recipe(datasets="all", tokenizer="llama3", source="sample", packing=packing, output=folder))
            made = orjson.dumps(cook.fingerprint(folder), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        path = DATA / "fingerprints" / f"{packing}.json"
        print(f"{path}: {'as before' if path.exists() and path.read_bytes() == made else 'changed'}")
        path.write_bytes(made)


def golden() -> None:
    """Write the ids of the entries in entries.jsonl, a file a model. A change to an older line means a fault."""
    sys.path.insert(0, str(ROOT / "tests"))
    from reference import MODELS, model_json

    entries = [orjson.loads(line) for line in (DATA / "golden" / "entries.jsonl").read_bytes().splitlines()]
    for name, model in MODELS.items():
        tokenizer = tokenizers.Tokenizer.from_str(model_json(name).decode())
        tokenizer.encode_special_tokens = True
        rows = []
        for entry in entries:
            context = " <CON> " + entry["context"] + " </CON>\n\n"
            pairs = "\n\n".join("<QUE> " + pair["Q"] + " <ANS> " + pair["A"] + " </END>" for pair in entry["QA_list"])
            inputs, outputs = (tokenizer.encode(text, add_special_tokens=False).ids for text in (context, pairs))
            rows.append(
                {"case": entry["case"], "input_ids": model.bos_ids + inputs, "output_ids": [*outputs, model.eos_id]}
            )
        (DATA / "golden" / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        print(f"{name}: {len(rows)} entries")


def probe_files() -> None:
    """Write the ids of the probe texts for each preset, and where each token's last merge joins (`engines.bundled`)."""
    ids, merges = {}, {}
    for name, preset in PRESETS.items():
        if bundled.vocabulary_fingerprint(preset) != preset.fingerprint:
            raise SystemExit(f"{name}: the fingerprint in the code is not that of the bundled vocabulary")
        document = bundled.tokenizer_json(preset)
        ids[name] = probe.probe_ids(HfEngine(document))
        merges[name] = bundled.final_merge_positions(orjson.loads(document))
    folder = Path(probe.__file__).parent
    (folder / "probe.json").write_bytes(orjson.dumps(ids) + b"\n")
    np.savez_compressed(folder / "merges.npz", **merges)
    print(f"{folder}: {sum(len(rows) for rows in ids.values())} texts")


WHAT = {"cli": cli, "fingerprints": fingerprints, "golden": golden, "probe": probe_files}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    WHAT[parser.parse_args().what]()
