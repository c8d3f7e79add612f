"""Law: what --fix wrote, undone with its patch, is the rows that were read; and it overwrites nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from undo import undo

from finetooth.config.task import DataConfig, Task
from finetooth.data.read.files import read
from finetooth.errors import DataError
from finetooth.quality.findings import Edit
from finetooth.quality.prepare import assemble
from finetooth.quality.repair.clean import TEXT
from finetooth.quality.repair.fix import fix
from finetooth.rundir import read_jsonl

PARTS = ["<b>x</b>", "Ã©", "ann@mail.org", "  two  ", "&amp;", "it\x92s", "word", "\u200b", "+49 30 1234567"]


def qa(draw: random.Random, count: int) -> list[dict[str, Any]]:
    def text() -> str:
        return f"{draw.randint(0, 40)} " + " ".join(draw.choices(PARTS, k=3))

    rows: list[dict[str, Any]] = []
    for _ in range(count):
        more = {"n": draw.random(), "deep": [{"a": text()}, None, 3], "id ": text()}
        rows.append({"question": text(), "answer": text()} | (more if draw.random() < 0.5 else {}))
    return rows


def chat(draw: random.Random, count: int) -> list[dict[str, Any]]:
    made = []
    for row in qa(draw, count):
        turns = [("user", row["question"]), ("assistant", row["answer"])]
        messages = [{"role": role, "content": text} for role, text in turns]
        made.append({"messages": messages, "group": f"ann{len(made)}@mail.org"})
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":  # all on one line
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        lines = ["question;answer"] + [
            ";".join(f'"{row[key].replace("  ", chr(10))}"' for key in ("question", "answer")) for row in rows
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


def edits(config: DataConfig, draw: random.Random) -> list[Edit]:
    sides = assemble(Task.model_validate({"data": config.model_dump()})).sides
    rows = [example for side in sides.values() for example in side]
    found = []
    for example in draw.sample(rows, len(rows) // 2):
        if draw.random() < 0.3:
            found.append(Edit(example.id, "drop"))
        found += [Edit(example.id, "text", name) for name in TEXT if draw.random() < 0.5]
    return draw.sample(found, len(found))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "make"), [("a.jsonl", qa), ("a.json", qa), ("a.csv", qa), ("a.jsonl", chat)]
)
def test_undo_gives_back_exactly_what_was_read(kind: str, make: Any, seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    path = write(tmp_path / kind, make(draw, 40))
    original = path.read_bytes()
    config = DataConfig(train=str(path), validation=0.1, test=0.2)
    (table,) = read(str(path))
    (done,) = fix(config, edits(config, draw), tmp_path)
    assert path.read_bytes() == original
    rows = list(read_jsonl(done.fixed))
    assert done.dropped and done.changed and len(rows) == len(table.rows) - done.dropped
    before = [dict(row.values) for row in table.rows]
    assert json.dumps(undo(done.fixed, done.patch)) == json.dumps(before)  # keys in their order too
    assert rows != [row for row in before if row in rows]


def test_edits_reach_their_rows_in_every_side_and_file(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    train = write(tmp_path / "a.jsonl", [{"question": f"q{k}", "answer": "Ã©"} for k in range(30)])
    other = write(tmp_path / "v" / "a.jsonl", [{"question": f"v{k}", "answer": "Ã©"} for k in range(5)])
    config = DataConfig(train=str(train), validation=str(other))
    sides = assemble(Task.model_validate({"data": config.model_dump()})).sides
    chosen = [sides["train"][3], sides["test"][1], sides["validation"][2]]
    first, second = fix(config, [Edit(row.id, "text", "fix_encoding") for row in chosen], tmp_path / "out")
    assert (first.side, second.side) == ("train", "validation")
    assert first.fixed.name == "a.fixed.jsonl" and second.fixed.name == "a.jsonl.fixed.jsonl"
    for done, wanted in ((first, chosen[:2]), (second, chosen[2:])):
        mended = {row["question"] for row in read_jsonl(done.fixed) if row["answer"] == "é"}
        assert mended == {row.context[0].content for row in wanted}
        lines = list(read_jsonl(done.patch))
        assert {line["id"] for line in lines} == {row.id for row in wanted}
        assert {line["line"] for line in lines} == {row.tags["line"] for row in wanted}
        assert lines[0]["before"] == {"answer": "Ã©"} and lines[0]["after"] == {"answer": "é"}


def test_files_whose_names_collide_are_numbered(tmp_path: Path) -> None:
    """Upper and lower case too, since many file systems do not tell them apart."""
    names = ["a-b.jsonl", "A-b.jsonl", "a-B.jsonl", "A-B.jsonl", "A/b.jsonl"]
    files = []
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        rows = [{"id": f"{number}", "question": f"q{number}", "answer": "Ã©"}]
        files.append(str(write(tmp_path / name, rows)))
    edits = [Edit(str(number), "text", "fix_encoding") for number in range(len(names))]
    done = fix(DataConfig(train=files), edits, tmp_path / "out")
    assert len({path.name.lower() for one in done for path in (one.fixed, one.patch)}) == 2 * len(names)
    for number, one in enumerate(done):
        assert [row["id"] for row in read_jsonl(one.fixed)] == [str(number)]


def test_copies_and_broken_rows_do_not_move_an_edit(tmp_path: Path) -> None:
    rows = [{"question": "same", "answer": "same"}] * 3 + [{"question": "", "answer": "x"}]
    rows += [{"question": f"q{k}", "answer": "x"} for k in range(300)]
    path = write(tmp_path / "a.json", rows)
    config = DataConfig(train=str(path))
    ids = [
        e.id
        for side in assemble(Task.model_validate({"data": {"train": str(path)}})).sides.values()
        for e in side
    ]
    (copy,) = [id for id in ids if id.endswith("-2")]
    (done,) = fix(config, [Edit(copy, "drop")], tmp_path)
    (line,) = read_jsonl(done.patch)
    assert (line["row"], line["operation"], line["before"], line["after"]) == (2, "drop", rows[1], None)
    assert list(read_jsonl(done.fixed)) == rows[:1] + rows[2:]


def test_ids_groups_and_masked_labels_are_left_alone(tmp_path: Path) -> None:
    mail = "ann@mail.org"
    rows = [{"id": f"{mail}{k}", "utterance": f"{mail} {k}", "intent": mail, "by": mail} for k in range(20)]
    path = write(tmp_path / "a.jsonl", rows)
    config = DataConfig(
        train=str(path),
        test=0.0,
        validation=0.0,
        columns={"utterance": "text", "intent": "label"},
        group="by",
    )
    (done,) = fix(config, [Edit(rows[4]["id"], "text", "mask_pii")], tmp_path)
    assert list(read_jsonl(done.fixed))[4] == rows[4] | {"utterance": "[EMAIL] 4"}


def test_nothing_is_overwritten_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": f"q{k}", "answer": "x"} for k in range(30)])
    config = DataConfig(train=str(path))
    edit = Edit(assemble(Task.model_validate({"data": {"train": str(path)}})).sides["train"][0].id, "drop")
    (tmp_path / "a.fixed.jsonl").write_text("mine")
    with pytest.raises(DataError, match="already exists"):
        fix(config, [edit], tmp_path)
    assert (tmp_path / "a.fixed.jsonl").read_text() == "mine" and not (tmp_path / "a.patch.jsonl").exists()
    with pytest.raises(DataError, match="no row 'gone'"):
        fix(config, [edit, Edit("gone", "drop")], tmp_path / "out")
    assert not (tmp_path / "out").exists() and fix(config, [], tmp_path / "out") == []
