"""The model that reflects for an optimiser: what is sent to an address, and how the base itself is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import ChatServer, serving
from contexts_for_tests import QUIET
from models_for_tests import tiny_model_dir

from finetooth.config.load import load_task
from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError
from finetooth.evaluation.prompting.label_scores import Effort
from finetooth.model.api import Model
from finetooth.runs import reflection
from finetooth.runs.context import RunContext
from finetooth.runs.reflection import Remote
from finetooth.types import Message, Sampling


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(reflection.KEY, raising=False)
    with serving("```\nBe brief.\n```") as one:
        yield one


def test_the_address_gets_the_masked_prompt_and_its_own_key(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(f"{server.url}/", "large")
    asked = "Write to ada.may@acme-tools.com about it."
    assert remote(asked) == "```\nBe brief.\n```"
    monkeypatch.setenv(reflection.KEY, "key-of-the-test")
    remote(asked)
    (path, plain, body), (_, keyed, again) = server.asked
    assert path == "/v1/chat/completions" and body == again and body["model"] == "large"
    assert body["messages"] == [{"role": "user", "content": "Write to [EMAIL] about it."}]
    assert "Authorization" not in plain and keyed["Authorization"] == "Bearer key-of-the-test"


@pytest.mark.parametrize("status", [500, 401, 302])
def test_an_error_names_the_address_and_a_redirection_is_not_followed(
    server: ChatServer, status: int
) -> None:
    server.status = status
    with pytest.raises(ConfigError, match=f"--reflection-url {server.url}: large answered HTTP {status}."):
        Remote(server.url, "large")("Hello")
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{"message": null}]}'])
def test_what_is_no_answer_is_said(server: ChatServer, body: bytes) -> None:
    server.body = body
    with pytest.raises(ConfigError, match="no answer that can be read"):
        Remote(server.url, "large")("Hello")


def test_nobody_at_the_address_and_no_address(server: ChatServer) -> None:
    server.server_close()
    with pytest.raises(ConfigError, match="no answer that can be read"):
        Remote("http:" + "//127.0.0.1:9/v1", "large")("Hello")
    for wrong in ("gpt", "ftp:" + "//example.com"):
        with pytest.raises(ConfigError, match="expected an address such as"):
            Remote(wrong, "large")


def test_the_base_is_asked_with_its_template_alone_and_counted(tmp_path: Path) -> None:
    base = tiny_model_dir(tmp_path / "base")
    data = {"train": [{"prompt": "a?", "completion": "b"}]}
    task = load_task({"model": str(base), "instruction": "Name the colour.", "data": data})
    model, effort = Model.load(base), Effort()
    renderer = Renderer(model.tokenizer)
    model.add_stop(renderer.stop_id)
    reflect = reflection.of_base(RunContext(task, tmp_path / "run", QUIET), model, effort)
    row = renderer.context_row((Message("user", "Improve it."),))
    for seed in (1, 2):  # the same answers get another proposal
        room = min(reflection.TOKENS, model.max_tokens - len(row))
        (want,) = model.generate([row], Sampling(reflection.TEMPERATURE, room, seed=seed))
        before = effort.tokens
        assert reflect("Improve it.") == want.text
        assert effort.tokens - before == len(row) + len(want.tokens) and effort.tokens == effort.computed
    with pytest.raises(ConfigError, match=f"it takes {model.max_tokens} tokens.*--reflection-url"):
        reflect("apple " * 400)
