"""Write tests/data/golden/MODEL.jsonl: the ids that the reference gives for the entries in entries.jsonl.

    python scripts/renew_golden.py [MODEL=tokenizer.json …]

The reference is Hugging Face tokenizers on each model's tokenizer.json: the files named, else those that
tests/reference.py rebuilds. Run it when entries are added; a change to an older line means that something is wrong.
"""

import sys
from pathlib import Path

import orjson
import tokenizers

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from reference import MODELS, model_json  # noqa: E402 - found through the path set above


def main() -> None:
    """Write a file a model."""
    named = dict(argument.split("=", 1) for argument in sys.argv[1:])
    golden = ROOT / "tests" / "data" / "golden"
    entries = [orjson.loads(line) for line in (golden / "entries.jsonl").read_bytes().splitlines()]
    for name, model in MODELS.items():
        data = Path(named[name]).read_bytes() if name in named else model_json(name)
        tokenizer = tokenizers.Tokenizer.from_str(data.decode())
        tokenizer.encode_special_tokens = True
        rows = []
        for entry in entries:
            context = " <CON> " + entry["context"] + " </CON>\n\n"
            pairs = "\n\n".join("<QUE> " + pair["Q"] + " <ANS> " + pair["A"] + " </END>" for pair in entry["QA_list"])
            inputs, outputs = (tokenizer.encode(text, add_special_tokens=False).ids for text in (context, pairs))
            rows.append(
                {"case": entry["case"], "input_ids": model.bos_ids + inputs, "output_ids": [*outputs, model.eos_id]}
            )
        (golden / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        print(f"{name}: {len(rows)} entries")


if __name__ == "__main__":
    main()
