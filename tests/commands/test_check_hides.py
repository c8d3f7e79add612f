"""No personal data and no secret is shown or written by `check`, but in the files that are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from models_for_tests import tiny_model_dir

from finetooth.cli.app import invoke

MAIL, CARD, KEY = "maria.lopez@corp.com", "4111 1111 1111 1111", "ghp_" + "a1B2" * 9
PHONE = "+49 30 1234567"
VALUES = (MAIL, CARD, KEY, PHONE)


def rows(labels: tuple[str, str]) -> list[str]:
    """Rows whose values stand in the three that are shown, in one that cannot be read, and in a label."""
    told = [f"{word} {n} told by {MAIL} or {PHONE}" for n in range(40) for word in ("apple", "engine")]
    lines = [json.dumps({"text": text, "label": labels[at % 2]}) for at, text in enumerate(told)]
    lines[0] = json.dumps({"text": f"the card is {CARD}", "label": labels[0]})
    lines[-1] = json.dumps({"text": f"and this opens it: {KEY}", "label": labels[1]})
    return [*lines, json.dumps({"text": None, "label": f"{MAIL} {KEY}"}), f"{{broken {MAIL} {CARD}"]


@pytest.mark.parametrize("counted", [False, True])
def test_values_are_hidden_everywhere(
    counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("\n".join(rows((MAIL, "engine"))) + "\n", encoding="utf-8")
    model = ["--model", str(tiny_model_dir(tmp_path / "model"))] if counted else []
    invoke(["check", "rows.jsonl", "--out", "out", *model])
    invoke(["check", "rows.jsonl", "--out", "json", "--json", *model])
    told = "".join(capsys.readouterr())
    written = {path: path.read_text(encoding="utf-8") for path in Path("out").rglob("*.*") if path.is_file()}
    assert {"check.json", "report.html", "findings.jsonl", "rejected.jsonl"} <= {p.name for p in written}
    for place, text in {"the terminal": told, **written}.items():
        # Spaces may be marked, and a line of the terminal ends where it is full.
        bare = "".join(text.replace("·", " ").split())
        for value in VALUES:
            assert "".join(value.split()) not in bare, f"{value} is in {place}"
    assert "m***@***.com" in told and "m***@***.com" in written[Path("out/data/check.json")]


def test_labels_that_look_alike_once_hidden_stay_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("\n".join(rows((MAIL, "mario@corp.com"))[:-2]) + "\n", encoding="utf-8")
    invoke(["check", "rows.jsonl", "--out", "out"])
    labels = json.loads(Path("out/data/check.json").read_text(encoding="utf-8"))["labels"]
    assert len(labels) == 2 and sum(sum(sides.values()) for sides in labels.values()) == 80
