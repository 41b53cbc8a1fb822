"""What a text may look like: YAML -> Styles, every wrong value told with its line.

SHAPE is the form of a file: lists of texts with placeholders, or of mappings of such texts. A placeholder that a text
needs stands in it once; one that it does not know is an error, so that a slip is not printed into every text.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cook.core import yaml_file
from cook.core.errors import RecipeError, shown
from cook.core.yaml_file import Place

KINDS = ("plain", "options", "thought", "options_thought")
MODES = ("classic", "dialogue", "numbered", "few_shot", "next_turn")
FOR_ONE = ("classic", "dialogue")  # modes that a text with one pair may have; the others show one after others
SIGNS = ("A", "a", "1", "i")
MOST_WEIGHT = 1_000_000
PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Text(NamedTuple):
    """The form of a text: placeholders that it needs, in this order if `ordered`; and that it may have, once each."""

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    ordered: bool = False
    any_of: bool = False
    """One of `may`, or more."""


LITERAL = Text()
TURN = {"asks": LITERAL, "replies": LITERAL, "between": LITERAL, "turns": LITERAL}


def _pair(question: tuple[str, ...], answer: tuple[str, ...]) -> dict[str, Text]:
    around = dict.fromkeys(("asks", "between", "replies"), LITERAL)
    return around | {"question": Text(question), "answer": Text(answer)}


# Under each section the form of its lists' items.
SHAPE: dict[str, Any] = {
    "contexts": {
        "before": Text(("context", "pairs"), ordered=True),
        "after": Text(("pairs", "context"), ordered=True),
    },
    "pairs": {
        "plain": _pair(("question",), ("answer",)),
        "options": _pair(("question", "options"), ("answer",)),
        "thought": _pair(("question",), ("thought", "answer")),
        "options_thought": _pair(("question", "options"), ("thought", "answer")),
    },
    "options": {
        "starts": LITERAL,
        "names": Text(may=SIGNS),
        "separators": LITERAL,
        "answers": Text(may=("text", "name", "sign"), any_of=True),
    },
    "modes": {
        "classic": {"between": LITERAL},
        "dialogue": TURN,
        "numbered": {
            "text": Text(("questions", "answers"), ordered=True),
            "number": Text(("n",)),
            "between": LITERAL,
        },
        "few_shot": {
            "example": Text(("question", "answer"), ordered=True),
            "between": LITERAL,
            "test": Text(("question", "answer"), ordered=True),
        },
        "next_turn": TURN | {"next": LITERAL},
    },
}
SECTIONS = (*SHAPE, "chains", "weights")
KNOWN_KEYS = (*SECTIONS, "extend")


@dataclasses.dataclass(frozen=True)
class Styles:
    """Styles that are whole and right; `data` is of the form of styles.yaml."""

    data: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The hash of all that they say, whatever files it came from."""
        import orjson

        return hashlib.sha256(orjson.dumps(self.data, option=orjson.OPT_SORT_KEYS)).hexdigest()


def bundled() -> Path:
    """The file of cook's own styles."""
    return Path(__file__).with_name("styles.yaml")


@lru_cache(maxsize=1)
def own_styles() -> Styles:
    """Cook's own styles."""
    value, _ = yaml_file.read(bundled(), "a file of styles")
    return Styles(value)


def read_styles(path: str | Path | None = None) -> Styles:
    """Cook's own styles, with what a file replaces or adds.

    Raises RecipeError, listing all that is wrong with the file, each with its line.
    """
    own = own_styles()
    if path is None:
        return own
    value, lines = yaml_file.read(path, "a file of styles")
    problems = [
        f"{path}:{_line(lines, place)}: {_told(place)}{what}"
        for place, what in _misfits({} if value is None else value)
    ]
    if not problems:
        made = Styles(_merged(own.data, value or {}))
        problems = [f"{path}: {what}" for what in _disagreements(made.data)]
    if problems:
        raise RecipeError(*problems)
    return made


def _line(lines: Mapping[Place, int], place: Place) -> int:
    """The line of a value, or of the nearest that holds it."""
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _told(place: Place) -> str:
    """A place as a message names it: pairs.plain[3].question."""
    return "".join(f"[{key}]" if type(key) is int else f".{key}" for key in place).lstrip(".") + ": " if place else ""


