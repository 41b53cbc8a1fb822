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
    store      plan + tokens -> Parquet (pages), manifest, card; and back         one output file a job
      |        mixing: the sequences of cooked data sets -> one shuffled stream
      |        exports: the same as other trainers read them (exports/; a small writer a trainer)
      |
    dataset    one data set through the stages (accounts: what was left out; gather: its table, plan and files on disk)
      |
    pipeline   recipe -> its data sets over an executor (executors; cluster: Dask's workers) -> summary
      |        corpora: contexts with their pairs as plain text in many styles, for pre-training; text or sequences
      |
    cli        parse, call one library function, print

    loop       a trained synthesizer's prompts, and its answers back into shards (loop/; generation is another's)

    training   what is cooked -> a datasets.Dataset; rows -> batches for a model  (from Python; torch where used)
    checking   what is cooked: manifest and sums (auditing), rows (rows), shards (proving, readback)  -> findings
               (of corpora and of the loop: corpora/checking, loop/checking; `kinds` names what a folder can be)
    comparing  two outputs, or one and a committed fingerprint -> what changed, in words (texts and lines: lines)
    views      what is cooked, to look at: a sequence in the terminal (show), all of it as a page (report)

Beside them: `recipe` (the configuration of a run), `tokenizer` (a name -> ids of BOS and EOS, and an engine) and
`presets` (tokenizers that need no network), `spool` (the tokens of a part on disk) and `cache` (what keeps them between
runs), `catalog` (the 35 data sets), `hub` (files from the Hugging Face Hub, checked), `modelscope` (collections there),
`answers`, `transport` and `waiting` (what servers say, held against its forms, and how long they may take), `listing`,
`progress` and `commands` (for the command), `process` (what is set in the command's and its workers' own),
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
    from cook.checking import Checked, Verified, verify
    from cook.comparing import Difference, diff
    from cook.corpora.making import make_corpus
    from cook.corpora.recipe import CorpusRecipe
    from cook.corpora.styles import Styles, read_styles
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
    from cook.lines import fingerprint
    from cook.loop.parsing import Parsed, parse
    from cook.loop.prompts import Prompted, prompts
    from cook.mixing import Mixed, mix
    from cook.pipeline import Preview, preview, run
    from cook.recipe import Recipe, read_config
    from cook.rows import Finding
    from cook.store.outcome import Result, Summary
    from cook.store.reader import Cooked, Sequence, read_cooked
    from cook.training import Collator, load
    from cook.views.page import Reported, report
    from cook.views.showing import Shown, show

__all__ = [
    "BadLines",
    "Checked",
    "Collator",
    "CookError",
    "Cooked",
    "CorpusRecipe",
    "Difference",
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
    "checking": ("Checked", "Verified", "verify"),
    "comparing": ("Difference", "diff"),
    "corpora.making": ("make_corpus",),
    "corpora.recipe": ("CorpusRecipe",),
    "corpora.styles": ("Styles", "read_styles"),
    "exports.exporting": ("Exported", "export"),
    "lines": ("fingerprint",),
    "loop.parsing": ("Parsed", "parse"),
    "loop.prompts": ("Prompted", "prompts"),
    "mixing": ("Mixed", "mix"),
    "pipeline": ("Preview", "preview", "run"),
    "recipe": ("Recipe", "read_config"),
    "rows": ("Finding",),
    "store.outcome": ("Result", "Summary"),
    "store.reader": ("Cooked", "Sequence", "read_cooked"),
    "training": ("Collator", "load"),
    "views.page": ("Reported", "report"),
    "views.showing": ("Shown", "show"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
