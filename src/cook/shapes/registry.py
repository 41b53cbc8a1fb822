"""The input shapes by their names in the manifest. Each is made from a recipe and a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cook.core.recipe import Recipe
from cook.shapes.context_qa import ContextQA
from cook.shapes.protocol import Shape
from cook.shapes.text import TextShape
from cook.tokenizer.loading import Tokenizer

SHAPES: Mapping[str, Callable[[Recipe, Tokenizer], Shape]] = {"context-qa": ContextQA, "text": TextShape}
