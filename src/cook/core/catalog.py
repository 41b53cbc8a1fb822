"""The 35 datasets of the fine-tuning collection, and how a dataset's name is looked up and kept safe.

The names are the folders of `instruction-pretrain/ft-instruction-synthesizer-collection` on the Hugging Face Hub. Its
published list of names lacks two commas, which in Python joins WikiTableQuestions with Quac and qasper with
PubMedQA_no_opt; the table below has all 35. Licences are those that the authors of each source state; `docs/licences.md`
says where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from cook.core.errors import RecipeError, name_some, suggestion

HUB_COLLECTION = "instruction-pretrain/ft-instruction-synthesizer-collection"


class CatalogRow(NamedTuple):
    """A dataset of the collection, with what its source's licence asks of whoever passes it on."""

    name: str
    licence: str
    obligations: str
    homepage: str


# fmt: off
CATALOG = (
    CatalogRow("squad", "CC BY-SA 4.0", "attribution, share alike", "https://rajpurkar.github.io/SQuAD-explorer/"),
    CatalogRow("TopiOCQA", "CC BY-NC-SA 4.0", "attribution, non-commercial, share alike", "https://mcgill-nlp.github.io/topiocqa/"),
    CatalogRow("HotpotQA", "CC BY-SA 4.0", "attribution, share alike", "https://hotpotqa.github.io/"),
    CatalogRow("WikiTableQuestions", "CC BY-SA 4.0", "attribution, share alike", "https://github.com/ppasupat/WikiTableQuestions"),
    CatalogRow("Quac", "CC BY-SA 4.0", "attribution, share alike", "https://quac.ai/"),
    CatalogRow("QED", "CC BY-SA 3.0", "attribution, share alike (stated for the Wikipedia text)", "https://github.com/google-research-datasets/QED"),
    CatalogRow("FairyTaleQA", "Apache 2.0", "keep the licence and notices, mark changes", "https://github.com/uci-soe/FairytaleQAData"),
    CatalogRow("mctest", "Microsoft Research licence", "Microsoft Research terms: read them; non-commercial research as far as known; cite the paper", "https://mattr1.github.io/mctest/"),
    CatalogRow("NarrativeQA", "Apache 2.0", "keep the licence and notices, mark changes", "https://github.com/google-deepmind/narrativeqa"),
    CatalogRow("race", "RACE terms", "non-commercial research only; no copying or exploiting for commercial purposes", "https://www.cs.cmu.edu/~glai1/data/race/"),
    CatalogRow("race_c", "non-commercial research", "non-commercial research only", "https://github.com/mrcdata/race-c"),
    CatalogRow("ReClor", "not stated", "not stated: ask the authors (data given out through their request form)", "https://whyu.me/reclor/"),
    CatalogRow("LogiQA", "not stated", "not stated: ask the authors", "https://github.com/lgw863/LogiQA-dataset"),
    CatalogRow("AQUA_RAT_yes_opt", "Apache 2.0", "keep the licence and notices, mark changes", "https://github.com/google-deepmind/AQuA"),
    CatalogRow("TriviaQA", "Apache 2.0", "keep the licence and notices, mark changes; questions and documents are others' copyright", "https://nlp.cs.washington.edu/triviaqa/"),
    CatalogRow("CosmosQA", "CC BY 4.0", "attribution", "https://wilburone.github.io/cosmos/"),
    CatalogRow("ECQA", "CDLA-Sharing-1.0", "attribution, share data under the same licence", "https://github.com/dair-iitd/ECQA-Dataset"),
    CatalogRow("NLQuAD", "CC BY-NC", "attribution, non-commercial and academic use", "https://github.com/ASoleimaniB/NLQuAD"),
    CatalogRow("NewsQA", "MIT (code)", "keep the notice; CNN keeps all rights in the articles: get them from their source", "https://www.microsoft.com/en-us/research/project/newsqa-dataset/"),
    CatalogRow("tweet_qa", "CC BY-SA 4.0", "attribution, share alike", "https://tweetqa.github.io/"),
    CatalogRow("quail", "CC BY-NC-SA 4.0", "attribution, non-commercial, share alike", "https://github.com/text-machine-lab/quail"),
    CatalogRow("dream", "non-commercial research", "non-commercial research only", "https://dataset.org/dream/"),
    CatalogRow("multirc", "UIUC research and academic", "academic and research use only, keep the notices, tell the university of derivatives you distribute", "https://cogcomp.seas.upenn.edu/multirc/"),
    CatalogRow("ROPES", "CC BY 4.0", "attribution", "https://allenai.org/data/ropes"),
    CatalogRow("QuaRTz", "CC BY 4.0", "attribution", "https://allenai.org/data/quartz"),
    CatalogRow("CoQA", "mixed, by passage", "by passage: CC-BY-SA-4.0 (literature, Wikipedia), MSR-LA (MCTest stories), RACE terms (exams), Apache-2.0 (CNN news)", "https://stanfordnlp.github.io/coqa/"),
    CatalogRow("DoQA", "CC BY-SA 4.0", "attribution, share alike", "http://ixa.eus/node/12931"),
    CatalogRow("qasper", "CC BY 4.0", "attribution", "https://allenai.org/data/qasper"),
    CatalogRow("PubMedQA_no_opt", "MIT", "keep the notice", "https://pubmedqa.github.io/"),
    CatalogRow("PubMedQA_yes_opt", "MIT", "keep the notice", "https://pubmedqa.github.io/"),
    CatalogRow("COVID_QA", "Apache 2.0", "keep the licence and notices, mark changes", "https://github.com/deepset-ai/COVID-QA"),
    CatalogRow("ConvFinQA", "MIT", "keep the notice", "https://github.com/czyssrs/ConvFinQA"),
    CatalogRow("SpartQA", "MIT", "keep the notice", "https://github.com/HLR/SpartQA_generation"),
    CatalogRow("bAbI", "CC BY 3.0", "attribution", "https://github.com/facebookarchive/bAbI-tasks"),
    CatalogRow("QASC", "CC BY 4.0", "attribution", "https://allenai.org/data/qasc"),
)
# fmt: on
CITATION = """\
@inproceedings{cheng-etal-2024-instruction,
  title = "Instruction Pre-Training: Language Models are Supervised Multitask Learners",
  author = "Cheng, Daixuan and Gu, Yuxian and Huang, Shaohan and Bi, Junyu and Huang, Minlie and Wei, Furu",
  booktitle = "Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing",
  year = "2024",
  pages = "2529--2550",
  url = "https://aclanthology.org/2024.emnlp-main.148",
  doi = "10.18653/v1/2024.emnlp-main.148",
}"""

