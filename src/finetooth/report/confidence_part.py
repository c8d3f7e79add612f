"""The part of a run's page on confidence: calibration, and which rows to answer alone or hand over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetooth.evaluation.verdict_words import percent
from finetooth.report.charts import coverage_curve, reliability
from finetooth.report.evidence import Evidence, Line


def confidence_part(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Charts and words of the calibration in a summary; None where it has none."""
    measured = (summary or {}).get("calibration")
    if summary is None or measured is None:
        return None
    decision = measured.get("decision")
    share = decision["coverage"]["value"] if decision else None
    return {
        "where": "the sealed test" if summary["split"] == "test" else "the validation rows",
        "n": summary["n"],
        "reliability": reliability(measured["bins"]),
        "curve": coverage_curve([(one["coverage"], one["accuracy"]) for one in measured["curve"]], share),
        "temperature": temperature_words(measured),
        "words": calibration_words(measured),
        "decision": decision_words(decision) if decision else "",
    }


def confidence_line(evidence: Evidence) -> Line | None:
    """How far the stated confidence is from the truth, and how many rows it lets the model answer alone."""
    measured = (evidence.summary or {}).get("calibration")
    if measured is None:
        return None
    after, decision = measured["after"], measured.get("decision")
    error, low, high = (f"{100 * after[key]:.1f}" for key in ("ece", "ece_low", "ece_high"))
    words = f"It is off by {error} points on average (95% confidence interval {low} to {high})."
    if decision and not decision["answered"]:
        words += (
            f" No confidence reaches the threshold of {percent(decision['threshold'])}, so the model answers "
            f"none of {decision['n']:,} rows alone; all go to a person."
        )
    elif decision:
        words += (
            f" From a confidence of {percent(decision['threshold'])} on, the model answers "
            f"{decision['answered']:,} of {decision['n']:,} rows alone, "
            f"{percent(decision['accuracy']['value'])} of them right; the others go to a person."
        )
    return Line("Confidence", words)


def temperature_words(measured: Mapping[str, Any]) -> str:
    """How the confidence came about."""
    if measured["reason"]:
        return f"The temperature is 1: {measured['reason']}."
    rows = f"{measured['rows']:,} validation rows"
    return f"Its temperature, {measured['temperature']:.2f}, was fitted on {rows}."


def calibration_words(measured: Mapping[str, Any]) -> str:
    """Calibration error and Brier score with their intervals, before and after the temperature."""
    before, after = measured["before"], measured["after"]
    changed = measured["temperature"] != 1
    error = (
        f"{percent(before['ece'])} before and {percent(after['ece'])} after"
        if changed
        else percent(after["ece"])
    )
    brier = (
        f"{before['brier']:.3f} before and {after['brier']:.3f} after" if changed else f"{after['brier']:.3f}"
    )
    low, high, chance = (
        percent(share) for share in (after["ece_low"], after["ece_high"], measured["chance"])
    )
    return (
        f"Calibration error: {error} (95% confidence interval {low} to {high}); a perfect confidence would "
        f"show {chance} on as many rows. Brier score: {brier} "
        f"({after['brier_low']:.3f} to {after['brier_high']:.3f})."
    )


def decision_words(decision: Mapping[str, Any]) -> str:
    """What the threshold does: how many rows are answered alone, how well, and at what cost."""
    cost, saving, accuracy = decision["cost"], decision["saving"], decision["accuracy"]
    right = "so every row is handed over"
    if accuracy["value"] is not None:
        interval = f"{percent(accuracy['low'])} to {percent(accuracy['high'])}"
        right = f"of which {percent(accuracy['value'])} are right (95% confidence interval {interval})"
    effect = "saves" if saving["value"] >= 0 else "costs"
    proven = "proven" if saving["low"] > 0 else "not proven"
    costs = f"costs {decision['cost_wrong']:g} and handing over costs {decision['cost_handover']:g}"
    coverage = (
        f"{decision['answered']:,} of {decision['n']:,} rows ({percent(decision['coverage']['value'])})"
    )
    threshold = (
        f"If a wrong answer {costs}, the model answers alone from a confidence of "
        f"{percent(decision['threshold'])} on: {coverage}, {right}."
    )
    if not decision["answered"] and saving["value"] >= 0:  # handing over every row is the cheaper
        return f"{threshold} A row then costs {_amount(decision['cost_handover'])}, as without a model."
    return (
        f"{threshold} "
        f"A row then costs {_amount(cost['value'])} ({_amount(cost['low'])} to {_amount(cost['high'])}). "
        f"Against {decision['against']} that {effect} {_amount(abs(saving['value']))} (95% confidence "
        f"interval of the saving {_amount(saving['low'])} to {_amount(saving['high'])}): it is {proven}."
    )


def _amount(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
