"""How a prompt is written for who generates, and how their answers are read.

    jsonl                      {"custom_id", "prompt", "prompt_token_ids"}: for LLM.generate, or a program of yours
    openai-batch, chat         /v1/chat/completions, the one endpoint for text that `vllm run-batch` takes (looked up in
                               0.33.0): the prompt as one message, and a chat template that passes it on as it is
    openai-batch, completions  /v1/completions with token ids: for servers that take it

Only ids say exactly what a model was trained on. Of the chat form the server encodes the text: BOS and EOS are their
strings there, and so a text that holds such a string is not sent (`prompt_files`). `add_special_tokens` is false,
else the server would put a second BOS before the first; to ids it adds nothing.

An answer is a line of text, or a line of a batch's results. They may come in any order.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import orjson

from cook.core.errors import Problem, shorten
from cook.read.lines import Line
from cook.synthesis.inputs import parse_object, text_field
from cook.tokenizer.engine import Ids

JSONL, OPENAI_BATCH = FORMATS = ("jsonl", "openai-batch")
CHAT, COMPLETIONS = ENDPOINTS = ("chat", "completions")
PASSTHROUGH_TEMPLATE = "{{ messages[0]['content'] }}"  # the chat template that passes a prompt on
MAX_ERROR_CHARS = 300  # letters kept of a server's complaint


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptWriter:
    """Writes prompts as lines."""

    format: str
    endpoint: str | None
    model: str | None
    max_new_tokens: int
    temperature: float
    eos_id: int

    @property
    def sends_text(self) -> bool:
        """Whether the server encodes: then it reads BOS, EOS and all special tokens out of the text."""
        return self.format == OPENAI_BATCH and self.endpoint == CHAT

    def line(self, custom_id: str, text: str, ids: Ids) -> bytes:
        """One prompt; its ids are those of the text, encoded piece by piece."""
        row: dict[str, Any] = {"custom_id": custom_id}
        if self.format == JSONL:
            row |= {"prompt": text, "prompt_token_ids": ids}
        elif self.endpoint == COMPLETIONS:
            body: dict[str, Any] = {"model": self.model, "prompt": ids, "max_tokens": self.max_new_tokens}
            row |= {"method": "POST", "url": "/v1/completions", "body": body | self._sampling()}
        else:
            body = {
                "model": self.model,
                "messages": [{"role": "user", "content": text}],
                "chat_template": PASSTHROUGH_TEMPLATE,
                "add_generation_prompt": False,
                "add_special_tokens": False,
                "max_completion_tokens": self.max_new_tokens,
            }
            row |= {"method": "POST", "url": "/v1/chat/completions", "body": body | self._sampling()}
        return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    def _sampling(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "stop_token_ids": [self.eos_id]}


class AnswerFields(NamedTuple):
    """The keys of a line of text answers."""

    id: str = "custom_id"
    text: str = "text"
    context: str = "context"


ANSWER_FIELDS = AnswerFields()


class Answer(NamedTuple):
    """What a model wrote for a prompt, or why there is nothing."""

    custom_id: str | None
    texts: tuple[str, ...]  # one, or as many as were asked for
    failure: str | None
    context: str | None  # where the line itself has it


def read_answer(line: Line, fields: AnswerFields = ANSWER_FIELDS) -> Answer | Problem:
    """The answer on a line, or what is wrong with the line. A failed request is an answer too."""
    row = parse_object(line)
    if isinstance(row, Problem):
        return row
    batch = "response" in row or "error" in row
    names = (("custom_id", True),) if batch else ((fields.id, False), (fields.context, False), (fields.text, True))
    for name, required in names:
        if required or row.get(name) is not None:
            text = text_field(line, row, name, "--fields names other keys, as in text=generation")
            if isinstance(text, Problem):
                return text
    if not batch:
        return Answer(row.get(fields.id), (row[fields.text],), None, row.get(fields.context))
    texts, failure = _batch_texts(row)
    return Answer(row["custom_id"], texts, failure, None)


def _batch_texts(row: dict[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """The texts of a line of a batch's results, or why it has none."""
    response = row.get("response") or {}
    status = response.get("status_code", 200) if isinstance(response, dict) else None
    if row.get("error") or status != 200:
        error = row.get("error") or (response.get("body") if isinstance(response, dict) else None) or f"status {status}"
        return (), _error_line(error)
    body = response.get("body")
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return (), "the response has no choices"
    texts = []
    for choice in choices:
        message = choice.get("message") if isinstance(choice, dict) else None
        text = message.get("content") if isinstance(message, dict) else choice.get("text") if choice else None
        if not isinstance(text, str):
            return (), "a choice of the response has no text"
        texts.append(text)
    return tuple(texts), None


def _error_line(error: Any) -> str:
    """A server's complaint, in one line."""
    while isinstance(error, dict) and ("error" in error or "message" in error):
        error = error.get("message") or error.get("error")
    text = " ".join((error if isinstance(error, str) else orjson.dumps(error).decode()).split())
    return shorten(text, MAX_ERROR_CHARS)
