"""Whether a run's report is true: each printed figure against the run's files, recomputed apart from src/.

    PYTHONPATH=src python tests/support/report_truth.py RUN...

Nothing of finetooth computes here. A claim is a pattern of the first page's words, with the figures that it
has to have. Words that are claimed are crossed out; a figure that is left over was claimed by nobody, and is
a problem as well.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from report_facts import Facts, percent, points, wilson
from report_words import PageWords, words_of_markdown

NUMBER = r"[+−-]?[\d,]*\.?\d+%?"

Claim = tuple[str, tuple[str | float, ...]]  # a float: true within 0.1, as stored confidences are rounded


@cache
def claims(facts: Facts) -> tuple[Claim, ...]:
    """Patterns, in which # is a figure, each with the figures that it has to have."""
    parts = (_secondary, _scores, _verdict, _against_prompts, _lines, _confidence, _data, _origin, _texts)
    return tuple(claim for part in parts for claim in part(facts))


ABOUT = r"[a-z][^\d%|]*?"  # what a candidate is, beside its name


def _secondary(facts: Facts) -> Iterator[Claim]:
    """The whole table of each further grader, as a caption and a row for each candidate."""
    for grader, difference in (facts.result or {}).get("also", {}).items():
        scores = {
            name: [line["also"][grader]["score"] for line in lines] for name, lines in facts.records.items()
        }
        pairs = zip(scores[facts.result["baseline"]], scores["tuned"], strict=True)
        gain = sum(b - a for a, b in pairs) / len(scores["tuned"])
        want = [points(gain), "95%", points(difference["low"]), points(difference["high"]), "95%"]
        pattern = (
            rf"{grader} Paired difference, tuned minus {facts.result['baseline']}: # points, # confidence "
            rf"interval # to #\. The verdict rests on {facts.summary['grader']} alone\. Candidate Score # CI "
            "Grader errors"
        )
        for name, values in scores.items():
            shots = name.removeprefix("few-shot-")
            about = f"prompt with {shots} solved examples" if shots != name else ABOUT
            graded = [value for value in values if value is not None]
            pattern += rf" {name}(?: baseline)?(?: {about})? # # – # #"
            low, high = wilson(sum(graded), len(graded))
            if "groups" in facts.summary or not set(graded) <= {0, 1}:
                low, high = (facts.entry[name]["also"][grader][key] for key in ("low", "high"))
            mean = sum(graded) / len(graded)
            want += [percent(mean), percent(low), percent(high), f"{len(values) - len(graded):,}"]
        yield pattern, tuple(want)


def _scores(facts: Facts) -> Iterator[Claim]:
    """A row of the table for each candidate."""
    for name in facts.score:
        shots = name.removeprefix("few-shot-")
        about = f"prompt with {shots} solved examples" if shots != name else ABOUT
        pattern = rf"\b{name}(?: baseline)?(?: {about})? # # – #"
        want = [percent(facts.mean(name)), *map(percent, facts.interval(name))]
        if (one := facts.against(name)) is not None:
            want += [points(one[key]) for key in ("difference", "low", "high")]
            pattern += r" # \(# to #\)"
        for key in ("prompt_tokens", "completion_tokens"):
            tokens = facts.tokens(name, key)
            want += [f"{tokens:,.1f}"] if tokens else []
            pattern += " #" if tokens else " –"
        if facts.timing:
            seconds = facts.timing.get(name)
            want += [f"{seconds:.3g}"] if seconds is not None else []
            pattern += " #" if seconds is not None else " –"
        if price := facts.price(name):
            want, pattern = [*want, price], f"{pattern} #"
        yield pattern, tuple(want)


