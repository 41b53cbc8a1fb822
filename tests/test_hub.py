"""Tokenizers by Hub id: the real client against a Hub on the loopback; what is wrong is told with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from cook import Recipe, TokenizerError, hub
from cook.tokenizer import resolve
from hub_server import HubServer

FILES = ("tokenizer.json", "tokenizer_config.json")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as running:
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running
        huggingface_hub.utils.close_session()


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_a_tokenizer_by_its_id(server, models, monkeypatch):
    server.add("owner/qwen", {name: (models["qwen3"] / name).read_bytes() for name in FILES} | {"model.bin": b"x" * 99})
    recipe = Recipe(datasets="squad", tokenizer="owner/qwen")
    found = resolve(recipe)
    assert (found.name, found.folder_name, found.bos, found.eos_id) == ("owner/qwen", "owner--qwen", None, 151643)
    assert {request.path.rpartition("/")[2] for request in server.requests} == set(FILES)
    offline(monkeypatch)
    asked = len(server.requests)
    assert resolve(recipe) == found
    assert len(server.requests) == asked


def test_a_repository_without_a_configuration(server, models, monkeypatch):
    server.add("owner/bare", {"tokenizer.json": (models["llama2"] / "tokenizer.json").read_bytes()})
    recipe = Recipe(datasets="squad", tokenizer="owner/bare", bos="<s>", eos="</s>")
    found = resolve(recipe)
    assert (found.bos_id, found.eos_id) == (1, 2)
    offline(monkeypatch)
    assert resolve(recipe) == found


def test_a_repository_without_a_tokenizer(server):
    server.add("owner/gguf", {"model.gguf": b"x"})
    with pytest.raises(TokenizerError, match=r"owner/gguf: the repository has no tokenizer\.json"):
        resolve(Recipe(datasets="squad", tokenizer="owner/gguf"))


def test_not_cached_and_offline(server, monkeypatch):
    offline(monkeypatch)
    with pytest.raises(TokenizerError, match=r"once online, `hf download owner/model tokenizer\.json` puts it there"):
        hub.tokenizer_file("owner/model", "tokenizer.json")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("gated", "owner/model: is gated; ask for access"),
        (
            "not_found",
            "owner/model: no such repository on the Hub, or a private one: .* or pass ./owner/model for a folder",
        ),
        ("unauthorized", "no such repository on the Hub, or a private one"),
        ("bad_token", "cannot be fetched: .*; try again"),
        ("bare_403", r"cannot be fetched \(.*403"),
        ("error_500", r"cannot be fetched \(.*500"),
        ("rate_limit", r"cannot be fetched \(.*429"),
        ("drop", "cannot be fetched: .*; try again"),
        ("cut", "cannot be fetched: .*; try again"),
    ],
)
def test_each_fault_has_its_message(server, fault, message):
    server.add("owner/model", {"tokenizer.json": b"{}" * 5000})
    server.fault(fault, "tokenizer.json")
    with pytest.raises(TokenizerError, match=message):
        hub.tokenizer_file("owner/model", "tokenizer.json")


def test_what_is_temporary_is_tried_again(server):
    server.add("owner/model", {"tokenizer.json": b"{}"})
    server.fault("error_503", "tokenizer.json", times=1)
    found = hub.tokenizer_file("owner/model", "tokenizer.json")
    assert found is not None
    assert found.read_bytes() == b"{}"
