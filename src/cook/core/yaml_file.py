"""YAML files of plain values, each with its line for error messages; no aliases, no repeated keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cook.core.errors import NO_FILE, RecipeError, is_no_file, refuse_empty, short_repr

if TYPE_CHECKING:
    import yaml

MAX_YAML_BYTES = 1 << 20  # of a file
YamlPath = tuple[str | int, ...]  # the keys and indices that lead to a value


def read_yaml(path: str | Path, what: str) -> tuple[Any, dict[YamlPath, int]]:
    """The value in a file, and the line of each value in it, from 1. `what` names the file in messages: "a recipe".

    Raises RecipeError for a file that cannot be read or is no YAML.
    """
    refuse_empty(path=path)
    import yaml

    try:
        if is_no_file(path):
            raise RecipeError(f"{path}: {NO_FILE}")
        with open(path, "rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
        if len(data) > MAX_YAML_BYTES:
            raise RecipeError(f"{path}: is over {MAX_YAML_BYTES >> 20} MiB, the most {what} may hold")
        loader = _loader(data.decode())
        node = loader.get_single_node()
        if node is None:
            return None, {}
        return loader.construct_document(node), dict(_lines(node, ()))
    except OSError as exc:
        raise RecipeError(f"{path}: cannot be read: {exc.strerror}") from exc
    # yaml lets errors through that dates, numbers and its own tags (!!int x, !!timestamp x) raise.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        message = str(exc)
        if isinstance(exc, yaml.MarkedYAMLError):
            at = exc.problem_mark
            message = f"{exc.problem}" + (f" in line {at.line + 1}, column {at.column + 1}" if at else "")
        raise RecipeError(f"{path}: is not YAML: {' '.join(message.split())}") from exc


def _loader(text: str) -> yaml.SafeLoader:
    """A loader of plain values that refuses aliases and repeated keys."""
    import yaml

    class Loader(yaml.SafeLoader):
        # A few lines of aliases can stand for more than memory holds.
        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise yaml.composer.ComposerError(None, None, "aliases are not allowed: write the value itself")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise yaml.constructor.ConstructorError(None, None, f"{short_repr(twice[0])} is there twice")
            return super().construct_mapping(node, deep)

    return Loader(text)


def _lines(node: yaml.Node, keys: YamlPath) -> Iterator[tuple[YamlPath, int]]:
    import yaml

    yield keys, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*keys, key.value))
            yield (*keys, key.value), key.start_mark.line + 1  # after the value's own line, which it replaces
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, (*keys, index))
