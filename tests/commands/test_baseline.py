"""`finetooth baseline TASK` and the key evaluate.prompt, on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import finetooth
from models_for_tests import tiny_model_dir
from trained_elsewhere import train_adapter

from finetooth.errors import ConfigError
from finetooth.evaluation.candidates import ModelCandidate
from finetooth.evaluation.prompting.spec import read_spec
from finetooth.report.evidence import Evidence
from finetooth.report.run_page import score_table
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.types import Example

COLORS = {"apple": "red", "banana": "yellow", "plum": "deep blue"}
ROWS = [(f"{n} of {fruit}?", color) for n in range(24) for fruit, color in COLORS.items()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A task of labels, one of free text, and the ladder of the first in runs/fruit."""
    folder = tmp_path_factory.mktemp("place")
    tiny_model_dir(folder / "base")
    write_jsonl(folder / "fruit.jsonl", [{"text": q, "label": a} for q, a in ROWS])
    data = {"train": "fruit.jsonl", "validation": 0.3, "test": 0.2}
    evaluate = {"shots": [0], "price_in": 2.0, "price_out": 8.0}
    write_json(folder / "fruit.json", {"name": "fruit", "model": "base", "data": data, "evaluate": evaluate})
    write_jsonl(folder / "free.jsonl", [{"prompt": q, "completion": a} for q, a in ROWS])
    free = {"train": "free.jsonl", "validation": 0.1, "test": 0.2}
    settings = {"grader": "exact", "max_tokens": 3}
    write_json(folder / "free.json", {"name": "free", "model": "base", "data": free, "evaluate": settings})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETOOTH_CACHE", str(folder / "cache"))
        done = finetooth(folder, "baseline", "fruit.json", "--out", "ladder", "--budget", "200", "--quiet")
        assert done.returncode == 0, done.stderr
        yield folder


def ladder(place: Path) -> dict[str, Any]:
    result: dict[str, Any] = read_json(place / "ladder" / "baseline" / "baseline.json")
    return result


def test_the_ladder_counts_its_effort_and_keeps_its_halves_apart(place: Path) -> None:
    found, lines = ladder(place), [*read_jsonl(place / "ladder" / "baseline" / "records.jsonl")]
    effort = found["effort"]
    assert effort["answers"] <= effort["budget"] == 200 and "optimizer" not in found
    assert 0 < effort["computed_tokens"] < effort["tokens"] / 2  # labels and demonstrations share prefixes
    parts = {
        part: {line["id"] for line in lines if line["part"] == part} for part in ("selection", "confirmation")
    }
    assert not parts["selection"] & parts["confirmation"]
    assert len(parts["selection"]) == found["rows"]["selection"]
    names = [entry["name"] for entry in found["prompts"]]
    assert found["winner"]["name"] in names and "zero-shot" in names and len(set(names)) == len(names)
    assert set(found["layouts"]) >= {"turns", "cue", "block"}
    assert not (place / "ladder" / "data").exists() and not (place / "ladder" / "ledger.jsonl").exists()


def test_an_entry_is_the_mean_of_its_records_and_its_price_that_of_its_tokens(place: Path) -> None:
    found, lines = ladder(place), [*read_jsonl(place / "ladder" / "baseline" / "records.jsonl")]
    for entry in found["prompts"]:
        if not entry["finalist"]:
            continue
        for part, key in (("selection", "score"), ("confirmation", "confirmed")):
            own = [one for one in lines if one["candidate"] == entry["name"] and one["part"] == part]
            assert entry[key] == pytest.approx(sum(one["score"] for one in own) / len(own))
            if part == "selection":
                tokens = sum(one["prompt_tokens"] for one in own) / len(own)
                assert entry["prompt_tokens"] == pytest.approx(tokens)
        price = (2.0 * entry["prompt_tokens"] + 8.0 * entry["completion_tokens"]) / 1e6
        assert entry["price"] == pytest.approx(price)


