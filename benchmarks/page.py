"""Write the measured parts of docs/benchmarks.md again from benchmarks/results: python benchmarks/page.py."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sidebyside import report
from sidebyside.statistics import Ratio

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
# case, the systems (the start of their names) of which the fastest counts, how many times faster was wanted
WANTED = (
    ("a-lora", "trl", 2.2),
    ("a-lora", "litgpt", 1.5),
    ("a-full", "trl", 1.6),
    ("b-lora", "trl", 10.0),
    ("c", "generate", 4.0),
    ("d", "row-by-row", 10.0),
    ("grpo-lora", "trl", 2.0),
    ("grpo-lora", "trl-answers-only", 2.0),
    ("grpo-full", "trl", 2.0),
    ("dpo-lora", "trl", 2.0),
    ("dpo-lora", "trl-answers-only", 2.0),
    ("dpo-full", "trl", 2.0),
)
CHANGED = "-answers-only"  # a system that is not as it is installed; it counts where it is named
ORDER = (
    "a-lora",
    "a-full",
    "b-lora",
    "c",
    "d",
    "grpo-lora",
    "grpo-full",
    "dpo-lora",
    "dpo-full",
    "sampled-lora",
)
Results = Mapping[str, Mapping[str, Any]]


def ours_beside(result: Mapping[str, Any], name: str) -> list[float]:
    """finetooth's seconds in the rounds of another system."""
    found: list[float] = result["systems"][name].get("ours") or result["systems"]["finetooth"]["seconds"]
    return found


def wanted(results: Results) -> str:
    """What was wanted, and what is reached by the lower bound."""
    lines = []
    for case, start, factor in (wish for wish in WANTED if wish[0] in results):
        systems = results[case]["systems"]
        timed = {
            name: s["seconds"]
            for name, s in systems.items()
            if name.startswith(start) and s["seconds"] and name.endswith(CHANGED) == start.endswith(CHANGED)
        }
        best = min(timed, key=lambda name: median(timed[name]))
        ratio = Ratio.paired(timed[best], ours_beside(results[case], best))
        low = ratio.low if ratio.low is not None else 0.0
        reached = "yes" if low >= factor else "by the median" if ratio.median >= factor else "no"
        lines.append([case, best, f"{factor:g}x", f"{ratio.median:.2f}x", f"{low:.2f}x", reached])
    return report.table(
        ["case", "the fastest setting of", "wanted", "median", "lower bound", "reached"], lines
    )


def memory(results: Results) -> str:
    """Peak memory beside the leanest of the others."""
    lines = []
    for case, result in results.items():
        peaks = {name: s["peak"] for name, s in result["systems"].items() if "peak" in s}
        own = peaks.pop("finetooth")
        peaks.pop("finetooth-unshared", None)
        least = min(peaks, key=peaks.__getitem__)
        other = f"{peaks[least] / 2**30:.2f} GiB ({least})"
        lines.append([case, f"{own / 2**30:.2f} GiB", other, "yes" if own <= peaks[least] else "no"])
    return report.table(["case", "finetooth", "least of the others", "at most that"], lines)


def of_case(name: str, result: Mapping[str, Any]) -> str:
    """A case's tables without their title, wrapped."""
    parts = report.of(name, result).split("\n\n")[1:]
    return "\n\n".join(
        part if part.startswith("|") else textwrap.fill(part, 110, break_on_hyphens=False) for part in parts
    )


def estimates(results: Sequence[Mapping[str, Any]]) -> str:
    """The predicted peak of every configuration beside the measured one."""
    lines = []
    for result in results:
        off = result["predicted"] / result["peak"] - 1
        sizes = [f"{result[key] / 2**30:.2f} GiB" for key in ("predicted", "peak")]
        adapter = {"lora": "LoRA", "none": "full"}[result["adapter"]]
        lines.append([result["model"], adapter, f"{result['length']}", *sizes, f"{off:+.0%}"])
    head = ["model", "training", "tokens of a row", "predicted", "measured", "difference"]
    return report.table(head, lines)


def parts(folder: Path) -> dict[str, str]:
    """Every generated part by its name."""
    loaded = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    scaling, estimated = loaded.pop("scaling"), loaded.pop("estimate")
    results = {name: loaded[name] for name in ORDER if name in loaded}
    made = {name: of_case(name, result) for name, result in results.items()}
    return made | {
        "wanted": wanted(results),
        "memory": memory(results),
        "scaling": report.scaling_table(scaling),
        "estimate": estimates(estimated),
    }


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with each part between `<!-- NAME -->` and `<!-- end -->` replaced."""
    for name, text in made.items():
        pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
        page, count = re.subn(
            pattern, lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page, flags=re.S
        )
        if count != 1:
            raise ValueError(f"{PAGE.name} has the mark <!-- {name} --> {count} times")
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts(HERE / "results")), encoding="utf-8")
