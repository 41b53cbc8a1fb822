"""A stand-in for vLLM: a real HTTP server of the two text endpoints, and `run-batch`, which sends a file's lines to it.

What it writes is canned: pairs made of the words of the last context of a prompt. The forms are real: what it takes
and refuses, and what a line of its results looks like, follow `vllm run-batch` of 0.33.0. That takes
/v1/chat/completions and no /v1/completions, and a chat template in a request only where it is told to trust it.

    python stand_in_server.py run-batch -i prompts.jsonl -o answers.jsonl --model NAME --trust-request-chat-template
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Model = Callable[[str], str]
AS_IT_IS = "{{ messages[0]['content'] }}"


def canned(prompt: str) -> str:
    """What a synthesizer might write: pairs in its form, of which the last may be unfinished, or none at all."""
    context = prompt.rpartition("<CON>")[2].partition("</CON>")[0].split()
    draw = hashlib.sha256(prompt.encode()).digest()[0] % 8
    if draw == 0 or len(context) < 4:
        return "Nothing to ask here."
    pairs = [
        f"<QUE> What comes after “{context[at]}”? <ANS> {context[at + 1]} </END>"
        for at in range(0, min(len(context) - 1, 8), 3)
    ]
    if draw == 1:
        pairs[-1] = pairs[-1].removesuffix(" </END>")
    return "\n\n".join(pairs)


class StandIn(ThreadingHTTPServer):
    """Answers /v1/chat/completions and /v1/completions for one model."""

    def __init__(self, model: str, write: Model = canned, trusts: bool = False, fails: set[int] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.write, self.trusts = model, write, trusts
        self.fails = fails or set()  # the requests, in the order that they come, which end in a server's error
        self.bodies: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> StandIn:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and body of a response."""
        self.bodies.append(body)
        if len(self.bodies) - 1 in self.fails:
            return 500, _error("EngineDeadError: it died", 500)
        if body.get("model") != self.model:
            return 404, _error(f"The model `{body.get('model')}` does not exist.", 404)
        if url == "/v1/chat/completions":
            if body.get("chat_template") != AS_IT_IS or not self.trusts:
                return 400, _error("Chat template is passed with request, but it is not trusted.", 400)
            [message] = body["messages"]
            text = self.write(message["content"])
            choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
            kind = "chat.completion"
        elif url == "/v1/completions" and all(type(i) is int and i >= 0 for i in body["prompt"]):
            choice, kind = {"text": self.write(" ".join(map(str, body["prompt"])))}, "text_completion"
        else:
            return 400, _error("not a request that this server knows", 400)
        choice |= {"index": 0, "finish_reason": "stop", "stop_reason": None, "logprobs": None}
        return 200, {"id": "cmpl-0", "object": kind, "created": 0, "model": self.model, "choices": [choice]}


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.server.answer(self.path, body)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _error(message: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": code}}


def run_batch(url: str, lines: list[bytes], completions: bool = False) -> list[dict[str, Any]]:
    """The results of a batch, as lines of its output; in another order than they were asked for."""
    results = list(_results(url, [json.loads(line) for line in lines], completions))
    return sorted(results, key=lambda row: hashlib.sha256(row["custom_id"].encode()).digest())


def _results(url: str, requests: list[dict[str, Any]], completions: bool) -> Iterator[dict[str, Any]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for request in requests:
        row: dict[str, Any] = {"id": "vllm-0", "custom_id": request["custom_id"], "response": None, "error": None}
        response: dict[str, Any] = {"status_code": 200, "request_id": "vllm-batch-0", "body": None}
        known = {"/v1/chat/completions"} | ({"/v1/completions"} if completions else set())
        if request["method"] != "POST" or request["url"] not in known:
            response["status_code"] = 400
            row["error"] = f"URL {request['url']} is not a supported endpoint."
        else:
            sent = urllib.request.Request(  # noqa: S310 - the loopback
                url + request["url"], json.dumps(request["body"]).encode(), {"Content-Type": "application/json"}
            )
            try:
                with opener.open(sent) as answer:
                    response["body"] = json.load(answer)
            except urllib.error.HTTPError as exc:
                response["status_code"] = exc.code
                row["error"] = json.load(exc)
        yield row | {"response": response}


def main() -> None:
    """The command; it fails the first request that it is ever sent in a folder, so that there is something to rerun."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run-batch"])
    parser.add_argument("-i", "--input-file", type=Path, required=True)
    parser.add_argument("-o", "--output-file", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--trust-request-chat-template", action="store_true")
    asked = parser.parse_args()
    failed_before = Path(".stand-in")
    fails: set[int] = set() if failed_before.exists() else {0}
    with contextlib.suppress(OSError):
        failed_before.touch()
    with StandIn(asked.model, trusts=asked.trust_request_chat_template, fails=fails) as server:
        results = run_batch(server.url, asked.input_file.read_bytes().splitlines())
    asked.output_file.write_text("".join(json.dumps(row) + "\n" for row in results), encoding="utf-8")


def install(folder: Path, python: str) -> None:
    """Put a command `vllm` into a folder that is on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "vllm"
    command.write_text(f'#!/bin/sh\nexec "{python}" "{Path(__file__).resolve()}" "$@"\n')
    os.chmod(command, 0o755)  # noqa: S103 - a command


if __name__ == "__main__":
    main()