def test_no_demonstration_is_a_held_out_row(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: set[str] = set()
    real = ModelCandidate.context

    def context(self: ModelCandidate, example: Example) -> Any:
        shown.update(demo.id for demo in self.prompt.of_row(example).demos)
        return real(self, example)

    monkeypatch.setattr(ModelCandidate, "context", context)
    done = finetooth(place, "baseline", "free.json", "--out", "free", "--budget", "120", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    held_out = {line["id"] for line in read_jsonl(place / "free" / "baseline" / "records.jsonl")}
    assert shown and not shown & held_out
    assert found["rows"]["from_train"] > 0 and found["effort"]["answers"] <= 120
    assert found["recommendation"]["outcome"] in ("prompting is enough", "fine-tune", "not proven")


def test_what_was_measured_is_what_evaluate_asks(place: Path) -> None:
    """The winner of the ladder, as evaluate.prompt of a run: the same answers to the same rows."""
    file = place / "nearest.yaml"
    file.write_text("shots: 2\ndemonstrations: bm25\nlayout: cue\noffsets: {red: 0.3, yellow: -0.2}\n")
    train_adapter(place / "base", ROWS[::4], place / "adapter", steps=2)
    done = finetooth(
        place, "evaluate", "adapter", "fruit.json", "--out", "run", "--evaluate.prompt", file, "--json"
    )
    if done.returncode == 2:  # evaluate MODEL takes no keys
        task = read_json(place / "fruit.json")
        task["evaluate"] |= {"prompt": "nearest.yaml"}
        write_json(place / "prompted.json", task)
        done = finetooth(place, "evaluate", "adapter", "prompted.json", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    names = [entry["name"] for entry in json.loads(done.stdout)["candidates"]]
    assert names == ["majority", "bag-of-words", "zero-shot", "prompt", "tuned", "tuned+prompt"]
    lines = [*read_jsonl(place / "run" / "evaluate" / "validation" / "records.jsonl")]
    tokens = {
        name: [line["prompt_tokens"] for line in lines if line["candidate"] == name]
        for name in ("prompt", "tuned+prompt", "zero-shot")
    }
    assert tokens["prompt"] == tokens["tuned+prompt"] and min(tokens["prompt"]) > max(tokens["zero-shot"])
    file.write_text("shots: 3\n")
    again = finetooth(place, "evaluate", "adapter", "prompted.json", "--out", "run")
    assert again.returncode == 2 and "nearest.yaml has changed since run was made" in again.stderr


FEW_STEPS = ("--train.preflight", "off", "--train.max_steps", "2", "--evaluate.shots", "0")


def names(summary: dict[str, Any]) -> list[str]:
    return [entry["name"] for entry in summary["candidates"]]


@pytest.fixture(scope="module")
def climbed(place: Path) -> tuple[Path, Any]:
    """A run with the ladder as a stage, and what the command said."""
    words = ("run", "fruit.json", "--out", "climbed", "--evaluate.ladder", "true", *FEW_STEPS)
    done = finetooth(place, *words, "--json")
    assert done.returncode == 0, done.stderr
    return place / "climbed", done


def test_run_searches_for_the_prompt_to_beat_and_counts_both_efforts(climbed: tuple[Path, Any]) -> None:
    run, done = climbed
    assert "ladder: at most 300 answers of the base under other prompts" in done.stderr
    facts = json.loads(done.stdout)
    assert facts["split"] == "test"
    assert names(facts) == ["majority", "bag-of-words", "zero-shot", "prompt", "tuned", "tuned+prompt"]
    found = read_json(run / "baseline" / "baseline.json")
    metrics = [*read_jsonl(run / "train" / "metrics.jsonl")]
    held_out = len([*read_jsonl(run / "data" / "validation.jsonl")])
    assert facts["effort"]["prompts"]["answers"] == found["effort"]["answers"] <= 300
    assert facts["effort"]["training"]["answers"] == held_out * sum("valid_loss" in one for one in metrics)
    shown = {line["id"] for line in read_jsonl(run / "baseline" / "records.jsonl")}
    sealed = {line["id"] for line in read_jsonl(run / "evaluate" / "test" / "records.jsonl")}
    assert shown and not shown & sealed  # the test chose no prompt
    page = (run / "report.html").read_text("utf-8")
    assert "The prompt ladder compared" in page and "was skipped" not in page
    assert "unequal effort" in page  # two checkpoints here, some hundred answers there


def test_costs_are_those_that_were_logged(climbed: tuple[Path, Any]) -> None:
    run = climbed[0]
    summary = read_json(run / "evaluate" / "test" / "summary.json")
    lines = [*read_jsonl(run / "evaluate" / "test" / "records.jsonl")]
    timing = read_json(run / "evaluate" / "test" / "timing.json")
    rows = score_table(summary, Evidence.read(run))["rows"]
    shown = [one for one in rows if one["name"] not in ("majority", "bag-of-words")]
    assert [one["name"] for one in shown] == ["zero-shot", "prompt", "tuned", "tuned+prompt"]
    for one in shown:
        own = [line for line in lines if line["candidate"] == one["name"]]
        for key in ("prompt_tokens", "completion_tokens"):
            assert one[key] == pytest.approx(sum(line[key] for line in own) / len(own), abs=1e-9)
        assert one["seconds"] == timing[one["name"]] > 0
        assert one["price"] == pytest.approx(
            (2.0 * one["prompt_tokens"] + 8.0 * one["completion_tokens"]) / 1e3  # of 1,000 answers
        )


@pytest.mark.full
def test_an_earlier_search_is_taken_and_one_of_other_rows_is_not(place: Path) -> None:
    search = ("baseline", "fruit.json", "--budget", "130", "--quiet")
    for out, more in (("early", ()), ("other", ("--seed", "5"))):  # another seed, other sides
        assert finetooth(place, *search, "--out", out, *more).returncode == 0
        done = finetooth(place, "run", "fruit.json", "--out", out, *FEW_STEPS, "--json")
        assert done.returncode == 0, done.stderr
        page = (place / out / "report.html").read_text("utf-8")
        assert ("prompt" in names(json.loads(done.stdout))) == (out == "early")
        assert ("The prompt ladder was skipped" in page) == (out == "other")
    for command in ("finetooth baseline other/config.yaml --out other", "finetooth evaluate other"):
        assert f'<code class="command">{command}</code>' in page  # and these bring it
        words = command.split()[1:]
        done = finetooth(place, *words, *(("--budget", "130") if "baseline" in words else ()), "--json")
        assert done.returncode == 0, done.stderr
    assert "prompt" in names(json.loads(done.stdout))


@pytest.mark.full
def test_a_prompt_has_room_to_reason(place: Path) -> None:
    """Tasks of numbers also try reasons before the answer, which have more room than a tuned answer."""
    write_jsonl(
        place / "sums.jsonl", [{"prompt": f"{n} + {n}?", "completion": str(2 * n)} for n in range(80)]
    )
    data = {"train": "sums.jsonl", "validation": 0.2, "test": 0.2}
    settings = {"grader": "number", "max_tokens": 3}
    write_json(place / "sums.json", {"model": "base", "data": data, "evaluate": settings})
    done = finetooth(place, "baseline", "sums.json", "--out", "sums", "--budget", "150", "--json")
    assert done.returncode == 0, done.stderr
    prompts = json.loads(done.stdout)["prompts"]
    reasoned = [one["completion_tokens"] for one in prompts if "up to 160 tokens" in one["name"]]
    assert reasoned and min(reasoned) > 3
    (place / "reasons.yaml").write_text("instruction: Think first.\nmax_tokens: 40\n")
    spec = read_spec(place / "reasons.yaml")
    assert spec.max_tokens == 40 and "max_tokens: 40" in spec.to_yaml()
    (place / "reasons.yaml").write_text("max_tokens: 0\n")
    with pytest.raises(ConfigError, match="max_tokens: expected at least 1"):
        read_spec(place / "reasons.yaml")


def test_the_prompt_file_is_the_winner(place: Path) -> None:
    spec, winner = read_spec(place / "ladder" / "baseline" / "prompt.yaml"), ladder(place)["winner"]
    assert spec.title == winner["name"].split(", batch")[0].split(", contextual")[0]
    assert bool(spec.offsets) == ("calibration" in winner["name"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", "12"), "--budget 12: too few answers"),
        (("--instructions", "empty.txt"), "there is no instruction in it"),
        (("--evaluate.prompt", "none.yaml"), "none.yaml: cannot be read"),
        (("--evaluate.grader", "perplexity"), "perplexity grades none"),
    ],
)
def test_wrong_input_is_refused(place: Path, words: tuple[str, ...], message: str) -> None:
    (place / "empty.txt").write_text("\n \n")
    verb = "run" if "none.yaml" in words else "baseline"
    done = finetooth(place, verb, "fruit.json", "--out", "wrong", *words)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (place / "wrong").exists()
