"""Tokenizers by Hub id: the real client against a Hub on the loopback; what is wrong is told with what to do."""

from __future__ import annotations

import logging

import pytest

from conftest import NOBODY, offline, point_at
from cook import Recipe, TokenizerError
from cook.read.hub import client
from cook.tokenizer import hub_files
from cook.tokenizer.hub_files import HubWarning
from cook.tokenizer.loading import resolve_tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json")


def test_a_tokenizer_by_its_id(server, models, monkeypatch):
    server.add("owner/qwen", {name: (models["qwen3"] / name).read_bytes() for name in FILES} | {"model.bin": b"x" * 99})
    recipe = Recipe(datasets="squad", tokenizer="owner/qwen")
    found = resolve_tokenizer(recipe)
    assert (found.name, found.folder_name, found.bos, found.eos_id) == ("owner/qwen", "owner--qwen", None, 151643)
    asked_for = {request.path.rpartition("/")[2] for request in server.requests}
    assert asked_for == {*FILES, *hub_files.OPTIONAL_FILES}  # and no model
    offline(monkeypatch)
    asked = len(server.requests)
    assert resolve_tokenizer(recipe) == found
    assert len(server.requests) == asked


def test_a_repository_without_a_configuration(server, models, monkeypatch):
    server.add("owner/bare", {"tokenizer.json": (models["llama2"] / "tokenizer.json").read_bytes()})
    recipe = Recipe(datasets="squad", tokenizer="owner/bare", bos="<s>", eos="</s>")
    found = resolve_tokenizer(recipe)
    assert (found.bos_id, found.eos_id) == (1, 2)
    offline(monkeypatch)
    assert resolve_tokenizer(recipe) == found


@pytest.mark.parametrize("file", hub_files.OPTIONAL_FILES)
def test_a_file_that_may_name_control_tokens_is_not_missed_in_silence(server, models, monkeypatch, file):
    """It decides which tokens text may give: only the repository may say that it has none."""
    server.add("owner/qwen", {name: (models["qwen3"] / name).read_bytes() for name in FILES})
    recipe = Recipe(datasets="squad", tokenizer="owner/qwen")
    server.fault("error_500", file)
    with pytest.raises(
        TokenizerError, match=rf"owner/qwen: {file}.* has an error of its own .*hf download owner/qwen {file}`"
    ):
        resolve_tokenizer(recipe)
    offline(monkeypatch)
    with pytest.warns(
        HubWarning, match=f"owner/qwen: not in the Hub client's cache, and HF_HUB_OFFLINE is set: .*{file}"
    ):
        found = resolve_tokenizer(recipe)
    assert found.eos_id == 151643


def test_a_repository_without_a_tokenizer(server):
    server.add("owner/gguf", {"model.gguf": b"x"})
    with pytest.raises(TokenizerError, match=r"owner/gguf: the repository has no tokenizer\.json"):
        resolve_tokenizer(Recipe(datasets="squad", tokenizer="owner/gguf"))


def test_not_cached_and_offline(server, monkeypatch):
    offline(monkeypatch)
    with pytest.raises(
        TokenizerError, match=r"once online, `hf download owner/model tokenizer\.json tokenizer_config\.json` puts"
    ):
        hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("gated", "owner/model: is gated; ask for access"),
        (
            "not_found",
            "owner/model: no such repository on the Hub, or a private one: .* or pass ./owner/model for a folder",
        ),
        ("unauthorized", "no such repository on the Hub, or a private one"),
        ("bad_token", r"does not accept the token \(401\): log in"),
        ("bare_403", r"refuses access \(403\): log in"),
        ("bare_404", r"http://127.0.0.1:\d+ answers 404 and does not say why: check HF_ENDPOINT"),
        ("error_500", r"has an error of its own \(it answers 500\): try again later; once online, `hf download"),
        ("rate_limit", r"limits requests \(429\): try again in 1 s"),
        ("drop", "cannot be fetched: .*; try again"),
        ("cut", "cannot be fetched: .*; try again"),
    ],
)
def test_each_fault_has_its_message(server, fault, message):
    server.add("owner/model", {"tokenizer.json": b"{}" * 5000})
    server.fault(fault, "tokenizer.json")
    with pytest.raises(TokenizerError, match=message):
        hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json")


def test_nobody_there_is_found_out_once_and_told_once(server, monkeypatch, caplog):
    from huggingface_hub import utils

    utils.logging.set_verbosity_warning()
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    monkeypatch.setattr(client, "RETRY_DELAYS", (0.123, 0.123))
    monkeypatch.setattr(client, "CONNECT_TIMEOUT_S", 0)
    point_at(NOBODY, monkeypatch)
    with pytest.raises(TokenizerError, match=rf"tokenizer\.json: {NOBODY} cannot be reached: .*refused.*; try again"):
        hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json")
    assert waits, "the client tries again"
    assert 0.123 not in waits, "and after that cook does not"
    assert caplog.messages == []


def test_what_is_temporary_is_tried_again(server):
    server.add("owner/model", {"tokenizer.json": b"{}"})
    server.fault("error_503", "tokenizer.json", times=1)
    found = hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json")
    assert found is not None
    assert found.read_bytes() == b"{}"


@pytest.mark.parametrize(
    ("fault", "times"), [("cut", 8), ("drop", 2), ("error_500", 8), ("rate_limit", 8), ("wrong_length", 2)]
)
def test_more_that_is_temporary(server, fault, times):
    server.add("owner/model", {"tokenizer.json": b"{}" * 5000})
    server.fault(fault, "tokenizer.json", times=times)
    assert hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json").stat().st_size == 10_000


def test_both_files_are_of_one_commit(server, models):
    files = {name: (models["qwen3"] / name).read_bytes() for name in FILES}
    commit = server.add("owner/qwen", files)
    found = hub_files.fetch_tokenizer_file("owner/qwen", "tokenizer.json")
    server.add("owner/qwen", files | {"tokenizer_config.json": files[FILES[1]] + b"\n"})
    assert hub_files.commit_of(found) == commit
    config = hub_files.fetch_tokenizer_file("owner/qwen", "tokenizer_config.json", hub_files.commit_of(found))
    assert config.read_bytes() == files["tokenizer_config.json"]
    resolve_tokenizer(Recipe(datasets="squad", tokenizer="owner/qwen"))
    asked = [request.path for request in server.requests if request.path.endswith("tokenizer_config.json")]
    assert "/resolve/main/" not in "".join(asked)


def test_a_damaged_copy_is_mended(server, monkeypatch):
    server.add("owner/model", {"tokenizer.json": b'{"a": 1}'})
    found = hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json")
    found.resolve().write_bytes(b'{"a": 2}')
    with monkeypatch.context() as patch:
        offline(patch)
        with pytest.raises(TokenizerError, match="its copy in the cache is damaged, and HF_HUB_OFFLINE is set"):
            hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json")
    with pytest.warns(
        HubWarning, match=r"tokenizer\.json: its copy in the cache is damaged; it was removed and fetched"
    ):
        assert hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json").read_bytes() == b'{"a": 1}'
    server.fault("corrupt", "tokenizer.json")
    found.resolve().write_bytes(b"{")
    with pytest.raises(TokenizerError, match="the Hub sent a damaged one too"):
        hub_files.fetch_tokenizer_file("owner/model", "tokenizer.json")
    assert not found.exists()
