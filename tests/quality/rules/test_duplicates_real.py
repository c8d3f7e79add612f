"""Leaks planted into three public sets are found, at the recall that planted text has to have."""

from __future__ import annotations

import json
import random
from pathlib import Path

import planted
import pytest

from finetooth.config.task import DataConfig
from finetooth.quality.findings import View
from finetooth.quality.rules.leaks import leaks, possible_leaks
from finetooth.types import Example

pytestmark = pytest.mark.data


def trec(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "trec" / "TREC.train.all").read_text("latin-1").splitlines()
    return [(text, label) for label, _, text in (line.partition(" ") for line in lines) if text]


def sms(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "sms_spam" / "SMSSpamCollection").read_text("utf-8").splitlines()
    return [(text, label) for label, _, text in (line.partition("\t") for line in lines) if text]


def gsm8k(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()[:3000]
    return [(row["question"], row["answer"].rpartition("#### ")[2]) for row in map(json.loads, lines)]


@pytest.mark.parametrize("load", [trec, sms, gsm8k])
def test_planted_leaks_are_found(load, data_dir: Path) -> None:  # type: ignore[no-untyped-def]
    """Texts of 12 words and more; a row counts as found when it is named, with whichever row it repeats."""
    generator = random.Random(0)
    rows = load(data_dir)
    train = [planted.row(f"r{k}", text, answer) for k, (text, answer) in enumerate(rows)]
    long = generator.sample([k for k, (text, _) in enumerate(rows) if len(text.split()) >= 12], 120)
    kinds = (
        ("exact", lambda text: planted.recase(text, generator), 1.0),
        ("20%", lambda text: planted.edit(text, 0.2, generator), 0.98),
        ("prefix", planted.wrap, 0.98),
        ("half", lambda text: planted.half(text, generator), 0.95),
    )
    test: list[Example] = [
        planted.row(f"{name}{k}", plant(rows[k][0]), rows[k][1]) for name, plant, _ in kinds for k in long
    ]
    view = View(
        {"train": train, "test": test}, "qa", DataConfig(train="a"), user_provided=frozenset({"test"})
    )
    blocked = {hit.id for finding in leaks(view) for hit in finding.hits}
    looked = {hit.id for finding in possible_leaks(view) for hit in finding.hits}
    assert {f"exact{k}" for k in long} <= blocked
    for name, _, least in kinds:
        found = sum(f"{name}{k}" in blocked | looked for k in long)
        assert found >= least * len(long), f"{name}: {found} of {len(long)}"
