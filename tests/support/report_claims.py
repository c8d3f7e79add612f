"""What the first page of a report claims, with the figures that the run's files say it has to have.

A claim is a pattern of the page's words. report_truth.py looks for them, and for figures that nobody claims.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from measured_claims import measured_claims
from report_facts import Facts, corpus_score, percent, points, wilson

Claim = tuple[str, tuple[str | float, ...]]  # a float: true within 0.1, as stored confidences are rounded


@cache
def claims(facts: Facts) -> tuple[Claim, ...]:
    """Patterns, in which # is a figure, each with the figures that it has to have."""
    parts = (_secondary, measured_claims, _scores, _form, _verdict, _against_prompts, _lines, _confidence,
             _data, _origin, _texts)  # fmt: skip
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
        more = [corpus_score(facts.records[name])] if facts.has("corpus") else []
        more += [percent(facts.lenient(name))] if facts.has("lenient") else []
        want, pattern = [*want, *more], pattern + " #" * len(more)
        for key in ("prompt_tokens", "completion_tokens"):
            tokens = facts.tokens(name, key)
            want += [f"{tokens:,.1f}"] if tokens else []
            pattern += " #" if tokens else " –"
        if facts.timing:
            seconds = facts.timing.get(name)
            small = seconds is not None and seconds < 0.001
            want += [] if seconds is None else ["0.001" if small else f"{seconds:.3g}"]
            pattern += " –" if seconds is None else " < #" if small else " #"
        if price := facts.price(name):
            want, pattern = [*want, price], f"{pattern} #"
        cut = [sum(line["stop"] == "length" for line in lines) for lines in facts.records.values()]
        if any(cut):
            want, pattern = [*want, f"{cut[[*facts.records].index(name)]}"], f"{pattern} #"
        yield pattern, tuple(want)


def _form(facts: Facts) -> Iterator[Claim]:
    """How much of the difference remains when form is forgiven; the interval is believed."""
    if facts.result and (kept := facts.result.get("lenient")):
        base = facts.result["baseline"]
        left = points(facts.lenient("tuned") - facts.lenient(base))
        interval = points(kept["low"]), points(kept["high"])
        gain = points(facts.mean("tuned") - facts.mean(base))
        yield (
            r"Of # points, # remain when form is forgiven \([^;]*; # confidence interval # to #\)",
            (gain.lstrip("+"), left.lstrip("+"), "95%", *interval),
        )
        yield (
            r"When form is forgiven \([^)]*\), the difference is # points \(# confidence interval # to #\)",
            (left, "95%", *interval),
        )


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
        none = (percent(threshold), f"{facts.n:,}") if not alone else ()
        yield "No confidence reaches the threshold of #, so the model answers none of # rows alone", none


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
    for note in facts.json("train/preflight.json").get("notes", []):
        yield re.escape(f"The preflight check was incomplete: {note}."), ()
    yield "train validation sealed test rejected # # # #", counts
    labels = {one["tags"].get("label") for one in facts.lines("data/train.jsonl")}
    yield "one of # labels", (str(len(labels)),)
    wrong = [
        one
        for one in facts.lines("evaluate/validation/records.jsonl")
        if one["candidate"] == "tuned" and one["score"] not in (None, 1)
    ]
    yield "what is wrong with the # answers? below without full marks", (f"{len(wrong):,}",)
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
    texts += {one["corpus"]["signature"] for one in facts.summary["candidates"] if one.get("corpus")}
    for text in filter(None, [*texts, *facts.score]):
        yield re.escape(" ".join(text.split())), ()
    reason = re.search(r"^#   evaluate\.ladder: [^:]*: (.*)$", facts.text("config.yaml"), re.MULTILINE)
    if reason:
        yield re.escape(f"The prompt ladder was skipped ({reason[1]})"), ()
    yield r"95% CI|Price of 1,000|Apache-2\.0", ()
