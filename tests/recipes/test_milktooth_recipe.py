"""The recipe of the embedded model, on a corpus small enough for a test."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts_for_tests import load_script

from finetooth.cli.app import invoke
from finetooth.config.load import load_task
from finetooth.data.render.renderer import Renderer
from finetooth.data.render.tokenizer import Tokenizer
from finetooth.model.api import Model
from finetooth.rundir import read_json, read_jsonl
from finetooth.types import Message

pytestmark = pytest.mark.full
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "milktooth"
ROW_TOKENS = 64


prepare = load_script("recipes/milktooth/prepare.py")
make_instructions = load_script("recipes/milktooth/make_instructions.py")
measure = load_script("recipes/milktooth/measure.py")
package = load_script("recipes/milktooth/package.py")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("milktooth")
    boilerplate = "This paragraph stands in front of every book of this publisher. " * 5
    for source in prepare.SOURCES:
        blocks = [
            f"{boilerplate}\nChapter {n} of {source.name} in 19{n:02d}.\n" + f"Word {n} and more of it. " * n
            for n in range(40)
        ]
        text = "\n\n".join(blocks)
        (folder / f"{source.name}.txt.gz").write_bytes(gzip.compress(text.encode()))
    prepare.prepare(folder, folder / "out", row_tokens=ROW_TOKENS, held_out=0.05, seed=3)
    return folder / "out"


def test_rows_fit_the_trainer_and_lose_no_text(prepared: Path) -> None:
    tokenizer = Tokenizer.load(prepared / "model")
    texts = [row["text"] for row in read_jsonl(prepared / "train.jsonl")]
    assert max(len(tokenizer.encode(text)) for text in texts) <= ROW_TOKENS - 2
    for source in prepare.SOURCES:
        held = " ".join(row["text"] for row in read_jsonl(prepared / "heldout" / f"{source.name}.jsonl"))
        for n in range(40):
            heading = f"Chapter {n} of {source.name} in 19{n:02d}."
            expected = 0 if heading in held else source.repeats
            assert sum(heading in text for text in texts) == expected, heading


def test_held_out_documents_are_of_every_source_and_never_trained_on(prepared: Path) -> None:
    train = {row["text"] for row in read_jsonl(prepared / "train.jsonl")}
    validation = [row["text"] for row in read_jsonl(prepared / "validation.jsonl")]
    by_source = [
        [row["text"] for row in read_jsonl(prepared / "heldout" / f"{source.name}.jsonl")]
        for source in prepare.SOURCES
    ]
    assert all(by_source)
    assert sorted(text for texts in by_source for text in texts) == sorted(validation)
    headings = [line for text in validation for line in text.split("\n") if line.startswith("Chapter")]
    assert len(headings) == 2 * len(prepare.SOURCES)
    assert not any(heading in text for heading in headings for text in train)


def test_a_repeated_paragraph_is_kept_once(prepared: Path) -> None:
    rows = [*read_jsonl(prepared / "train.jsonl"), *read_jsonl(prepared / "validation.jsonl")]
    assert sum("This paragraph stands" in row["text"] for row in rows) <= 3  # one, cut into rows


def test_pieces_are_the_text_again_and_their_tokens_add_up(prepared: Path) -> None:
    tokenizer = prepare.Tokenizer.from_file(str(prepared / "model" / "tokenizer.json"))
    text = "One two three. " * 40 + "\n\n  indented; naïve – 12345\n" + "x" * 30
    cut = prepare.pieces(text, 50, tokenizer)
    assert "".join(piece for piece, _ in cut) == text
    assert sum(count for _, count in cut) == len(tokenizer.encode(text))
    assert all(count <= 50 for _, count in cut)
    with pytest.raises(ValueError, match="single word"):
        prepare.pieces("é1" * 200, 50, tokenizer)


def test_the_tokenizer_loses_nothing_and_splits_digits(prepared: Path) -> None:
    tokenizer = Tokenizer.load(prepared / "model")
    text = "Tab\t, naïve “quotes”, 日本, emoji 🦷 and 1984\n\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.decode([i]) for i in tokenizer.encode("1984")] == ["1", "9", "8", "4"]
    assert tokenizer.encode("<|im_end|>") == [2] and tokenizer.eos_token_id == 0


def test_the_chat_template_has_no_hidden_system_prompt_and_stops(prepared: Path) -> None:
    renderer = Renderer(Tokenizer.load(prepared / "model"))
    context = [Message("user", "Hi")]
    sent = renderer.tokenizer.decode(renderer.context_row(context).tokens.tolist())
    assert sent == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert renderer.answer_ids(context, "ok")[-1] == renderer.stop_id == 2
    assert read_json(prepared / "model" / "generation_config.json")["eos_token_id"] == [0, 2]


def test_the_configuration_is_small_enough_to_embed() -> None:
    config = prepare.CONFIG
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    attention = 2 * width * width * (1 + config["num_key_value_heads"] / config["num_attention_heads"])
    block = attention + 3 * width * config["intermediate_size"] + 2 * width
    assert config["vocab_size"] * width + layers * block + width == 4_327_680


def test_a_rerun_writes_the_same_files(prepared: Path, tmp_path: Path) -> None:
    prepare.prepare(prepared.parent, tmp_path, row_tokens=ROW_TOKENS, held_out=0.05, seed=3)
    for name in ("train.jsonl", "validation.jsonl", "model/tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (prepared / name).read_bytes(), name


def test_instruction_rows_are_distinct_and_their_answers_follow_from_the_chat() -> None:
    rows = make_instructions.generate(600, seed=1)
    assert rows == make_instructions.generate(600, seed=1)
    assert len({json.dumps(row) for row in rows}) == 600
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        chat = roles[1:] if roles[0] == "system" else roles
        assert chat == ["user", "assistant"] * (len(chat) // 2) and chat
        assert all(message["content"].strip() == message["content"] for message in row["messages"])
        first = row["messages"][0]
        if first["role"] == "system" and first["content"].startswith("Answer with one of:"):
            listed = first["content"].partition(":")[2].rstrip(".")
            listed = listed.replace("\n- ", ", ").replace(" | ", ", ").strip(" -")
            answers = {m["content"] for m in row["messages"] if m["role"] == "assistant"}
            assert answers <= set(listed.split(", ")), row


def test_fifty_steps_of_the_recipe_twice_are_the_same_bits(prepared: Path, tmp_path: Path) -> None:
    """The recipe's own task, with the model of its size, on the small corpus."""
    flags = ["--model", prepared / "model", "--train.max_steps", 50, "--train.epochs", 20]
    flags += ["--data.train", prepared / "train.jsonl", "--data.validation", 0]
    flags += ["--train.preflight", "off"]
    weights = []
    for name in ("one", "two"):
        assert invoke(["train", *map(str, [RECIPE / "pretrain.yaml", "--out", tmp_path / name, *flags])]) == 0
        weights.append((tmp_path / name / "train" / "model" / "model.safetensors").read_bytes())
        assert read_json(tmp_path / name / "train" / "result.json")["steps"] == 50
    assert weights[0] == weights[1]


