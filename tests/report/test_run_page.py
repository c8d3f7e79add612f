"""report.html: says what the run holds, whatever it holds, and nothing in it can act."""

import io
import re
from pathlib import Path

import pytest
import yaml
from html_for_tests import NASTY, Page, page_of
from made_up_run import made_up_run
from rich.console import Console

from finetooth.commands import report
from finetooth.data.examples import to_json
from finetooth.errors import ConfigError
from finetooth.evaluation.candidates import Prediction
from finetooth.evaluation.graders import BUILT_IN, resolve
from finetooth.evaluation.runner import evaluate
from finetooth.report.charts import difference_bar, flattened, score_bar, smooth, training_curve
from finetooth.report.terminal import terminal_table
from finetooth.rundir import append_jsonl, read_json, write_json, write_jsonl, write_text
from finetooth.types import Answer, Example, Message


def test_a_whole_run(tmp_path: Path) -> None:
    page = page_of(made_up_run(tmp_path))
    summary = read_json(tmp_path / "evaluate" / "summary.json")
    assert summary["split"] == "test"
    assert page.words.count("Better than the best prompt") == 1
    assert "The tuned model scores" in page.words
    for name, candidate in ((entry["name"], entry) for entry in summary["candidates"]):
        assert f"{name} baseline" in page.words if name == "few-shot-4" else name in page.words
        assert f"{100 * candidate['score']:.1f}%" in page.words
    assert "31 of 520 rows were asked with fewer than 4 demonstrations" in page.words
    assert "10 times the rate of full fine-tuning" in page.words
    assert "tickets.csv, row 118 the label is empty" in page.words
    assert "2,100 train 240 validation 520 sealed test 10 labels 2 rejected" in page.words
    assert "leakage through paraphrases was not checked" in page.words
    kinds = [attributes["class"] for tag, attributes in page.seen if tag == "svg" and "class" in attributes]
    assert sum("bar" in kind for kind in kinds) == 10
    assert [kind for kind in kinds if "bar" not in kind] == ["difference better", "flips", "curve"]


def test_twenty_right_and_wrong_rows_of_the_validation_split_alone(tmp_path: Path) -> None:
    page = page_of(made_up_run(tmp_path, tuned=0.5))
    marks = [attributes["class"] for _, attributes in page.seen if "mark" in (attributes.get("class") or "")]
    assert marks[1::2] == ["mark wrong"] * 20 + ["mark right"] * 20  # base, tuned, base, tuned ...
    assert marks[0] == "mark right"  # rows on which the two differ come first
    matrix, by_row, rows = page.words.partition("Row by row")
    assert by_row and len(re.findall(r"validation-\d{4}", rows)) == 40
    assert 0 < len(re.findall(r"validation-\d{4}", matrix)) <= 40 * 5 + 10 * 2  # examples behind the cells
    assert not re.findall(r"test-\d{4}", page.words)


def test_what_to_do_next_follows_from_the_result(tmp_path: Path) -> None:
    """The commands work as they stand: with the run's own path, and only where the run can do it."""
    better = made_up_run(tmp_path / "a run", tuned=0.95)
    words = page_of(better).words
    assert f"finetooth predict '{better}' FILE" in words and f"finetooth chat '{better}'" in words
    assert "--candidate" not in words and "word counts do" not in words
    equal = made_up_run(tmp_path / "equal", tuned=0.7)
    words = page_of(equal).words
    assert "Better than the best prompt, but word counts do better" in words
    assert "--candidate" not in words, "this run keeps no bag of words"
    write_text(equal / "evaluate" / "bag-of-words.npz", "")
    assert f"finetooth predict {equal} FILE --candidate bag-of-words" in page_of(equal).words
    worse = made_up_run(tmp_path / "worse", tuned=0.1)
    words = page_of(worse).words
    assert "Do not use this model" in words and "finetooth predict" not in words
    validated = made_up_run(tmp_path / "validated", test=False)
    assert f"finetooth evaluate {validated} --sealed" in page_of(validated).words
    untrained = made_up_run(tmp_path / "untrained", evaluated=False)
    assert f"finetooth train {untrained}" in page_of(untrained).words


def test_the_second_badge_is_the_paired_comparison_with_word_counts(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, tuned=0.8)
    summary = read_json(run / "evaluate" / "test" / "summary.json")
    paired = summary["simple_baselines"]["bag-of-words"]
    by_name = {entry["name"]: entry for entry in summary["candidates"]}
    difference = by_name["tuned"]["score"] - by_name["bag-of-words"]["score"]
    assert paired["verdict"] == "not proven" and abs(paired["difference"] - difference) < 1e-9
    badge = "not proven better than word counts"  # whatever the sign: not proven is not as good
    badges = [
        attributes for _, attributes in page_of(run).seen if attributes.get("class") == "badge not-proven"
    ]
    assert len(badges) == 1 and badge in page_of(run).words