def _verdict(facts: Facts) -> Iterator[Claim]:
    """The lead, the figure beside the chart, and the verdict's words about the strongest prompt."""
    if not (result := facts.result):
        return
    base = result["baseline"]
    tuned, prompt = facts.mean("tuned"), facts.mean(base)
    low, high = (f"{round(100 * bound)}" for bound in facts.interval("tuned"))
    difference = facts.difference(base)
    yield (
        r"Of 100 rows like these, the tuned model answers about # correctly \(95% confidence: # to #\), "
        "the best prompt about #",
        (f"{100 * tuned:.0f}", low, high, f"{100 * prompt:.0f}"),
    )
    yield (
        rf"[Tt]he tuned model scores #, the (?:best prompt|untuned model) \({base}\) #",
        (percent(tuned), percent(prompt)),
    )
    yield "# points 95% confidence interval # to #", (difference[0], *difference[2:])
    clusters = facts.summary.get("groups")
    yield (
        rf"p . #, #{' rows in #' if clusters else ''}",
        (
            facts.p_value(),
            f"{facts.n:,}",
            *([f"{clusters:,}"] if clusters else []),
        ),
    )
    gained, lost = (sum((b - a) * sign > 0 for a, b in facts.pairs(base)) for sign in (1, -1))
    yield "higher on # rows, lower on #", (f"{gained:,}", f"{lost:,}")
    again = facts.summary.get("asked_again") or {}
    yield "asked again, # of # answers changed", tuple(str(again.get(key)) for key in ("changed", "rows"))
    yield "The # rows form # clusters", (str(facts.n), str(clusters))
    if "bag-of-words" in facts.score:
        score = percent(facts.mean("bag-of-words"))
        for words in ("regression scores higher still", "than a bag of words with logistic regression"):
            yield rf"{words} \(#\)", (score,)
        yield "(?:Word counts score higher|better than word counts), #", (score,)


def _against_prompts(facts: Facts) -> Iterator[Claim]:
    """Differences in words, with each prompt, and what the test could have shown."""
    if not (result := facts.result):
        return
    interval = "the difference is # points, # confidence interval # to #"
    for name in (name for name in facts.score if name != result["baseline"] and facts.against(name)):
        yield rf"{name} \(#\): {interval}", (percent(facts.mean(name)), *facts.difference(name))
    yield interval, facts.difference(result["baseline"])
    prompts = facts.summary.get("comparisons") or [result]
    yield "of the # prompts", (str(len(prompts)),)
    level = 1 - prompts[0].get("level", 0.95)
    yield "worse than one of # prompts takes p < #", (str(len(prompts)), f"{level / len(prompts):.2g}")
    open = next((one for one in prompts if one["verdict"] != "better"), prompts[0])
    yield (
        "With # (?:rows|clusters) the test has 80% power to detect a true difference of # points",
        (str(result["units"]), f"{100 * open['mde']:.1f}"),
    )
    yield (
        "with # (?:clusters of )?rows a difference below # points is hard to see",
        (f"{result['units']:,}", f"{100 * result['mde']:.0f}"),
    )


def _lines(facts: Facts) -> Iterator[Claim]:
    """The lines on rows that flip, on cost and on what was kept."""
    result = facts.result
    for name, what in ((result and result["baseline"], "best prompt"), ("start", "model that it continues")):
        if name in facts.score:
            counts = facts.flips(name)
            pattern = ", ".join(f"# {kind}" for kind in counts)
            yield (
                rf"{pattern}, against the {what}(?: \({name}\))?",
                tuple(map("{:,}".format, counts.values())),
            )
    if result:
        base = result["baseline"]
        own, prompted = (facts.tokens(name, "prompt_tokens", "completion_tokens") for name in ("tuned", base))
        tokens = (f"{own:,.0f}", f"{prompted:,.0f}")
        yield "An answer takes # tokens, with the best prompt #", tokens
        yield "A thousand answers cost # instead of #", tuple(facts.price(name) for name in ("tuned", base))
        computed = sum(line.get("computed_tokens", 0) for line in facts.lines("train/metrics.jsonl"))
        if prompted > own:
            yield "is saved after # answers", (f"{math.ceil(3 * computed / (prompted - own)):,}",)
        yield "gains at most # points", (points(result["high"]),)
        yield "solves the task: it scores #", (percent(facts.mean(base)),)
    if kept := facts.json("evaluate/retention.json"):
        change = [points(kept[key]) for key in ("difference", "low", "high")]
        yield (
            r"on # general questions changed by # points \(95% confidence interval # to #\); a loss of # is",
            (str(kept["n"]), *change, f"{100 * kept['margin']:g}"),
        )


