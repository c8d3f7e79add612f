"""The side-by-side benchmark: its rows, statistics, floor and protocol, without any peer."""

from __future__ import annotations

import fcntl
import itertools
import json
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "peers")]

import torch  # noqa: E402
from run_stock import cached_scores, until_stop, whole_scores  # noqa: E402
from sidebyside import report  # noqa: E402
from sidebyside.answers import differences  # noqa: E402
from sidebyside.children import Quiet  # noqa: E402
from sidebyside.floor import Work, step_gflop  # noqa: E402
from sidebyside.machine import vector_units  # noqa: E402
from sidebyside.models import make_model  # noqa: E402
from sidebyside.rows import (  # noqa: E402
    STOP,
    Tokens,
    classification_rows,
    instruction_rows,
    label_set,
    prompted_contexts,
    rows_with_share,
)
from sidebyside.statistics import Ratio, Spread, line_fit, lower_bound, lower_rank  # noqa: E402
from sidebyside.training import (  # noqa: E402
    SYSTEMS,
    Setting,
    TrainingCase,
    run_training,
    same_loss,
    training_cases,
)
from transformers import AutoModelForCausalLM  # noqa: E402

import finetooth as ft  # noqa: E402

pytestmark = pytest.mark.full
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 96,
    "max_position_embeddings": 256,
}


def test_instruction_rows_have_the_lengths_that_the_issue_names() -> None:
    work = Work.of(training_cases()["a-lora"].rows)
    assert (work.row_tokens, work.scored, work.distinct) == (2878, 1526, 2503)
    rows = instruction_rows(400, 32000)
    assert len({tuple(row.tokens[:25]) for row in rows}) == 1
    assert len({tuple(row.tokens[:26]) for row in rows}) > 300
    asked = np.log([row.scored.index(1) - 25 for row in rows])
    assert np.std(asked) == pytest.approx(0.8, abs=0.1)  # log-normal
    assert abs(np.mean(asked) - np.median(asked)) < 0.1
    assert all(row.tokens[-1] == STOP and row.scored[-1] == 1 and row.tokens.count(STOP) == 1 for row in rows)


def test_labelled_rows_share_the_prompt_and_score_four_tokens() -> None:
    work = Work.of(training_cases()["b-lora"].rows)
    assert work.scored == 64
    assert work.row_tokens - work.distinct == 15 * 400
    labels = {tuple(label) for label in label_set(150, 32000)}
    assert len(labels) == 150
    assert len({label[0] for label in labels}) <= 50
    for row in classification_rows(16, 32000):
        assert sum(row.scored) == 4
        assert tuple(row.tokens[-4:-1]) in labels
    lengths = [len(context) - 400 for context in prompted_contexts(500, 32000)]
    assert np.mean(lengths) == pytest.approx(40, abs=2)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_rows_with_a_share_are_distinct_in_the_rest(share: float) -> None:
    work = Work.of(rows_with_share(8, 200, share, 20, 32000))
    assert work.distinct == 8 * 200 - 7 * round(200 * share)
    assert work.scored == 160


def test_the_lower_bound_of_a_median_holds_as_often_as_it_says() -> None:
    draw = random.Random(0)
    assert lower_rank(4) is None and lower_rank(5) == 1 and lower_rank(8) == 2 and lower_rank(20) == 6
    assert lower_bound([3.0, 1.0, 2.0, 5.0, 4.0]) == 1.0
    for count in (5, 8, 20):
        below = sum(
            lower_bound([draw.lognormvariate(0, 1) for _ in range(count)]) <= 1.0 for _ in range(4000)
        )
        assert below / 4000 >= 0.95 - 0.01  # the median of this distribution is 1
        rank = lower_rank(count)
        assert rank is not None
        next_one = sum(math.comb(count, k) for k in range(rank + 1)) / 2**count
        assert next_one > 0.05  # the next value would not be sure enough


def test_ratios_are_of_the_same_round() -> None:
    # the machine slows down fivefold in between; every round still says the same
    ours, theirs = [1.0, 5.0, 1.0, 5.0, 1.0], [2.0, 10.0, 2.0, 10.0, 2.0]
    assert Ratio.paired(theirs, ours) == Ratio(2.0, 2.0)
    with pytest.raises(ValueError):
        Ratio.paired([1.0], ours)
    assert Ratio.paired([2.0, 2.0], [1.0, 1.0]).low is None
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_a_line_is_found_and_a_curve_is_not_taken_for_one() -> None:
    slope, start, square = line_fit([1, 2, 3, 4], [5, 7, 9, 11])
    assert (slope, start, square) == pytest.approx((2, 3, 1))
    assert line_fit([1, 2, 3, 4], [1, 4, 2, 3])[2] < 0.5


