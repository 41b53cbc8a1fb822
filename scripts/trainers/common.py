"""What the checks share: the truth of an export's source, and the comparison. Run in a trainer's own environment.

    python scripts/trainers/check_TARGET.py EXPORT TRUTH

TRUTH is a JSON file of what must be trained: for each example its ids, and the ids that bear loss with the text that
they decode to; `scripts/check_trainers.py` makes it, beside the export.
"""

import json
import sys
from pathlib import Path


def arguments():
    """The export's folder, and the truth."""
    folder, truth = sys.argv[1:3]
    return Path(folder), json.loads(Path(truth).read_text(encoding="utf-8"))


def compare(batches, truth, shifted=False):
    """Hold what reaches a model against the truth; print the verdict, and exit with 1 if they differ.

    `batches` are pairs of ids and labels, lists of one row; labels are of their own token, or of the next if `shifted`.
    What precedes each trained token must be what precedes it in its example.
    """
    found, known = [], []
    for ids, labels in batches:
        for at, label in enumerate(labels):
            if label != -100:
                before = ids[at] if shifted else ids[at - 1]
                found.append((before, label))
                if not shifted and ids[at] != label:
                    sys.exit(f"FAILED: a label at its own place is not its token: {ids[at]} {label}")
    for example in truth["examples"]:
        at = len(example["ids"]) - len(example["trained"])
        known += [(example["ids"][at + i - 1], token) for i, token in enumerate(example["trained"])]
    if sorted(found) != sorted(known):
        missing = len(known) - len(found)
        sys.exit(f"FAILED: {len(found)} trained tokens, {len(known)} expected ({missing:+} missing), or others")
    print(f"ok: {len(found)} trained tokens of {len(truth['examples'])} examples, each after the token it follows")


def runs(labels):
    """The runs of labels that bear loss, each a list of ids: what was decoded to the pairs' text."""
    found, current = [], []
    for label in [*labels, -100]:
        if label != -100:
            current.append(label)
        elif current:
            found.append(current)
            current = []
    return found


def compare_runs(rows, truth):
    """Each run of labels is one output of the truth, whole: whose text, decoded, is that of the pairs."""
    texts = {tuple(example["trained"]): example["text"] for example in truth["examples"]}
    found = [run for labels in rows for run in runs(labels)]
    unknown = [run for run in found if tuple(run) not in texts]
    if unknown or len(found) != len(truth["examples"]):
        sys.exit(f"FAILED: {len(unknown)} of {len(found)} runs are not outputs; {len(truth['examples'])} expected")
    print(f"ok: {len(found)} runs of labels, each one output; the first reads {texts[tuple(found[0])][:60]!r}")