def _confidence(facts: Facts) -> Iterator[Claim]:
    if (measured := facts.summary.get("calibration")) is None:
        return
    low, high = (f"{100 * measured['after'][key]:.1f}" for key in ("ece_low", "ece_high"))
    yield (
        r"It is off by # points on average \(95% confidence interval # to #\)",
        (100 * facts.calibration_error(), low, high),
    )
    threshold = facts.json("evaluate/calibration.json").get("threshold")
    if threshold is not None:
        alone = [one["score"] for one in facts.records["tuned"] if one["confidence"] >= threshold]
        right = percent(sum(alone) / len(alone)) if alone else ""
        yield (
            "From a confidence of # on, the model answers # of # rows alone, #",
            (percent(threshold), f"{len(alone):,}", f"{facts.n:,}", right),
        )


def _data(facts: Facts) -> Iterator[Claim]:
    """Counts of rows, findings and steps."""
    metrics = facts.lines("train/metrics.jsonl")
    seconds = round(sum(line.get("seconds") or 0 for line in metrics))
    parts = [(seconds // 3600, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        del parts[0]
    parts = parts[:2]  # with hours, no seconds
    figures = [f"{parts[0][0]}", *(f"{count:02}" for count, _ in parts[1:])]
    steps = max((line["step"] for line in metrics), default=0)
    yield f"# steps? in {' '.join(f'# {unit}' for _, unit in parts)}", (f"{steps:,}", *figures)
    yield "the weights are those of step #", (f"{facts.json('train/result.json').get('best_step')}",)
    counts = tuple(f"{count:,}" for count in facts.sides().values())
    yield "# train, # validation and # sealed rows; # rows? rejected", counts
    yield "train validation sealed test rejected # # # #", counts
    labels = {one["tags"].get("label") for one in facts.lines("data/train.jsonl")}
    yield "one of # labels", (str(len(labels)),)
    wrong = [
        one
        for one in facts.lines("evaluate/validation/records.jsonl")
        if one["candidate"] == "tuned" and one["score"] not in (None, 1)
    ]
    yield "Read the # wrong answers? below", (f"{len(wrong):,}",)
    review = sum(one["severity"] in ("review", "block") for one in facts.lines("data/findings.jsonl"))
    yield "The data check has # findings? to review", (f"{review:,}",)
    yield "(?:All candidates (?:answered|on) the same|Measured on) #", (f"{facts.n:,}",)
    yield " rows in # clusters", (str(facts.summary.get("groups")),)
    yield "sealed test in # clusters, graded by", (str(facts.summary.get("groups")),)
    yield "Validation rows · # rows, on which choices were made", (f"{facts.n:,}",)


def _origin(facts: Facts) -> Iterator[Claim]:
    """The seed, versions, digests and the day: what they are, as texts."""
    yield r"[Oo]ne training seed \(#\)", (str(facts.config.get("seed", "?")),)
    for name, value in facts.origin().items():
        yield rf"{re.escape(name)} {re.escape(value)}(?= ·|$| [#A-Z])", ()
    if time := facts.result_time():
        yield rf"{time.day} {time:%B} {time.year}", ()


def _texts(facts: Facts) -> Iterator[Claim]:
    """What is no figure of the result: names, notes as they are in the summary, and words with a digit."""
    model = str(facts.config.get("model", ""))
    texts = [str(facts.config.get("name", "")), model, Path(model).name]
    texts += [note for one in facts.summary["candidates"] for note in one["notes"]]
    for text in filter(None, [*texts, *facts.score]):
        yield re.escape(" ".join(text.split())), ()
    reason = re.search(r"^#   evaluate\.ladder: [^:]*: (.*)$", facts.text("config.yaml"), re.MULTILINE)
    if reason:
        yield re.escape(f"The prompt ladder was skipped ({reason[1]})"), ()
    yield r"95% CI|Price of 1,000|Apache-2\.0", ()


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
