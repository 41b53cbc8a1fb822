"""cook: question-answer data over contexts -> packed training sequences with loss masks, on disk, for any base model.

    sources    where shards come from: the Hub (hub/), a folder, the bundled sample  -> shard files
      |
    entries    JSONL -> Entry, strict, with shard and line
      |
    format     Entry + templates -> input text, output text                       (pure)
      |
    tokenize   texts -> ids in spool files, through an engine (engines/);         one part of a shard a job
      |        overlong: examples longer than a sequence -> several that fit
      |
    pack       example lengths -> plan: which examples make which sequence        (pure; sees lengths only)
      |
    store      plan + tokens -> Parquet, manifest, card; and back                 one output file a job
      |        mixing: the sequences of cooked data sets -> one shuffled stream
      |        exports: the same as other trainers read them (exports/; a small writer a trainer)
      |
    dataset    one data set through the stages (accounts: what was left out)
      |
    pipeline   recipe -> its data sets over an executor (executors) -> summary
      |        corpora: contexts with their pairs as plain text in many styles, for pre-training; text or sequences
      |
    cli        parse, call one library function, print

    training   what is cooked -> a datasets.Dataset; rows -> batches for a model  (from Python; torch where used)

Beside them: `recipe` (the configuration of a run), `tokenizer` (a name -> ids of BOS and EOS, and an engine), `spool`
(the tokens of a part on disk) and `cache` (what keeps them between runs), `catalog` (the 35 data sets), `hub` (files
from the Hugging Face Hub, checked), `modelscope` (collections there), `listing` and `progress` (for the command),
`errors` (all under CookError).

    >>> from cook import Recipe, run
    >>> summary = run(Recipe(datasets="squad", tokenizer="llama3", source="sample", output=tmp))  # doctest: +SKIP

does from Python what `cook --dataset squad --tokenizer llama3 --source sample` does from a shell.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cook._version import __version__
    from cook.corpora.making import make_corpus
    from cook.corpora.recipe import CorpusRecipe
    from cook.corpora.styles import Styles, read_styles
    from cook.dataset import Result
    from cook.errors import (
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
    from cook.exports.exporting import Exported, export
    from cook.mixing import Mixed, mix
    from cook.pipeline import Preview, Summary, preview, run
    from cook.recipe import Recipe, read_config
    from cook.store.reader import Cooked, Sequence, read_cooked
    from cook.training import Collator, load

__all__ = [
    "BadLines",
    "Collator",
    "CookError",
    "Cooked",
    "CorpusRecipe",
    "Exported",
    "InputError",
    "Mixed",
    "OutputError",
    "OutputExists",
    "Preview",
    "Problem",
    "Recipe",
    "RecipeError",
    "Result",
    "Sequence",
    "SeveralFailed",
    "SourceError",
    "Styles",
    "Summary",
    "TokenizerError",
    "TooLong",
    "__version__",
    "export",
    "load",
    "make_corpus",
    "mix",
    "preview",
    "read_config",
    "read_cooked",
    "read_styles",
    "run",
]

# Modules are imported when a name is first asked for: `import cook` costs nothing that is not used.
_MODULES = {
    "_version": ("__version__",),
    "corpora.making": ("make_corpus",),
    "corpora.recipe": ("CorpusRecipe",),
    "corpora.styles": ("Styles", "read_styles"),
    "dataset": ("Result",),
    "exports.exporting": ("Exported", "export"),
    "mixing": ("Mixed", "mix"),
    "pipeline": ("Preview", "Summary", "preview", "run"),
    "recipe": ("Recipe", "read_config"),
    "store.reader": ("Cooked", "Sequence", "read_cooked"),
    "training": ("Collator", "load"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
