"""cook: question-answer data over contexts -> packed training sequences with loss masks, on disk, for any base model.

Packages, in the way of the data; each imports only from those below it (`tests/docs/test_layers.py` holds the table):

    core        errors, results, records, the recipe, templates, files on disk, cache, progress
    read        where shards come from (a folder, the sample, the Hub, ModelScope)  -> shard files, and their lines
    store       results on disk: kinds, columns, Parquet, manifest, card, staging; and back
    executors   local processes and Dask's workers, which run picklable functions
      |
    tokenizer   a name -> special ids, and an engine that gives ids of texts, and back
    pack        example lengths -> plan: which examples make which sequence; splits; mixes       (sees lengths only)
      |
    shapes      a record -> the texts of an example; what is too long -> several that fit
    trainers    sequences as trainers read them: a small writer a trainer; `load` and `Collator` from Python
      |
    encode      shards -> ids in spool files, one part of a shard a job; what was left out, and why
    synthesis   a trained synthesizer's prompts, and its answers back into shards; generation is another's
      |
    pipeline    one dataset through the stages; recipe -> its datasets over an executor -> summary; a mix
      |
    corpora     contexts with their pairs as plain text in many styles, for pre-training; text or sequences
      |
    check       verify: findings; diff: what changed, in words; fingerprints
    views       a sequence in the terminal (show), all of an output as a page (report)
      |
    cli         parse, call one library function, print

    >>> from cook import Recipe, run
    >>> summary = run(Recipe(datasets="squad", tokenizer="llama3", source="sample", output=tmp))  # doctest: +SKIP

does from Python what `cook --dataset squad --tokenizer llama3 --source sample` does from a shell.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cook._version import __version__
    from cook.check.comparison import Difference, diff
    from cook.check.fingerprints import fingerprint
    from cook.check.rows import Finding
    from cook.check.verifier import Checked, Verified, verify
    from cook.core.errors import (
        BadLines,
        CookError,
        InputError,
        OutputError,
        OutputExists,
        Problem,
        RecipeError,
        SeveralFailed,
        SourceError,
        TokenizerError,
        TooLong,
    )
    from cook.core.recipe import Recipe, read_config
    from cook.core.results import Result, Summary
    from cook.corpora.making import make_corpus
    from cook.corpora.recipe import CorpusRecipe
    from cook.corpora.styles import Styles, read_styles
    from cook.pipeline.mixing import Mixed, mix
    from cook.pipeline.recipe_draft import Drafted, draft_recipe
    from cook.pipeline.runner import Preview, preview, run
    from cook.store.outputs import Cooked, Sequence, read_cooked
    from cook.synthesis.answer_files import Parsed, parse
    from cook.synthesis.prompt_files import Prompted, prompts
    from cook.trainers.collator import Collator, load
    from cook.trainers.exporter import Exported, export
    from cook.views.html_report import Reported, report
    from cook.views.showing import Shown, show

__all__ = [
    "BadLines",
    "Checked",
    "Collator",
    "CookError",
    "Cooked",
    "CorpusRecipe",
    "Difference",
    "Drafted",
    "Exported",
    "Finding",
    "InputError",
    "Mixed",
    "OutputError",
    "OutputExists",
    "Parsed",
    "Preview",
    "Problem",
    "Prompted",
    "Recipe",
    "RecipeError",
    "Reported",
    "Result",
    "Sequence",
    "SeveralFailed",
    "Shown",
    "SourceError",
    "Styles",
    "Summary",
    "TokenizerError",
    "TooLong",
    "Verified",
    "__version__",
    "diff",
    "draft_recipe",
    "export",
    "fingerprint",
    "load",
    "make_corpus",
    "mix",
    "parse",
    "preview",
    "prompts",
    "read_config",
    "read_cooked",
    "read_styles",
    "report",
    "run",
    "show",
    "verify",
]

# Modules are imported when a name is first asked for: `import cook` costs nothing that is not used.
_MODULES = {
    "_version": ("__version__",),
    "check.comparison": ("Difference", "diff"),
    "check.fingerprints": ("fingerprint",),
    "check.rows": ("Finding",),
    "check.verifier": ("Checked", "Verified", "verify"),
    "core.recipe": ("Recipe", "read_config"),
    "core.results": ("Result", "Summary"),
    "corpora.making": ("make_corpus",),
    "corpora.recipe": ("CorpusRecipe",),
    "corpora.styles": ("Styles", "read_styles"),
    "pipeline.mixing": ("Mixed", "mix"),
    "pipeline.recipe_draft": ("Drafted", "draft_recipe"),
    "pipeline.runner": ("Preview", "preview", "run"),
    "store.outputs": ("Cooked", "Sequence", "read_cooked"),
    "synthesis.answer_files": ("Parsed", "parse"),
    "synthesis.prompt_files": ("Prompted", "prompts"),
    "trainers.collator": ("Collator", "load"),
    "trainers.exporter": ("Exported", "export"),
    "views.html_report": ("Reported", "report"),
    "views.showing": ("Shown", "show"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'core.errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
