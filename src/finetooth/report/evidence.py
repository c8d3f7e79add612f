"""What a report is made of: the files of a run, read once, and the lines that its parts make of them.

The page, the Markdown and the model card print what stands here and in summary.json; none of them computes a
figure of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from finetooth.report.settings import read_config
from finetooth.rundir import read_json, read_jsonl


@dataclass(frozen=True, slots=True)
class Line:
    """One labelled line of the first page, in plain words. badge: one or two words in front of them.

    kind: better, not-proven, worse or "", which colours the badge. chart: of the page alone; its numbers are
    in the words. public: the words without values of the data, for a model card; "": those of `words`.
    """

    label: str
    words: str
    badge: str = ""
    kind: str = ""
    chart: Markup | None = None
    public: str = ""


@dataclass(frozen=True)
class Evidence:
    """The files of a run directory. summaries: of its evaluations, that of the sealed test first."""

    path: Path
    config: Mapping[str, Any]
    reasons: Mapping[str, str]
    summaries: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, run_path: Path) -> Evidence:
        """What the run holds by now; parts that it does not have yet are empty."""
        config, reasons = read_config(run_path / "config.yaml")
        files = (run_path / "evaluate" / split / "summary.json" for split in ("test", "validation"))
        return cls(run_path, config, reasons, tuple(read_json(file) for file in files if file.is_file()))

    @property
    def summary(self) -> Mapping[str, Any] | None:
        """The result: on the sealed test if it was opened, else on validation rows; None without one."""
        return self.summaries[0] if self.summaries else None

    @property
    def method(self) -> str:
        """The training method."""
        return text_of(self.config, "train", "method") or "sft"

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run, {} without it."""
        file = self.path / name
        return dict(read_json(file)) if file.is_file() else {}

    def lines(self, name: str) -> list[Any]:
        """A JSONL file of the run, [] without it."""
        file = self.path / name
        return list(read_jsonl(file)) if file.is_file() else []

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, machine, and facts about the model and the inputs."""
        return self.json("environment.json")

    @cached_property
    def metrics(self) -> list[Any]:
        """The lines of the training's metrics."""
        return self.lines("train/metrics.jsonl")


def text_of(config: Mapping[str, Any], section: str, key: str) -> str:
    """A value of the configuration if it is a text, else ""."""
    values = config.get(section)
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, str) else ""


def day(time: str | None) -> str:
    """`2026-11-30T06:12:00+00:00` as `30 November 2026`; "" for None."""
    if not time:
        return ""
    then = datetime.fromisoformat(time)
    return f"{then.day} {then:%B %Y}"


def duration(seconds: float) -> str:
    """`8 s`, `3 min 12 s` or `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