def test_passages_of_the_corpus_go_on_where_they_were_cut(prepared: Path) -> None:
    text = " ".join(f"word{n}" for n in range(150))
    rows = make_instructions.generate(300, seed=1, texts=[text])
    asked = [row["messages"] for row in rows if row["messages"][-1]["content"].startswith("word")]
    assert 15 <= len(asked) <= 60
    for *_, question, answer in asked:
        assert f"{question['content']} {answer['content']}" in text
        assert 15 <= len(question["content"].split()) <= 40


@pytest.mark.parametrize("stage", ["pretrain", "instruct"])
def test_the_stages_are_valid_tasks(stage: str) -> None:
    task = load_task(RECIPE / f"{stage}.yaml")
    assert task.train.adapter == "none" and task.train.patience is None
    assert Path(str(task.data.train)).name in ("train.jsonl", "instructions.jsonl")


def test_measured_text_is_joined_up_to_a_row_and_every_byte_counts(tmp_path: Path) -> None:
    model = Model.load("milktooth")
    assert model.tokenizer is not None
    text = "".join(f"Line {n} of a text, naïve and not long.\n" for n in range(30)) + "word " * 100 + "\n"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    found, size = measure.rows(tmp_path / "a.txt", model, 64)
    assert size == len(text.encode()) and max(map(len, found)) <= 64 and len(found) < 20
    assert "".join(model.tokenizer.decode(row.tokens[1:].tolist()) for row in found) == text
    packed, packed_size = measure.rows(tmp_path / "a.txt.gz", model, 64)
    assert packed_size == size and [row.tokens.tolist() for row in packed] == [
        row.tokens.tolist() for row in found
    ]


def test_the_card_totals_the_held_out_texts_only() -> None:
    measured = {
        "a": {"bytes": 100, "bits_per_byte": 1.0},
        "b": {"bytes": 300, "bits_per_byte": 2.0},
        "wikitext2_validtest": {"bytes": 50, "bits_per_byte": 3.0},
    }
    bar = {name: entry | {"bits_per_byte": 2.5} for name, entry in measured.items()}
    table = package.quality_table(measured, bar).split("\n")
    assert table[-2:] == [
        "| **all of these** | 400 | 1.750 | 2.500 |",
        "| wikitext2_validtest | 50 | 3.000 | 2.500 |",
    ]
    bar["a"]["bytes"] = 99
    with pytest.raises(ValueError, match="other texts"):
        package.quality_table(measured, bar)


def test_one_command_makes_a_packaged_model(prepared: Path, tmp_path: Path) -> None:
    """From the small corpus, two steps of each training; a second call has nothing left but to package."""
    build = [sys.executable, str(RECIPE / "build.py"), str(prepared.parent), "--max-steps", "2"]
    build += ["--staging", str(tmp_path / "staging"), "--out", str(tmp_path / "model")]
    first = subprocess.run(build, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("\n$ ") == 6
    card = (tmp_path / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "2 steps of pretraining" in card and "**all of these**" in card and "<!--" not in card
    assert Model.load(tmp_path / "model").tokenizer is not None
    again = subprocess.run(build, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and again.stdout.count("$ ") == 1
