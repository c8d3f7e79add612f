"""What a run's files say, computed from its records by formulas of their own: for report_truth.py."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import sacrebleu
import yaml


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def wilson(right: float, n: int) -> tuple[float, float]:
    """Wilson's score interval by its formula, at 95%."""
    z = 1.959963984540054
    middle = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, middle - half), middle + half


def midp(gained: int, lost: int) -> float:
    """McNemar's mid-p by its definition."""
    n, k = gained + lost, min(gained, lost)
    tail = sum(math.comb(n, i) for i in range(k)) + math.comb(n, k) / 2
    return min(1.0, 2 * tail / 2**n) if n else 1.0


def corpus_score(lines: list[dict[str, Any]]) -> str:
    """chrF over all answers, which a table shows beside the mean over rows."""
    score = sacrebleu.corpus_chrf([line["text"] for line in lines], [[line["want"] for line in lines]]).score
    return f"{score:,.1f}" if score >= 10 else f"{score:.2f}"


class Facts:
    """What a run's files say. The summary is believed in nothing that follows from the records."""

    def __init__(self, run: Path, split: str = "") -> None:
        """split: of the result; default the sealed test if it was opened."""
        self.run = run
        tested = (run / "evaluate" / "test" / "summary.json").is_file()
        self.split = split or ("test" if tested else "validation")
        self.summary = self.json(f"evaluate/{self.split}/summary.json")
        self.score: dict[str, dict[str, float | None]] = {}
        self.records: dict[str, list[dict[str, Any]]] = {}
        for line in self.lines(f"evaluate/{self.split}/records.jsonl"):
            self.score.setdefault(line["candidate"], {})[line["id"]] = line["score"]
            self.records.setdefault(line["candidate"], []).append(line)
        self.entry = {one["name"]: one for one in self.summary["candidates"]}
        self.result = self.summary["comparison"]
        self.timing = self.json(f"evaluate/{self.split}/timing.json")
        self.n = len(self.score["tuned"])

    def json(self, name: str) -> dict[str, Any]:
        file = self.run / name
        return json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def text(self, name: str) -> str:
        return (self.run / name).read_text("utf-8")

    def lines(self, name: str) -> list[dict[str, Any]]:
        file = self.run / name
        return [json.loads(one) for one in file.read_text("utf-8").splitlines()] if file.is_file() else []

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self.json("environment.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.run / "config.yaml").read_text("utf-8"))

    def mean(self, name: str) -> float:
        values = [value for value in self.score[name].values() if value is not None]
        return sum(values) / len(values)

    def has(self, key: str) -> bool:
        """Whether a candidate has this beside its score: a column of the table."""
        return any(one.get(key) for one in self.entry.values())

    def lenient(self, name: str) -> float:
        """The mean score with form forgiven, which is kept where it differs."""
        values = [line.get("lenient", line["score"]) for line in self.records[name]]
        return sum(values) / len(values)

    def interval(self, name: str) -> tuple[float, float]:
        """Of single rows that are right or wrong, by the formula; else what the summary says."""
        values = [value for value in self.score[name].values() if value is not None]
        if "groups" not in self.summary and set(values) <= {0, 1}:
            return wilson(sum(values), len(values))
        return self.entry[name]["low"], self.entry[name]["high"]

    def tokens(self, name: str, *keys: str) -> float:
        return sum(line[key] for line in self.records[name] for key in keys) / len(self.records[name])

    def price(self, name: str) -> str:
        """Of a thousand answers, as it is shown; "" without prices."""
        given = self.config.get("evaluate") or {}
        prices = [given.get(key) for key in ("price_in", "price_out")]
        if prices == [None, None] or not self.tokens(name, "prompt_tokens"):
            return ""
        parts = zip(prices, ("prompt_tokens", "completion_tokens"), strict=True)
        return f"{sum((price or 0) * self.tokens(name, key) for price, key in parts) / 1000:.3g}"

    def pairs(self, name: str) -> list[tuple[float, float]]:
        """Scores of a candidate and of the tuned model on the rows that both have one for."""
        tuned = self.score["tuned"]
        both = ((value, tuned.get(id)) for id, value in self.score[name].items())
        return [(a, b) for a, b in both if a is not None and b is not None]

    def against(self, name: str) -> dict[str, Any] | None:
        """The summary's comparison with the tuned model, whose difference is recomputed; None without one."""
        known = {one["baseline"]: one for one in self.summary.get("comparisons") or [self.result] if one}
        known |= self.summary.get("simple_baselines") or {}
        known |= {"start": self.summary["start"]} if "start" in self.summary else {}
        if name not in known:
            return None
        pairs = self.pairs(name)
        return {**known[name], "difference": sum(b - a for a, b in pairs) / len(pairs)}

    def difference(self, name: str) -> tuple[str, str, str, str]:
        """To the tuned model, as it is shown: points, the level, and the interval's bounds."""
        one = self.against(name) or {}
        level = f"{100 * one.get('level', 0.95):.3g}%"
        return points(one["difference"]), level, points(one["low"]), points(one["high"])

    def p_value(self) -> str:
        """Of the comparison with the strongest prompt, as it is shown, without its sign."""
        pairs = self.pairs(self.result["baseline"])
        gained, lost = sum(b > a for a, b in pairs), sum(b < a for a, b in pairs)
        binary = "groups" not in self.summary and all(value in (0, 1) for pair in pairs for value in pair)
        p = midp(gained, lost) if binary else self.result["p"]
        return "0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"

    def sides(self) -> dict[str, int]:
        """Rows of each side, and rejected ones."""
        train, validation, rejected = (
            len(self.lines(f"data/{name}.jsonl")) for name in ("train", "validation", "rejected")
        )
        sealed = int(self.sealed.get("rows", 0))
        return {"train": train, "validation": validation, "sealed": sealed, "rejected": rejected}

    @cached_property
    def sealed(self) -> dict[str, Any]:
        return next((one for one in self.lines("ledger.jsonl") if one["event"] == "sealed"), {})

    def origin(self) -> dict[str, str]:
        """What a report says has to be the same."""
        facts, model = self.environment, self.environment.get("model") or {}
        same = {
            **facts.get("versions", {}),
            "seed": self.config.get("seed"),
            "CPU threads": facts.get("threads"),
        }
        same |= {key: model.get(key) for key in ("device", "dtype", "attention")}
        digests = {"base model": model.get("digest"), "sealed rows": self.sealed.get("sha256")}
        digests |= {Path(name).name: one["sha256"] for name, one in (facts.get("inputs") or {}).items()}
        same |= {name: digest[:12] for name, digest in digests.items() if digest}
        return {name: str(value) for name, value in same.items() if value is not None}

    def result_time(self) -> datetime | None:
        """When the result was written."""
        wanted = "result" if self.split == "test" else "evaluated"
        times = [
            one["time"]
            for one in self.lines("ledger.jsonl")
            if one["event"] == wanted and one.get("split", self.split) == self.split and "time" in one
        ]
        return datetime.fromisoformat(times[-1]) if times else None

    def flips(self, name: str) -> dict[str, int]:
        kinds = {(0, 1): "fixed", (1, 0): "broken", (0, 0): "still wrong", (1, 1): "still right"}
        pairs = self.pairs(name)
        if all(value in (0, 1) for pair in pairs for value in pair):
            return {kind: sum((a, b) == pair for a, b in pairs) for pair, kind in kinds.items()}
        return {
            "higher": sum(b > a for a, b in pairs),
            "lower": sum(b < a for a, b in pairs),
            "equal": sum(b == a for a, b in pairs),
        }

    def cells(self) -> Counter[tuple[str, str]]:
        """How many of the tuned model's rows have this expected label and this answer."""
        rows = [line for line in self.records["tuned"] if line["score"] is not None]
        return Counter((line["want"], line["got"] or line["text"]) for line in rows)

    def calibration_error(self) -> float:
        """Of the stored confidences: the mean gap to accuracy over bins of equal size."""
        rows = sorted(
            ((one["confidence"], one["score"]) for one in self.records["tuned"]), key=lambda one: one[0]
        )
        bins = max(1, min(10, len(rows) // 20))
        edges = [round(len(rows) * at / bins) for at in range(bins + 1)]
        gaps = (sum(c - r for c, r in rows[a:b]) for a, b in pairwise(edges))
        return sum(map(abs, gaps)) / len(rows)