def _merged(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Cook's own styles with a file's in their place, or, if it says so, after them."""
    extend = given.get("extend", False)
    merged = dict(own)
    for section, value in given.items():
        if section == "chains":
            merged[section] = own[section] + value if extend else value
        elif section == "weights":
            merged[section] = {**own[section], **value}
        elif section != "extend":
            lists = {name: own[section][name] + items if extend else items for name, items in value.items()}
            merged[section] = {**own[section], **lists}
    return merged


def _disagreements(data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong between parts that are each right."""
    unsigned = [name for name in data["options"]["names"] if not PLACEHOLDER.search(name)]
    if unsigned and not any(text_alone(answer) for answer in data["options"]["answers"]):
        yield (
            f"options.names: {unsigned[0]!r} has no sign, and so needs one of options.answers that is of {{text}} "
            "alone; add one, or leave that name out"
        )


def text_alone(answer: str) -> bool:
    """Whether an answer's style names an option by its text and nothing else."""
    return set(PLACEHOLDER.findall(answer)) == {"text"}


def _misfits(value: Any) -> Iterator[tuple[Place, str]]:
    """(place, what is wrong there) of a file's value."""
    if not isinstance(value, dict):
        yield (), f"must be a mapping of {', '.join(SECTIONS)}, not {_kind(value)}"
        return
    yield from _unknown((), value, KNOWN_KEYS)
    if not isinstance(value.get("extend", False), bool):
        yield ("extend",), f"must be true or false (it is {shown(value['extend'])})"
    for section, shape in SHAPE.items():
        if section not in value:
            continue
        if not isinstance(value[section], dict):
            yield (section,), f"must be a mapping of {', '.join(shape)}, not {_kind(value[section])}"
            continue
        yield from _unknown((section,), value[section], shape)
        for name, items in value[section].items():
            if name in shape:
                yield from _list((section, name), items, shape[name])
    if "chains" in value:
        yield from _list(("chains",), value["chains"], LITERAL)
    if "weights" in value:
        yield from _weights(value["weights"])


def _unknown(place: Place, value: Mapping[Any, Any], known: Any) -> Iterator[tuple[Place, str]]:
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            yield (
                (*place, str(key)),
                "is not known" + (f"; did you mean {near[0]}?" if near else f": {', '.join(known)}"),
            )


def _list(place: Place, items: Any, shape: Any) -> Iterator[tuple[Place, str]]:
    if not isinstance(items, list) or not items:
        yield place, f"must be a list of one style or more, not {_kind(items)}"
        return
    for index, item in enumerate(items):
        at = (*place, index)
        if isinstance(shape, Text):
            yield from _text(at, item, shape)
        elif not isinstance(item, dict):
            yield at, f"must be a mapping of {', '.join(shape)}, not {_kind(item)}"
        else:
            yield from _unknown(at, item, shape)
            for name, form in shape.items():
                if name in item:
                    yield from _text((*at, name), item[name], form)
                else:
                    yield at, f"lacks {name}"


def _text(place: Place, text: Any, form: Text) -> Iterator[tuple[Place, str]]:
    if not isinstance(text, str):
        yield place, f"must be text, not {_kind(text)}" + ("" if isinstance(text, (dict, list)) else "; quote it")
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        yield place, "holds a lone surrogate, which has no UTF-8 form"
        return
    found = PLACEHOLDER.findall(text)
    allowed = (*form.needs, *form.may)
    for name in dict.fromkeys(found):
        if name not in allowed:
            known = f"it may hold {_braced(allowed)}" if allowed else "it is text alone"
            yield place, f"holds {{{name}}}, which is nothing here; {known}"
        elif found.count(name) > 1:
            yield place, f"holds {{{name}}} {found.count(name)} times; once is meant"
    if missing := [name for name in form.needs if name not in found]:
        yield place, f"lacks {_braced(missing)}"
    elif form.ordered and [name for name in found if name in form.needs] != list(form.needs):
        yield place, f"must hold {_braced(form.needs)} in this order"
    if form.any_of and not found:
        yield place, f"must hold one of {_braced(form.may)}"
    if form.may == SIGNS and len(set(found) & set(SIGNS)) > 1:
        yield place, f"must hold one of {_braced(SIGNS)}, or none"


def _weights(value: Any) -> Iterator[tuple[Place, str]]:
    if not isinstance(value, dict):
        yield ("weights",), f"must be a mapping of one, several, after, not {_kind(value)}"
        return
    yield from _unknown(("weights",), value, ("one", "several", "after"))
    for name, modes in (("one", FOR_ONE), ("several", MODES)):
        place: Place = ("weights", name)
        if name not in value:
            continue
        if not isinstance(value[name], dict):
            yield place, f"must be a mapping of {', '.join(modes)}, not {_kind(value[name])}"
            continue
        for mode, weight in value[name].items():
            if mode in MODES and mode not in modes:
                yield (*place, mode), "needs two pairs or more, and stands under several"
            elif mode not in modes:
                yield from _unknown(place, {mode: weight}, modes)
            elif type(weight) is not int or not 0 <= weight <= MOST_WEIGHT:
                yield (*place, mode), f"must be a whole number from 0 to {MOST_WEIGHT:,} (it is {shown(weight)})"
        if all(type(weight) is int for weight in value[name].values()) and sum(value[name].values()) <= 0:
            yield place, "must give a weight above 0 to one mode at the least"
    if "after" in value and (type(value["after"]) not in (int, float) or not 0 <= value["after"] <= 100):
        yield ("weights", "after"), f"must be a number from 0 to 100, in a hundred (it is {shown(value['after'])})"


def _braced(names: Any) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


KINDS_OF_YAML = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def _kind(value: Any) -> str:
    if value == [] and isinstance(value, list):
        return "an empty one"
    return KINDS_OF_YAML.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")
