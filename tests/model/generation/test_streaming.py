"""Streaming: the pieces of an answer are its text, cut only where no later token can change it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from models_for_tests import tiny_model_dir
from tokenizers_for_tests import save_tokenizer

from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import ModelError
from finetooth.model.api import Model
from finetooth.model.generation.streaming import IncrementalDetokenizer
from finetooth.tree import Row
from finetooth.types import Piece, Sampling

MIXED = "naïve café — 日本語 😀👩‍👩‍👧\n\n  ok, “quoted” ½\n"
LOST = "\N{REPLACEMENT CHARACTER}"


def pieces_of(tokenizer: Tokenizer, text: str, stops: tuple[str, ...] = ()) -> list[str]:
    """What each token of a text adds, and at the end the rest."""
    tokens = tokenizer.encode(text)
    growing = IncrementalDetokenizer(tokenizer.decode, tokenizer.text_of, stops)
    pieces = [growing.settled(tokens[: count + 1]) for count in range(len(tokens))]
    return [*pieces, growing.rest(tokenizer.decode(tokens))]


@pytest.mark.parametrize("family", ["chatml", "gpt2", "llama2-metaspace"])
def test_characters_of_several_bytes_arrive_whole(family: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, family))
    tokens = tokenizer.encode(MIXED)
    assert LOST in "".join(tokenizer.decode([token]) for token in tokens), "one by one they are broken"
    pieces = pieces_of(tokenizer, MIXED)
    assert "".join(pieces) == tokenizer.decode(tokens) == MIXED
    assert LOST not in "".join(pieces)


def test_a_character_is_shown_as_soon_as_its_last_byte_is_there(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "chatml"))
    tokens = tokenizer.encode(MIXED)
    shown = ""
    for count, piece in enumerate(pieces_of(tokenizer, MIXED)[:-1], 1):
        shown += piece
        assert shown == tokenizer.decode(tokens[:count]).rstrip(LOST)


def test_what_may_begin_a_stop_string_waits(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(save_tokenizer(tmp_path, "chatml"))
    text = "one\nUs two\nUser: three"
    shown = ""
    for piece in pieces_of(tokenizer, text, ("\nUser:",))[:-1]:
        shown += piece
        assert not any(shown.endswith("\nUser:"[:size]) for size in range(1, 6))
        if "\nUser:" in shown:
            break
    assert shown.startswith("one\nUs two"), "what only looked like it has been shown"


@pytest.fixture(scope="module", params=["chatml", "llama2-metaspace"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """It knows nothing, so its samples are full of bytes that make no character."""
    return Model.load(tiny_model_dir(tmp_path_factory.mktemp("model"), tokenizer=request.param))


def contexts(model: Model) -> list[Row]:
    assert model.tokenizer is not None
    lists = [model.tokenizer.encode(text) for text in ("What is it?", "What is", "Numbers such as 1, 23")]
    return [Row(tokens, [0.0] * len(tokens)) for tokens in lists]


def joined(pieces: list[Piece]) -> dict[tuple[int, int], str]:
    texts: dict[tuple[int, int], str] = defaultdict(str)
    for piece in pieces:
        texts[piece.row, piece.sample] += piece.text
    return texts


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_pieces_are_the_answers_of_generate(model: Model, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, max_tokens=40, samples=3, seed=5)
    pieces = list(model.stream(contexts(model), sampling))
    done = {(p.row, p.sample): p.completion for p in pieces if p.completion is not None}
    whole = {(c.row, c.sample): c for c in model.generate(contexts(model), sampling)}
    assert done == whole
    assert joined(pieces) == {key: completion.text for key, completion in whole.items()}
    if temperature:
        assert any(LOST in completion.text for completion in whole.values()), "nothing was broken"


def test_text_comes_before_the_answer_ends(model: Model) -> None:
    stream = model.stream(contexts(model)[:1], Sampling(max_tokens=200))
    early = [next(stream) for _ in range(3)]
    assert all(piece.completion is None and piece.text for piece in early)
    stream.close()  # type: ignore[attr-defined]  # as Ctrl-C does
    assert [p.completion for p in model.stream(contexts(model)[:1], Sampling(max_tokens=4))][-1] is not None


def test_a_stop_string_is_never_shown(model: Model) -> None:
    free = Sampling(temperature=1.5, max_tokens=40, seed=3)
    text = next(iter(model.generate(contexts(model)[:1], free))).text
    stop = next(text[at : at + 4] for at in range(8, 40) if LOST not in text[at : at + 4])
    pieces = list(model.stream(contexts(model)[:1], Sampling(1.5, 40, seed=3, stop=(stop,))))
    done = pieces[-1].completion
    assert done is not None and done.stop == "string" and stop not in done.text
    assert "".join(piece.text for piece in pieces) == done.text


def test_a_model_without_tokenizer_says_so(model: Model) -> None:
    bare = Model(model.hf, None, model.attention, frozenset())
    with pytest.raises(ModelError, match="tokenizer"):
        bare.stream(contexts(model), Sampling())
