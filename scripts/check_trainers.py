"""Hold exports of the bundled sample against the trainers' own loaders, each in an environment of its own.

    python scripts/check_trainers.py [--venvs DIR] [TARGET ...]

For each target a virtual environment is made under DIR, once, with the trainer at the version below; then the script
of that name in scripts/trainers/ loads an export with the trainer's own functions, and compares the labels that
reach the model, after its collator, with what was cooked and with its text. Needs a package index; no GPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from cook import Recipe, export, read_cooked, run
from cook.tokenizer.loading import reference_engine, resolve_recorded

SCRIPTS = Path(__file__).resolve().parent / "trainers"


class Trainer(NamedTuple):
    """What is installed: with what it depends on, and then alone."""

    script: str
    packages: tuple[str, ...]
    packages_without_dependencies: tuple[str, ...] = ()


TRAINERS = {
    "torchtune": Trainer("check_torchtune.py", ("torch==2.13.0", "torchtune==0.6.1", "torchao==0.9.0")),
    "olmo-core": Trainer("check_olmo_core.py", ("torch==2.13.0", "ai2-olmo-core==3.0.0")),
    "llama-factory": Trainer(  # without its web interface
        "check_llama_factory.py",
        (
            *(
                "torch==2.13.0",
                "transformers==5.6.0",
                "peft==0.18.1",
                "datasets==4.0.0",
                "accelerate==1.11.0",
                "trl==0.24.0",
            ),
            *("omegaconf", "pandas", "einops", "pillow", "sentencepiece", "tiktoken", "pydantic", "fire", "protobuf"),
            *("scipy", "av"),
        ),
        ("llamafactory==0.9.5", "torchdata==0.11.0"),
    ),
    "axolotl": Trainer(  # without its kernels, which need a GPU
        "check_axolotl.py",
        (
            *(
                "torch==2.13.0",
                "transformers==5.16.1",
                "datasets==4.8.4",
                "accelerate==1.13.0",
                "trl==1.9.0",
                "peft==0.20.0",
            ),
            *("addict", "fire", "colorama", "python-dotenv", "pydantic==2.12.5", "einops"),
            *("httpx", "posthog", "wandb", "nvidia-ml-py", "numba"),
        ),
        ("axolotl==0.19.0",),
    ),
    # No release has its reader of Parquet: put src/ of its repository on PYTHONPATH (067f987, its 0.7.0, was checked).
    "megatron-bridge": Trainer(
        "check_megatron_bridge.py",
        ("torch==2.13.0", "megatron-core==0.16.1", "transformers<5", "omegaconf", "datasets", "pyarrow"),
    ),
}


def ensure_environment(folder: Path, trainer: Trainer) -> Path:
    """The Python of a trainer's environment, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for packages, more in ((trainer.packages, ()), (trainer.packages_without_dependencies, ("--no-deps",))):
            if packages:
                subprocess.run([str(python), "-m", "pip", "install", "-q", *more, *packages], check=True)
    return python


def expected_examples(folder: Path) -> dict:
    """What must be trained: each example's ids, and those of its output with the text that they decode to."""
    cooked = read_cooked(folder)
    tokenizer = cooked.manifest["tokenizer"]
    engine = reference_engine(resolve_recorded(tokenizer, None))
    examples = []
    for row in cooked.sequences():
        at = 0
        for length in row.seq_lengths.tolist():
            ids, mask = row.input_ids[at : at + length], row.loss_mask[at : at + length]
            trained = ids[mask == 1].tolist()
            text = engine.decode(trained)
            assert text.startswith("<QUE>"), text
            assert text.endswith("</END>" + tokenizer["eos"]), text
            examples.append({"ids": ids.tolist(), "trained": trained, "text": text})
            at += length
    facts = {key: tokenizer[key] for key in ("vocab_size", "bos_id", "eos_id", "pad_id")}
    return {"examples": examples, "max_length": cooked.manifest["recipe"]["max_length"], **facts}


def main() -> int:
    """Check the targets named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TRAINERS)}  [all]")
    parser.add_argument("--venvs", type=Path, default=Path(".trainers"), help="where environments are kept")
    settings = parser.parse_args()
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run(Recipe(datasets="squad", tokenizer="llama3", source="sample", output=root / "root", max_length=512))
        (root / "truth.json").write_text(json.dumps(expected_examples(root / "root" / "squad")), encoding="utf-8")
        for target in settings.targets or TRAINERS:
            trainer = TRAINERS[target]
            made = export(root / "root" / "squad", target, root / target)
            print(f"{target}: {' '.join(trainer.packages + trainer.packages_without_dependencies)}", flush=True)
            try:
                python = ensure_environment(settings.venvs.resolve() / target, trainer)
                command = [str(python), str(SCRIPTS / trainer.script), str(made.folder), str(root / "truth.json")]
                verdicts[target] = subprocess.run(command, check=False).returncode == 0
            except subprocess.CalledProcessError as exc:
                print(f"cannot be installed: {exc}")
                verdicts[target] = False
    for target, right in verdicts.items():
        print(f"{target}: {'ok' if right else 'FAILED'}")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