def test_the_floor_is_what_counting_every_product_gives() -> None:
    rows = [Tokens([5, 6, 7, 8], [0, 0, 0, 1]), Tokens([5, 6, 9], [0, 0, 1])]
    shape = {**TINY, "num_hidden_layers": 1}
    work = Work.of(rows)
    assert work == Work(row_tokens=7, scored=2, distinct=5, read=2, pairs=13, read_pairs=5)
    width, mlp, vocabulary, rank = 32, 48, 96, 2
    products = 5 * 2 * width * width  # k and v of every node
    products += 2 * (2 * width * width + 3 * width * mlp)  # q, o and the MLP where something is read
    products += 2 * width * vocabulary
    attention = 6 * 5 * width
    assert step_gflop(work, shape, "none") == pytest.approx(2 * (3 * products + attention) / 1e9)
    thin = 2 * rank * (5 * 4 * width + 2 * (4 * width + 3 * (width + mlp)))
    below = 5 * 3 * width * width  # no gradient flows below the first layer's q, k and v
    assert step_gflop(work, shape, "lora", rank) == pytest.approx(
        2 * (2 * products - below + thin + attention) / 1e9
    )


def test_more_sharing_is_a_lower_floor() -> None:
    costs = [
        step_gflop(Work.of(rows_with_share(8, 100, share, 4, 96)), TINY, "lora") for share in (0, 0.5, 0.9)
    ]
    assert all(more > less for more, less in itertools.pairwise(costs))


def test_another_first_loss_voids_a_system() -> None:
    systems = {
        "finetooth": {"losses": [2.0, 1.0]},
        "same": {"losses": [2.0005, 0.5]},
        "other": {"losses": [2.01, 1.0]},
        "nothing": {"losses": [math.nan]},
        "dead": {"losses": []},
    }
    assert set(same_loss(systems)) == {"other", "nothing"}
    assert "VOID for other by 0.0100" in report.agreement({"other": 0.01})


def test_the_widest_vector_unit_is_named(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512f\n")
    assert vector_units(tmp_path / "cpuinfo") == "AVX-512"
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2\n")
    assert vector_units(tmp_path / "cpuinfo") == "AVX2"


def test_every_system_has_its_child_and_pins() -> None:
    peers = ROOT / "benchmarks" / "peers"
    for system in SYSTEMS:
        assert (peers / system.script).is_file()
        if system.environment:
            assert "torch==2.13.0" in (peers / f"{system.environment}.txt").read_text().split()
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()  # the same torch for all


def test_finetooth_runs_in_a_child_and_learns(tmp_path: Path) -> None:
    setting = Setting(
        model=make_model(tmp_path / "model", TINY),
        room=tmp_path,
        environments=tmp_path,
        threads=1,
        steps=2,
        warmup=1,
        shape=TINY,
    )
    case = TrainingCase("tiny", rows_with_share(4, 20, 0.5, 5, 96), "lora")
    result = json.loads(json.dumps(run_training(case, SYSTEMS[:1], setting)))
    found = result["systems"]["finetooth"]
    assert len(found["seconds"]) == 2 and len(found["losses"]) == 2 * 3
    assert found["losses"][2] < found["losses"][0]
    assert found["computed_tokens"] == result["work"]["distinct"] == 10 + 4 * 10
    assert 50 * 2**20 < found["peak"] < 8 * 2**30
    assert result["rate"] > 0 and found["versions"]["torch"]
    assert "finetooth at" in report.training_table("tiny", result)


def test_both_ways_of_scoring_labels_give_what_finetooth_chooses(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", TINY)
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    contexts = prompted_contexts(6, 96, seed=1, shared=30, own=8)
    rows = [ft.Row(context, [0.0] * len(context)) for context in contexts]
    options = [[*label, STOP] for label in label_set(20, 96)]
    best = {found.row: found for found in ft.Model.load(folder).choose(rows, options)}
    with torch.inference_mode():
        for row, context in enumerate(contexts):
            given = (stock, torch.tensor(context), torch.tensor(options))
            whole, cached = whole_scores(*given, batch=7), cached_scores(*given, batch=20)
            assert torch.allclose(whole, cached, atol=1e-4)
            assert int(whole.argmax()) == best[row].option
            assert float(whole.max()) == pytest.approx(best[row].logprob, abs=1e-4)


def test_answers_are_compared_up_to_where_they_part() -> None:
    assert until_stop([5, 6, STOP, 0, 0]) == [5, 6, STOP]
    assert until_stop([5, 6]) == [5, 6]
    assert differences([[5, 6], [7, 8, 9]], [[5, 6], [7, 3, 9]]) == [[1, [7], 8, 3]]


def test_others_wait_only_while_something_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def free() -> bool:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    patient, short = Quiet(path, longest=60), Quiet(path, longest=0)
    with patient:
        assert not free()
    assert not free()  # kept for the next round
    patient.release()
    assert free()
    with short:
        assert not free()
    assert free()
    with Quiet(None):
        assert free()
