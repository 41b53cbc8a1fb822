"""The styles of texts: YAML -> Styles. Every wrong value is reported with its line.

STYLES_SCHEMA is the form of a file: lists of texts with placeholders, or of mappings of such texts. A placeholder that
a text needs stands in it once; one that it does not know is an error, so that a slip is not printed into every text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cook.core import yaml_file
from cook.core.errors import RecipeError, short_repr, suggestion
from cook.core.yaml_file import YamlPath

PAIR_KINDS = ("plain", "options", "thought", "options_thought")
MODES = ("classic", "dialogue", "numbered", "few_shot", "next_turn")
SINGLE_PAIR_MODES = (
    "classic",
    "dialogue",
)  # modes that a text with one pair may have; the others show one after others
OPTION_SIGNS = ("A", "a", "1", "i")
MAX_WEIGHT = 1_000_000
PLACEHOLDER = re.compile(r"\{(\w+)\}")


class TextForm(NamedTuple):
    """The form of a text: placeholders that it needs, in this order if `by_frequency`.

    And that it may have, once each.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    ordered: bool = False
    needs_one: bool = False
    """One of `optional`, or more."""


LITERAL = TextForm()
DIALOGUE_FORM = {"asks": LITERAL, "replies": LITERAL, "between": LITERAL, "turns": LITERAL}


def _pair_form(question: tuple[str, ...], answer: tuple[str, ...]) -> dict[str, TextForm]:
    around = dict.fromkeys(("asks", "between", "replies"), LITERAL)
    return around | {"question": TextForm(question), "answer": TextForm(answer)}


# Under each section the form of its lists' items.
STYLES_SCHEMA: dict[str, Any] = {
    "contexts": {
        "before": TextForm(("context", "pairs"), ordered=True),
        "after": TextForm(("pairs", "context"), ordered=True),
    },
    "pairs": {
        "plain": _pair_form(("question",), ("answer",)),
        "options": _pair_form(("question", "options"), ("answer",)),
        "thought": _pair_form(("question",), ("thought", "answer")),
        "options_thought": _pair_form(("question", "options"), ("thought", "answer")),
    },
    "options": {
        "starts": LITERAL,
        "names": TextForm(optional=OPTION_SIGNS),
        "separators": LITERAL,
        "answers": TextForm(optional=("text", "name", "sign"), needs_one=True),
    },
    "modes": {
        "classic": {"between": LITERAL},
        "dialogue": DIALOGUE_FORM,
        "numbered": {
            "text": TextForm(("questions", "answers"), ordered=True),
            "number": TextForm(("n",)),
            "between": LITERAL,
        },
        "few_shot": {
            "example": TextForm(("question", "answer"), ordered=True),
            "between": LITERAL,
            "test": TextForm(("question", "answer"), ordered=True),
        },
        "next_turn": DIALOGUE_FORM | {"next": LITERAL},
    },
}
SECTIONS = (*STYLES_SCHEMA, "chains", "weights")
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


def bundled_path() -> Path:
    """The file of cook's own styles."""
    return Path(__file__).with_name("styles.yaml")


@lru_cache(maxsize=1)
def default_styles() -> Styles:
    """Cook's own styles."""
    value, _ = yaml_file.read_yaml(bundled_path(), "a file of styles")
    return Styles(value)


def read_styles(path: str | Path | None = None) -> Styles:
    """Cook's own styles, with what a file replaces or adds.

    Raises RecipeError, listing all that is wrong with the file, each with its line.
    """
    own = default_styles()
    if path is None:
        return own
    value, lines = yaml_file.read_yaml(path, "a file of styles")
    problems = [
        f"{path}:{_line(lines, place)}: {_field_path(place)}{what}"
        for place, what in _schema_errors({} if value is None else value)
    ]
    if not problems:
        made = Styles(_merge_styles(own.data, value or {}))
        problems = [f"{path}: {what}" for what in _consistency_errors(made.data)]
    if problems:
        raise RecipeError(*problems)
    return made


def _line(lines: Mapping[YamlPath, int], place: YamlPath) -> int:
    """The line of a value, or of the nearest that holds it."""
    while place not in lines:
        place = place[:-1]
    return lines[place]


def _field_path(place: YamlPath) -> str:
    """A place as a message names it: pairs.plain[3].question."""
    return "".join(f"[{key}]" if type(key) is int else f".{key}" for key in place).lstrip(".") + ": " if place else ""