CATALOG_BY_NAME = {dataset.name: dataset for dataset in CATALOG}


def licence_of(name: str, source_kind: str) -> CatalogRow | None:
    """What is known of the licence of a dataset from a kind of source; None: nothing.

    The bundled sample has the names of datasets, and texts that were written for cook.
    """
    if source_kind == "sample":
        return CatalogRow(name, "MIT", "keep the notice", "")
    return CATALOG_BY_NAME.get(name)


ALIASES = {"AQUA_RAT": "AQUA_RAT_yes_opt"}  # the Hub's own alias
ALL_DATASETS = "all"
# What a folder, a configuration of `datasets` and a glob can all be named.
RESERVED_NAMES = re.compile(
    r"readme\.md|cook\.json|all|.*\.(?:lock|old)", re.IGNORECASE
)  # names that cook needs for itself
_UNSAFE = re.compile(r"""[\x00-\x1f\x7f\ud800-\udfff<>:"/\\|?*\[\]{}]|^[.\s-]|[.\s]$""")


def is_safe(name: str) -> bool:
    """Whether a folder of cook's may have that name: one folder of that name, never another place.

    >>> [is_safe(name) for name in ("squad", "my set", "../x", ".", "/etc", "a/b", "")]
    [True, True, False, False, False, False, False]
    """
    return 0 < len(name.encode(errors="replace")) <= 128 and not _UNSAFE.search(name)


def is_dataset_name(name: str) -> bool:
    """Whether a dataset may have that name: a safe one that means nothing else to cook.

    >>> [is_dataset_name(name) for name in ("squad", "all", "cook.json", "README.md")]
    [True, False, False, False]
    """
    return is_safe(name) and not RESERVED_NAMES.fullmatch(name)


def select_datasets(wanted: Iterable[str], available: Iterable[str]) -> list[str]:
    """The datasets meant by the names `wanted`, of those that a source holds; each once, in the order asked for.

    Names match without regard to case, an exact match first; `all` is every one held, in bytewise order. Raises
    RecipeError, with the nearest names, for all names that match none.
    """
    available = sorted(available, key=str.encode)
    folded: dict[str, str] = {}
    for name in available:
        folded.setdefault(name.lower(), name)
    exact = {name: name for name in available}
    chosen: dict[str, None] = {}
    problems = []
    for name in wanted:
        if name.lower() == ALL_DATASETS and name not in exact:
            chosen |= dict.fromkeys(available)
            continue
        alias = next((full for short, full in ALIASES.items() if short.lower() == name.lower()), name)
        found = exact.get(name) or folded.get(name.lower()) or folded.get(alias.lower())
        same = [other for other in available if other.lower() == name.lower()]
        if name not in exact and len(same) > 1:
            problems.append(f"datasets: {name}: is {' or '.join(same)}? They differ in case alone; write the one meant")
        elif found:
            chosen[found] = None
        else:
            problems.append(_unknown_name_problem(name, available))
    if problems:
        raise RecipeError(*problems)
    return list(chosen)


def _unknown_name_problem(name: str, held: list[str]) -> str:
    if RESERVED_NAMES.fullmatch(name):
        return f"datasets: {name}: is a name that cook needs for itself: rename the folder"
    if not is_dataset_name(name):
        return f"datasets: {name!r} cannot name a dataset: it is a folder's name, without a path"
    if "," in name:
        return f"datasets: {name}: is not one name; repeat --dataset, or list them in a recipe"
    known = {n.lower(): n for n in (*CATALOG_BY_NAME, *ALIASES)}
    if name.lower() in known:
        return f"datasets: {name}: is in the catalog, but this source does not hold it; it holds {_list_names(held)}"
    hint = suggestion(name, held, 2) or f"this source holds {_list_names(held)}"
    return f"datasets: {name}: no dataset of that name; {hint}"


def _list_names(names: list[str]) -> str:
    return name_some(names, 8) or "none"