def test_a_gain_in_form_alone_is_said_on_the_first_page(tmp_path: Path) -> None:
    class Writes:
        def __init__(self, name: str, form: str) -> None:
            self.name, self.form, self.notes = name, form, []

        def predict(self, examples):
            return (
                Prediction(at, self.form.format(one.target), written=True) for at, one in enumerate(examples)
            )

    rows = [Example(f"r{at}", (Message("user", f"{at}?"),), (Answer(f"answer {at}"),)) for at in range(60)]
    name, grader = resolve({"name": "exact", "strict": True}, "qa")
    candidates = [Writes("zero-shot", "The answer is **{}**."), Writes("tuned", "{}")]
    result = evaluate(rows, candidates, grader, name, "validation")
    run = made_up_run(tmp_path, evaluated=False)
    result.write(run / "evaluate" / "validation")
    page = page_of(run)
    assert "Not proven better than the best prompt; gain in form alone" in page.words
    assert "Of 100.0 points, 0.0 remain when form is forgiven" in page.words
    assert "Form forgiven" in page.words
    text = io.StringIO()
    Console(file=text, width=200).print(terminal_table(result.summary))
    assert "form forgiven" in text.getvalue() and "the gain is in form, not content" in text.getvalue()


def test_only_settings_that_apply_are_listed(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        config.replace("  rank: 16", "  rank: 16\n  clip: 0.2\n  group_size: 8\n  beta: null")
    )
    words = page_of(run).words
    assert "train.rank 16" in words and "train.clip" not in words and "train.group_size" not in words
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("method: sft", "method: grpo"))
    assert "train.clip 0.2" in page_of(run).words
    (run / "config.yaml").write_text(config.replace("adapter: lora", "adapter: none"))
    assert "train.rank" not in page_of(run).words


