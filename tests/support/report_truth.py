"""Whether a run's report is true: each printed figure against the run's files, recomputed apart from src/.

    PYTHONPATH=src python tests/support/report_truth.py RUN...

Nothing of finetooth computes here. Words that a claim (report_claims.py) has are crossed out; a figure that
is left over was claimed by nobody, and is a problem as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from report_claims import claims
from report_facts import Facts, percent, wilson
from report_words import PageWords, words_of_markdown

NUMBER = r"[+−-]?[\d,]*\.?\d+%?"


def problems(facts: Facts, words: str) -> list[str]:
    """Claims that are not true, and figures that nobody claims. [] for a true page."""
    found: list[str] = []
    for pattern, want in claims(facts):
        group = NUMBER if want else "#"
        for match in reversed([*re.finditer(pattern.replace("#", f"({group})") if want else pattern, words)]):
            if not all(map(_same, match.groups(), want)) or len(match.groups()) != len(want):
                found.append(f"{match[0]!r}: {match.groups()} instead of {want}")
            words = f"{words[: match.start()]} § {words[match.end() :]}"
    left = [words[max(0, at.start() - 40) : at.end() + 20] for at in re.finditer(r"\S*\d\S*", words)]
    return [*found, *(f"no claim has this figure: ...{part}..." for part in left)]


def _same(given: str, want: str | float) -> bool:
    return given == want if isinstance(want, str) else abs(float(given) - want) < 0.1


def detail_problems(run: Path, html: str) -> list[str]:
    """What is untrue below the first page: the validation table, the labels, and measured sentences.

    Rows and answers are full of figures of their own, so there only claims are looked at, and each has to be
    there.
    """
    found = []
    facts = Facts(run)
    if facts.split == "test" and (run / "evaluate" / "validation" / "records.jsonl").is_file():
        second = Facts(run, "validation")
        found += problems(second, PageWords(html, "second-table").words)
    everything = PageWords(html, "main").words
    for pattern, want in _details(facts):
        matches = [match.groups() for match in re.finditer(pattern.replace("#", f"({NUMBER})"), everything)]
        found += [] if set(matches) == {want} else [f"{pattern}: {matches} instead of {want}"]
    return found + _label_problems(run, html)


def _details(facts: Facts) -> Iterator[tuple[str, tuple[str, ...]]]:
    if kept := facts.json("evaluate/retention.json"):
        for name in ("statements", "chat requests"):
            change = kept[name.removeprefix("chat ")]
            yield f"{name} # → #", (percent(change["base"]), percent(change["tuned"]))
        bits = kept["bits_per_byte"]
        yield "prose # → # bits", (f"{bits['base']:.2f}", f"{bits['tuned']:.2f}")
    if (measured := facts.summary.get("calibration")) and measured["temperature"] != 1:
        before, after = measured["before"], measured["after"]
        yield (
            r"Calibration error: # before and # after \(95% confidence interval # to #\)",
            tuple(map(percent, (before["ece"], after["ece"], after["ece_low"], after["ece_high"]))),
        )
        yield "Brier score: # before and # after", (f"{before['brier']:.3f}", f"{after['brier']:.3f}")
    valid = [line for line in facts.lines("train/metrics.jsonl") if line.get("valid_loss") is not None]
    if valid and not any("reward" in line for line in facts.lines("train/metrics.jsonl")):
        best = min(valid, key=lambda line: line["valid_loss"])
        yield "Lowest validation loss: # at step #", (f"{best['valid_loss']:.3f}", f"{best['step']:,}")


def _label_problems(run: Path, html: str) -> list[str]:
    """Cells of the confusion matrix, and recall and precision of each label."""
    if not (run / "evaluate" / "validation" / "records.jsonl").is_file():
        return []
    cells = Facts(run, "validation").cells()
    found = []
    for title in PageWords(html).titles:
        match = re.fullmatch(r"expected (.+), answered (.+): ([\d,]+)", title)
        if (
            match
            and "other labels" not in title
            and int(match[3].replace(",", "")) != cells[match[1], match[2]]
        ):
            found.append(f"{title} instead of {cells[match[1], match[2]]}")
    table = PageWords(html, "labels").words
    for label in {want for want, _ in cells} if table else ():
        right = cells[label, label]
        given = [sum(count for cell, count in cells.items() if cell[side] == label) for side in (0, 1)]
        words = [label]
        for of in given:
            low, high = wilson(right, of) if of else (0.0, 0.0)
            words.append(
                f"{percent(right / of)} {right} of {of} ({100 * low:.0f} – {100 * high:.0f}%)"
                if of
                else "no row"
            )
        if " ".join(words) not in table:
            found.append(f"not in the table of labels: {' '.join(words)}")
    return found


def flip_problems(facts: Facts, shares: dict[str, float]) -> list[str]:
    """Parts of the bar of rows that flip that are not as wide as their share."""
    if not facts.result:
        return []
    counts = facts.flips(facts.result["baseline"])
    want = {kind: 100 * count / sum(counts.values()) for kind, count in counts.items() if count}
    same = shares.keys() == want.keys() and all(abs(shares[kind] - want[kind]) < 0.01 for kind in want)
    return [] if same else [f"the bar has {shares} instead of {want}"]


def main(runs: list[str]) -> int:
    """Print the problems of runs' pages and Markdown; 1 where there are any."""
    from finetooth.commands import report

    count = 0
    for run in map(Path, runs):
        facts = Facts(run)
        html = report.run(run).path.read_text("utf-8")
        page = PageWords(html)
        text = words_of_markdown(report.as_markdown(run, None).text)
        for what, words in (("page", page.words), ("markdown", text)):
            found = problems(facts, words)
            print(f"{run} {what}: {len(re.findall(NUMBER, words))} figures, {len(found)} problems")
            print("\n".join(f"  {one}" for one in found), end="\n" * bool(found))
            count += len(found)
        count += len(found := [*flip_problems(facts, page.flips), *detail_problems(run, html)])
        print("\n".join(found), end="\n" * bool(found))
    return int(count > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
