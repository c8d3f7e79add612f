"""The page's part on confidence says what summary.json holds, in words and in charts."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from html_for_tests import page_of
from made_up_run import made_up_run

from finetooth.evaluation.calibration import Calibration, Decisions, decide, measure
from finetooth.report.charts import coverage_curve, reliability
from finetooth.report.confidence_part import calibration_words, decision_words, temperature_words

ROOT = Path(__file__).resolve().parents[2]


def measured(temperature: float = 2.0, reason: str = "", threshold: float | None = 0.75) -> dict:
    random = np.random.default_rng(0)
    logit_RL = random.normal(0, 3, (300, 4))
    want_R = np.array([random.choice(4, p=row / row.sum()) for row in np.exp(logit_RL / 2)])
    rows = Decisions(logit_RL, want_R, logit_RL.argmax(axis=1) == want_R)
    calibration = Calibration(temperature, 300, reason, threshold)
    return {**measure(rows, calibration), "decision": decide(rows, calibration, 4, 1)}


def run_with(tmp_path: Path, calibration: dict) -> Path:
    run = made_up_run(tmp_path)
    file = run / "evaluate" / "test" / "summary.json"
    summary = json.loads(file.read_text()) | {"calibration": calibration}
    file.write_text(json.dumps(summary))
    (run / "evaluate" / "summary.json").write_text(json.dumps(summary))
    return run


def test_the_page_and_the_words_are_those_of_the_summary(tmp_path: Path) -> None:
    found = measured()
    page = page_of(run_with(tmp_path, found))
    before, after, decision = found["before"]["ece"], found["after"]["ece"], found["decision"]
    assert f"Calibration error: {100 * before:.1f}% before and {100 * after:.1f}% after" in page.words
    assert f"a perfect confidence would show {100 * found['chance']:.1f}%" in page.words
    assert "Its temperature, 2.00, was fitted on 300 validation rows" in page.words
    assert f"{decision['answered']} of 300 rows" in page.words
    assert f"of which {100 * decision['correct'] / decision['answered']:.1f}% are right" in page.words
    assert f"Against {decision['against']} that saves" in page.words
    kinds = [attributes.get("class") for tag, attributes in page.seen if tag == "svg"]
    assert kinds.count("reliability") == 1 and kinds.count("curve coverage") == 1
    assert "Confidence" not in page_of(made_up_run(tmp_path / "none")).words


def test_a_temperature_that_was_not_fitted_is_said() -> None:
    found = measured(1.0, "12 validation rows are too few to fit it, which takes 20")
    assert temperature_words(found) == (
        "The temperature is 1: 12 validation rows are too few to fit it, which takes 20."
    )
    assert " before and " not in calibration_words(found)


@pytest.mark.parametrize(
    ("right", "said"),
    [
        (20, "A row then costs 1, as without a model."),
        (98, "that costs 0.92 (95% confidence interval of the saving"),  # answering every row costs 0.08
    ],
)
def test_handing_over_every_row_is_called_what_it_is(right: int, said: str) -> None:
    right_R = np.arange(100) < right
    logp_RL = np.log(np.tile([0.7, 0.3], (100, 1)))
    rows = Decisions(logp_RL, np.where(right_R, 0, 1), right_R)
    found = decide(rows, Calibration(1.0, 100, "", 0.75), 4, 1)
    assert found["cost"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    words = decision_words(found)
    assert "0 of 100 rows (0.0%), so every row is handed over" in words and said in words


def test_charts_place_every_bin_and_the_chosen_share() -> None:
    found = measured()
    svg = str(reliability(found["bins"]))
    places = re.findall(r'<circle class="point" cx="([\d.]+)%" cy="([\d.]+)%"', svg)
    assert [(round(float(x) / 100, 3), round(1 - float(y) / 100, 3)) for x, y in places] == [
        (round(one["confidence"], 3), round(one["accuracy"], 3)) for one in found["bins"]
    ]
    curve = str(coverage_curve([(0.5, 0.9), (1.0, 0.61)], 0.4))
    assert 'x1="40.00%"' in curve and "alone: 40%" in curve
    assert 'points="500.0,250.0 1000.0,975.0"' in curve
    assert "alone" not in str(coverage_curve([(1.0, 1.0)], None)).replace("answered alone", "")


def test_the_tool_misses_a_run_whose_error_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    sys.modules.pop("calibration", None)
    from calibration import main  # type: ignore[import-not-found]

    good = measured()
    good["before"]["ece"], good["after"]["ece"] = 0.2, 0.09
    run = run_with(tmp_path / "good", good)
    assert main([str(run)]) == 0
    assert "20.0% | 9.0%" in capsys.readouterr().out
    good["chance"], good["after"]["ece"] = 0.03, 0.12
    assert main([str(run_with(tmp_path / "bad", good)), str(made_up_run(tmp_path / "old"))]) == 1
    printed = capsys.readouterr().out
    assert printed.count("MISSED") == 1 and "no calibration" in printed