def test_long_texts_are_folded_and_whole(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    text = " ".join(f"word{n}" for n in range(200))
    path = run / "data" / "validation.jsonl"
    path.write_text(path.read_text().replace("When will the new card that I ordered", text))
    page = page_of(run)
    folds = [
        attributes for tag, attributes in page.seen if tag == "details" and attributes.get("class") == "fold"
    ]
    assert folds and "word0" in page.words and "word199" in page.words


def test_a_start_that_flattens_the_loss_gets_a_logarithmic_axis_and_the_kept_step_is_marked() -> None:
    flat = [(0, 5.0), *((step, 0.01 + 0.01 / step) for step in range(1, 50))]
    svg = str(training_curve([], flat, kept=20))
    heights = coordinates(svg, "circle", "cy")
    assert flattened([], flat) and max(heights) == 100 and min(heights) == 0
    assert heights[1] > 50 and heights[1] - heights[-1] < -5, "what follows the start has height"
    assert f'x1="{100 * 20 / 49:.2f}%"' in svg and "kept: step 20" in svg
    assert not flattened([], [(0, 2.0), (1, 1.0)]) and not flattened([(1, -2.0)], [])
    score = str(training_curve([], [(0, 0.25), (10, 1.0)], "score"))
    assert coordinates(score, "circle", "cy") == [75, 0]


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    trained = page_of(made_up_run(tmp_path / "trained", evaluated=False))
    assert "Not evaluated yet" in trained.words
    assert "Lowest validation loss" in trained.words
    validated = page_of(made_up_run(tmp_path / "validated", test=False))
    assert "better on the validation rows" in validated.words
    assert "The sealed test has not been opened." in validated.words
    write_text(tmp_path / "bare" / "config.yaml", "name: bare\nmodel: m\n")
    assert "Not evaluated yet" in page_of(tmp_path / "bare").words


def test_a_preflight_check_that_was_off_is_said(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    said = "The preflight check was off"
    assert said not in " ".join(page_of(run).text)
    result = run / "train" / "result.json"
    write_json(result, {**(read_json(result) if result.is_file() else {}), "preflight": "off"})
    assert said in " ".join(page_of(run).text)


def test_every_text_is_escaped(tmp_path: Path) -> None:
    class Nasty:
        def __init__(self, name: str) -> None:
            self.name, self.notes = name, [NASTY]

        def predict(self, examples: list[Example]) -> object:
            return iter([Prediction(i, NASTY * 20, 1, 1, "length") for i in range(len(examples))])

    example = Example(NASTY, (Message("user", NASTY),), (Answer(NASTY),), {"label": NASTY})
    others = {NASTY: BUILT_IN["exact"]}
    candidates = [Nasty("zero-shot"), Nasty("tuned"), Nasty(NASTY)]
    result = evaluate(
        [example], candidates, BUILT_IN["label"], "label", "validation", secondary_graders=others
    )
    result.write(tmp_path / "evaluate" / "validation")
    write_jsonl(tmp_path / "data" / "train.jsonl", [to_json(example)])
    write_jsonl(tmp_path / "data" / "validation.jsonl", [to_json(example)])
    write_jsonl(
        tmp_path / "data" / "rejected.jsonl", [{"file": NASTY, "line": 1, "reason": NASTY, "row": {}}]
    )
    write_json(tmp_path / "data" / "check.json", {"allowed": [NASTY]})
    write_json(tmp_path / "environment.json", {"versions": {NASTY: NASTY}})
    write_text(tmp_path / "config.yaml", yaml.safe_dump({"name": NASTY, "model": "</title><b>"}))
    page = page_of(tmp_path)
    assert page.words.count("<script>alert(1)</script>") >= 10
    assert "7*7" in page.words


@pytest.mark.parametrize("evaluated", [True, False])
def test_what_was_allowed_is_said_before_the_first_table(tmp_path: Path, evaluated: bool) -> None:
    """A run whose test repeats training rows: planted in what `check` wrote when the run began."""
    run = made_up_run(tmp_path, evaluated=evaluated)
    apart = "No prompt is on both sides of the split"
    page = page_of(run)
    assert "Overridden blocking rules" not in page.words and apart in page.words
    write_json(run / "data" / "check.json", {"allowed": ["leak", "broken-rows"]})
    words = page_of(run).words
    first, said, _ = words.partition("Overridden blocking rules of the data gate: leak , broken-rows")
    assert said and "Sealed test" not in first and "Configuration" not in first
    assert apart not in words and "Some prompts are on both sides of the split" in words


def test_text_that_is_not_unicode_does_not_stop_the_page(tmp_path: Path) -> None:
    made_up_run(tmp_path)
    path = tmp_path / "data" / "rejected.jsonl"
    path.write_text('{"file": "a", "line": 1, "reason": "\\ud800 broken", "row": {}}\n', encoding="utf-8")
    assert "? broken" in page_of(tmp_path).words


def test_the_terminal_table_says_the_same(tmp_path: Path) -> None:
    result = report.run(made_up_run(tmp_path, name="[red]x[/red]", tuned=0.58))
    out = io.StringIO()
    result.print(Console(file=out, width=110))
    text = " ".join(out.getvalue().split())
    assert result.ok
    assert "520 rows of the sealed test, graded by label" in text
    assert "Not proven: the tuned model scores" in text
    assert "80% power" in text
    summary = read_json(tmp_path / "evaluate" / "summary.json")
    for entry in summary["candidates"]:
        score, low, high = (f"{100 * entry[key]:.1f}%" for key in ("score", "low", "high"))
        assert f"{entry['name']} {score} {low} – {high}" in text
    assert result.to_json()["comparison"]["verdict"] == "not proven"


def test_the_terminal_table_does_not_read_markup() -> None:
    entry = {"score": 0.5, "low": 0.4, "high": 0.6, "errors": 3, "prompt_tokens": 1, "completion_tokens": 2}
    summary = {"n": 2, "split": "validation", "grader": "[b]g[/b]", "candidates": [{"name": "[/x]", **entry}]}
    out = io.StringIO()
    Console(file=out, width=110).print(terminal_table(summary))
    assert "[/x]" in out.getvalue()
    assert "grader errors" in out.getvalue()


def coordinates(svg: str, tag: str, name: str) -> list[float]:
    return [float(value) for value in re.findall(rf'<{tag}[^>]*\b{name}="([\d.]+)%?"', svg)]


def test_bars_stand_where_their_numbers_are() -> None:
    svg = str(score_bar(0.5, 0.25, 1.0, "tuned"))
    assert coordinates(svg, "circle", "cx") == [140.0]
    assert re.search(r'x1="72.5" y1="13" x2="275.0"', svg)
    wide = str(difference_bar(0.1, -0.02, 0.22, "not proven"))
    zero = float(re.search(r'class="zero" x1="([\d.]+)%"', wide)[1])
    low, high = (
        float(value) for value in re.search(r'interval" x1="([\d.]+)%".*?x2="([\d.]+)%"', wide).groups()
    )
    assert low < zero < coordinates(wide, "circle", "cx")[0] < high
    assert (high - zero) / (zero - low) == pytest.approx(11, rel=0.02)
    for bounds in [(0, 0, 0), (1, 1, 1), (-1, -1, -1), (0.001, -0.0001, 0.002), (0.3, 0.0, 1.0)]:
        assert "nan" not in str(difference_bar(*bounds, "better"))


def test_the_chart_of_a_course_takes_whatever_was_logged() -> None:
    assert smooth([(1, 4.0), (2, 2.0)]) == ([(1, 4.0), (2, 2.0)], 1)
    long = [(step, float(step % 2)) for step in range(1, 81)]
    smoothed, k = smooth(long)
    assert (k, smoothed[-1]) == (2, (80, 0.5))
    for train, valid in [
        ([(1, 3.0)], []),
        ([], [(0, 0.0)]),
        ([(1, 1e-9)], [(1, 1e9)]),
        (long, long),
        ([(1, -2.0)], []),
    ]:
        svg = str(training_curve(train, valid))
        heights = coordinates(svg, "circle", "cy")
        assert len(heights) == len(valid) and all(0 <= y <= 100 for y in heights)
        assert "nan" not in svg
        Page(svg)


def test_of_rewards_the_course_is_drawn_and_not_their_loss(tmp_path: Path) -> None:
    """The loss of a policy says nothing, and is not what the validation loss is."""
    write_text(tmp_path / "config.yaml", "name: x\n")
    file = tmp_path / "train" / "metrics.jsonl"
    append_jsonl(file, [{"step": 0, "valid_loss": 6.1, "valid_score": 0.25}])
    append_jsonl(file, [{"step": 1, "loss": -7.5, "reward": 0.5}])
    page = page_of(tmp_path)
    assert "Mean reward of the sampled completions and score on the validation rows" in page.words
    assert "Lowest validation loss" not in page.words and "-7" not in page.words.replace("−", "-")


def test_the_loss_of_pairs_is_not_told_of_as_that_of_tokens(tmp_path: Path) -> None:
    write_text(tmp_path / "config.yaml", "name: x\n")
    append_jsonl(tmp_path / "train" / "metrics.jsonl", [{"step": 9, "loss": 0.6, "accuracy": 0.5}])
    assert "Loss per pair, over" in page_of(tmp_path).words


def test_a_validation_line_needs_no_training_loss(tmp_path: Path) -> None:
    write_text(tmp_path / "config.yaml", "name: x\n")
    append_jsonl(tmp_path / "train" / "metrics.jsonl", [{"step": 0, "valid_loss": 2.0}])
    assert "Lowest validation loss: 2.000 at step 0" in page_of(tmp_path).words


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "config.yaml", "name: [x\n")
    with pytest.raises(ConfigError, match=r"config.yaml cannot be read"):
        report.run(tmp_path)


def test_what_the_preflight_check_left_out_is_said(tmp_path: Path) -> None:
    made_up_run(tmp_path)
    assert "preflight check was incomplete" not in page_of(tmp_path).words
    note = "the rows were not known by heart after 12 steps, when the time was up"
    write_json(tmp_path / "train" / "preflight.json", {"passed": True, "notes": [note]})
    said = f"The preflight check was incomplete: {note}."
    assert said in page_of(tmp_path).words


def test_the_weights_that_are_kept_are_named(tmp_path: Path) -> None:
    """Where answers choose, they need not be those of the lowest validation loss."""
    made_up_run(tmp_path)
    assert "Best checkpoint" not in page_of(tmp_path).words
    for chosen, words in (("score", "score"), ("loss", "loss")):
        write_json(tmp_path / "train" / "result.json", {"best_step": 132, "selected_by": chosen})
        assert f"Best checkpoint: step 132, chosen by validation {words}." in page_of(tmp_path).words


def test_the_system_message_of_all_prompts_is_said(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    assert "Prompts follow" not in page_of(run).words, "a run of an older version keeps no record of it"
    environment = read_json(run / "environment.json")
    prompts = {"template": "chat", "added_system": "You are <b>SmolLM</b>."}
    write_json(run / "environment.json", {**environment, "prompts": prompts})
    given = "Prompts follow the model's chat template, with the system message “You sort messages of a bank"
    assert given in page_of(run).words
    config = (run / "config.yaml").read_text().replace("You sort messages of a bank's customers.", '""')
    (run / "config.yaml").write_text(config)
    said = "with the system message that it adds where a row has none: “You are <b>SmolLM</b>.”"
    assert said in page_of(run).words
