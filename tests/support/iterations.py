"""A folder of invented runs that are iterations of one task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_up_run import made_up_run

from finetooth.evaluation import ledger
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl, write_text

DAY = 86_400
Lines = list[dict[str, Any]]


def iteration(
    folder: Path,
    name: str,
    rate: float,
    day: int = 0,
    before: Path | str | None = None,
    key: str = "data.split_from",
    rows: Callable[[Lines], Lines] | None = None,
    **more: Any,
) -> Path:
    """A run whose tuned model is right at this rate.

    before: its parent, under `key`: data.split_from or start. day: when it was made. rows: what became of its
    training rows. more: `epochs`, `task`, and as in made_up_run.
    """
    epochs = more.pop("epochs", None)
    path = made_up_run(
        folder / name, more.pop("task", "support-triage"), rate, more.pop("test", False), **more
    )
    config = (path / "config.yaml").read_text()
    if before is not None and key == "start":
        config = config.replace("\nseed: 1", f"\nstart: {before}\nseed: 1")
    elif before is not None:
        config = config.replace("  train: /home", f"  split_from: {before}\n  train: /home")
    if epochs is not None:  # chosen by the user
        config = config.replace("epochs: 4.0\n", f"epochs: {epochs}\n").replace("#   train.epochs", "#   was")
    write_text(path / "config.yaml", config)
    if rows is not None:
        write_jsonl(path / "data" / "train.jsonl", rows([*read_jsonl(path / "data" / "train.jsonl")]))
    known = {"train": 2_100, "validation": 240, "sealed": 520, "format": "labels", "labels": [], "notes": []}
    write_json(path / "data" / "split.json", known)
    time = 1_800_000_000 + day * DAY
    for name in ("ledger.jsonl", "ledger.sha256"):
        (path / name).unlink()
    ledger.seal(path, lambda: time)
    if (summary := path / "evaluate" / "test" / "summary.json").is_file():
        ledger.open_sealed(path, "one", lambda: time)
        ledger.store_result(path, "one", read_json(summary), lambda: time)
    for file in ("config.yaml", "data/split.json"):
        os.utime(path / file, (time, time))
    return path


def added(count: int, kind: str = "new") -> Callable[[Lines], Lines]:
    """So many further rows."""
    return lambda lines: [
        *lines,
        *(
            {
                **lines[at],
                "id": f"{kind}-{at}",
                "context": [{"role": "user", "content": f"{kind} {at} {kind * 9}"}],
            }
            for at in range(count)
        ),
    ]


def corrected(count: int) -> Callable[[Lines], Lines]:
    """The first rows with another answer."""
    right = [{"text": "corrected", "role": "target"}]
    return lambda lines: [{**line, "answers": right} if at < count else line for at, line in enumerate(lines)]


def set_json(file: Path, **values: Any) -> None:
    """Change keys of a JSON file."""
    write_json(file, {**read_json(file), **values})