def _merge_styles(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
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


def _consistency_errors(data: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong between parts that are each right."""
    unsigned = [name for name in data["options"]["names"] if not PLACEHOLDER.search(name)]
    if unsigned and not any(is_text_only(answer) for answer in data["options"]["answers"]):
        yield (
            f"options.names: {unsigned[0]!r} has no sign, and so needs one of options.answers that is of {{text}} "
            "alone; add one, or leave that name out"
        )


def is_text_only(answer: str) -> bool:
    """Whether an answer's style names an option by its text and nothing else."""
    return set(PLACEHOLDER.findall(answer)) == {"text"}


def _schema_errors(value: Any) -> Iterator[tuple[YamlPath, str]]:
    """(place, what is wrong there) of a file's value."""
    if not isinstance(value, dict):
        yield (), f"must be a mapping of {', '.join(SECTIONS)}, not {_yaml_type_name(value)}"
        return
    yield from _unknown_key_errors((), value, KNOWN_KEYS)
    if not isinstance(value.get("extend", False), bool):
        yield ("extend",), f"must be true or false (it is {short_repr(value['extend'])})"
    for section, shape in STYLES_SCHEMA.items():
        if section not in value:
            continue
        if not isinstance(value[section], dict):
            yield (section,), f"must be a mapping of {', '.join(shape)}, not {_yaml_type_name(value[section])}"
            continue
        yield from _unknown_key_errors((section,), value[section], shape)
        for name, items in value[section].items():
            if name in shape:
                yield from _list_errors((section, name), items, shape[name])
    if "chains" in value:
        yield from _list_errors(("chains",), value["chains"], LITERAL)
    if "weights" in value:
        yield from _weight_errors(value["weights"])


def _unknown_key_errors(place: YamlPath, value: Mapping[Any, Any], known: Any) -> Iterator[tuple[YamlPath, str]]:
    for key in value:
        if key not in known:
            near = suggestion(str(key), known)
            yield (*place, str(key)), "is not known" + (f"; {near}" if near else f": {', '.join(known)}")


def _list_errors(place: YamlPath, items: Any, shape: Any) -> Iterator[tuple[YamlPath, str]]:
    if not isinstance(items, list) or not items:
        yield place, f"must be a list of one style or more, not {_yaml_type_name(items)}"
        return
    for index, item in enumerate(items):
        at = (*place, index)
        if isinstance(shape, TextForm):
            yield from _text_errors(at, item, shape)
        elif not isinstance(item, dict):
            yield at, f"must be a mapping of {', '.join(shape)}, not {_yaml_type_name(item)}"
        else:
            yield from _unknown_key_errors(at, item, shape)
            for name, form in shape.items():
                if name in item:
                    yield from _text_errors((*at, name), item[name], form)
                else:
                    yield at, f"lacks {name}"


def _text_errors(place: YamlPath, text: Any, form: TextForm) -> Iterator[tuple[YamlPath, str]]:
    if not isinstance(text, str):
        yield (
            place,
            f"must be text, not {_yaml_type_name(text)}" + ("" if isinstance(text, (dict, list)) else "; quote it"),
        )
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        yield place, "holds a lone surrogate, which has no UTF-8 form"
        return
    found = PLACEHOLDER.findall(text)
    allowed = (*form.required, *form.optional)
    for name in dict.fromkeys(found):
        if name not in allowed:
            known = f"it may hold {_braced(allowed)}" if allowed else "it is text alone"
            yield place, f"holds {{{name}}}, which is nothing here; {known}"
        elif found.count(name) > 1:
            yield place, f"holds {{{name}}} {found.count(name)} times; once is meant"
    if missing := [name for name in form.required if name not in found]:
        yield place, f"lacks {_braced(missing)}"
    elif form.ordered and [name for name in found if name in form.required] != list(form.required):
        yield place, f"must hold {_braced(form.required)} in this order"
    if form.needs_one and not found:
        yield place, f"must hold one of {_braced(form.optional)}"
    if form.optional == OPTION_SIGNS and len(set(found) & set(OPTION_SIGNS)) > 1:
        yield place, f"must hold one of {_braced(OPTION_SIGNS)}, or none"


def _weight_errors(value: Any) -> Iterator[tuple[YamlPath, str]]:
    if not isinstance(value, dict):
        yield ("weights",), f"must be a mapping of one, several, after, not {_yaml_type_name(value)}"
        return
    yield from _unknown_key_errors(("weights",), value, ("one", "several", "after"))
    for name, modes in (("one", SINGLE_PAIR_MODES), ("several", MODES)):
        place: YamlPath = ("weights", name)
        if name not in value:
            continue
        if not isinstance(value[name], dict):
            yield place, f"must be a mapping of {', '.join(modes)}, not {_yaml_type_name(value[name])}"
            continue
        for mode, weight in value[name].items():
            if mode in MODES and mode not in modes:
                yield (*place, mode), "needs two pairs or more, and stands under several"
            elif mode not in modes:
                yield from _unknown_key_errors(place, {mode: weight}, modes)
            elif type(weight) is not int or not 0 <= weight <= MAX_WEIGHT:
                yield (*place, mode), f"must be a whole number from 0 to {MAX_WEIGHT:,} (it is {short_repr(weight)})"
        if all(type(weight) is int for weight in value[name].values()) and sum(value[name].values()) <= 0:
            yield place, "must give a weight above 0 to one mode at the least"
    if "after" in value and (type(value["after"]) not in (int, float) or not 0 <= value["after"] <= 100):
        yield ("weights", "after"), f"must be a number from 0 to 100, in a hundred (it is {short_repr(value['after'])})"


def _braced(names: Any) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


YAML_TYPE_NAMES = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def _yaml_type_name(value: Any) -> str:
    if value == [] and isinstance(value, list):
        return "an empty one"
    return YAML_TYPE_NAMES.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")
