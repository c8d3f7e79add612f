"""The benchmark tasks: their converter, on planted trouble and on the real data, and their task files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts_for_tests import load_script

from finetooth.config.load import load_task
from finetooth.data.examples import normalise
from finetooth.rundir import read_jsonl

TASKS = Path(__file__).resolve().parents[2] / "benchmarks" / "tasks"


convert = load_script("benchmarks/tasks/convert.py")


def test_stray_latin_1_bytes_are_repaired_and_counted() -> None:
    content = "Play músic".encode() + b" ra\xedces " + "Åland…".encode() + b"\xe9"
    assert convert.decode(content) == ("Play músic raíces Åland…é", 2)


def test_a_label_is_readable_text() -> None:
    assert convert.words("AddToPlaylist") == "add to playlist"
    assert convert.words("pto_request_status") == "pto request status"


def test_a_text_of_two_splits_stays_in_the_test_and_conflicts_are_counted() -> None:
    splits = {
        "train": [("Book it", "a"), ("new", "a"), ("NEW ", "b"), ("seen", "a")],
        "validation": [("seen!", "a"), ("own", "b")],
        "test": [("book  it.", "b"), ("fine", "a"), ("fine", "a")],
    }
    kept, report = convert.without_copies(splits)
    assert kept == {
        "test": [("book  it.", "b"), ("fine", "a")],
        "validation": [("seen!", "a"), ("own", "b")],
        "train": [("new", "a")],
    }
    assert report.within == {"train": 1, "validation": 0, "test": 1}
    assert report.across == {"train": 2, "validation": 0, "test": 0}
    assert report.conflicts == 2


SPLITS = {
    "clinc150": ["train", "validation", "test"],
    "sms_spam": ["train"],
    "snips": ["train", "test"],
    "trec": ["train", "test"],
    "sst2": ["train", "validation", "test"],
    "ag_news_test": ["train"],
    "e2e_cleaned": ["train"],
    "gsm8k": ["train"],
    "wikisql_text2sql": ["train", "test"],
    "dolly_flan_6400": ["train"],
}


def test_several_answers_to_one_text_may_stay() -> None:
    splits = {"train": [("facts", "One way."), ("facts", "Another."), ("Facts", "one way")]}
    kept, report = convert.without_copies(splits, several=True)
    assert kept == {"train": splits["train"][:2]}
    assert report.within == {"train": 1} and report.conflicts == 0


@pytest.mark.parametrize("name", SPLITS)
def test_the_task_file_is_valid_and_reads_what_the_converter_writes(name: str) -> None:
    task = load_task(TASKS / f"{name}.yaml")
    folder = TASKS / "data" / name
    files = {
        part for part in (task.data.train, task.data.validation, task.data.test) if isinstance(part, str)
    }
    assert files == {str(folder / f"{split}.jsonl") for split in SPLITS[name]}
    assert name in convert.READERS


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [
        ("clinc150", {"train": 7485, "validation": 2999, "test": 4500}, 150),
        ("sms_spam", {"train": 5137}, 2),
        ("snips", {"train": 13518, "test": 695}, 7),
        ("trec", {"train": 5367, "test": 500}, 6),
        ("sst2", {"train": 6908, "validation": 872, "test": 1821}, 2),
        ("ag_news_test", {"train": 7600}, 4),
        ("e2e_cleaned", {"train": 4131}, None),
        ("gsm8k", {"train": 7473}, None),
        pytest.param("wikisql_text2sql", {"train": 4420, "test": 469}, None, marks=pytest.mark.full),
        ("dolly_flan_6400", {"train": 6283}, None),
    ],
)
def test_converting_the_published_files(
    name: str, rows: dict[str, int], labels: int | None, tmp_path: Path
) -> None:
    source = convert.data_directory()
    if not (source / name).is_dir():
        pytest.skip(f"{name} is not under FINETOOTH_DATA")
    report = convert.convert(name, source, tmp_path)
    assert report.written == rows
    assert report.repaired == {"snips": 6, "trec": 1}.get(name, 0)
    texts: list[str] = []
    for split, count in rows.items():
        written = list(read_jsonl(tmp_path / name / f"{split}.jsonl"))
        assert len(written) == count
        assert not any("�" in json.dumps(row, ensure_ascii=False) for row in written)
        if labels is None:
            names = ("prompt", "chosen", "rejected") if name in convert.PAIRS else ("question", "answer")
            assert all(tuple(row) == names for row in written)
            texts += ["\0".join(normalise(row[key]) for key in names) for row in written]
        else:
            assert len({row["label"] for row in written}) == labels, split
            texts += [normalise(row["text"]) for row in written]
    assert len(set(texts)) == len(texts)
