"""The benchmark of learning from rewards and preferences: finetooth's side of it, without any peer."""

from __future__ import annotations

import sys

import pytest
from scripts_for_tests import ROOT

sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "peers")]

from protocol import even_share
from sidebyside import report
from sidebyside.floor import Work
from sidebyside.learning import SYSTEMS, learning_cases, micro, run_learning, systems_of
from sidebyside.models import make_model
from sidebyside.rows import STOP, answered_rows
from sidebyside.training import Setting, require_alike

pytestmark = pytest.mark.full
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 96,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    room = tmp_path_factory.mktemp("room")
    model = make_model(room / "model", SHAPE)
    return Setting(model, room, room, threads=1, steps=1, warmup=1, shape=SHAPE)


def test_the_rows_are_what_the_issue_names() -> None:
    cases = learning_cases()
    work = Work.of(cases["grpo-lora"].rows)
    assert work.row_tokens == 2 * 8 * 432 and work.scored == 2 * 8 * 32
    assert work.distinct == pytest.approx(2 * (400 + 8 * 32), abs=2)  # two answers may begin alike
    pairs = Work.of(cases["dpo-full"].rows)
    assert pairs.row_tokens == 16 * 432 and pairs.distinct == pytest.approx(8 * 464, abs=2)


def test_answers_differ_in_worth_within_their_group() -> None:
    rows = answered_rows(3, 4, 96, shared=10)
    assert [row.group for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row.worth for row in rows[:4]] == [1.0, 0.0, 1.0, 0.0]
    assert len({tuple(row.tokens[:10]) for row in rows}) == 3
    assert all(row.tokens[-1] == STOP and sum(row.scored) == 32 for row in rows)
    assert even_share("w4 w7 w10 </s>") == 0.5 and even_share("") == 0.0


@pytest.mark.parametrize("name", ["grpo-lora", "dpo-full"])
def test_without_the_tree_the_step_is_the_same(setting: Setting, name: str) -> None:
    case = learning_cases(SHAPE["vocab_size"], prompt=20)[name]
    ours = [system for system in systems_of(name) if not system.environment]
    result = run_learning(case, ours, setting)
    shared, alone = (result["systems"][system.name] for system in ours)
    assert alone["computed_tokens"] == 16 * 52
    assert shared["computed_tokens"] == result["work"]["distinct"] < 16 * 52
    assert min(shared["norms"]) > 1e-3 and shared["losses"][0] == pytest.approx(
        0.0 if "grpo" in name else 0.6931, abs=1e-4
    )
    require_alike(result["systems"])
    other = {**alone, "norms": [1.001 * norm for norm in alone["norms"]]}
    with pytest.raises(ValueError, match="nothing is measured"):
        require_alike({"finetooth": shared, "other": other})


def test_answers_are_sampled_to_their_full_length(setting: Setting) -> None:
    case = learning_cases(SHAPE["vocab_size"], prompt=20)["sampled-lora"]
    result = run_learning(case, SYSTEMS["sampled"][:1], setting)
    assert len(result["systems"]["finetooth"]["seconds"]) == 1 and not result["alike"]
    assert "samples its own answers" in report.of("sampled-lora", result)


def test_the_share_of_the_tree_is_a_ratio_of_the_same_rounds() -> None:
    seconds = {"finetooth": [1.0, 2.0], "finetooth-unshared": [3.0, 6.0], "trl": [12.0, 24.0]}
    said = report.tree_line({name: {"seconds": values} for name, values in seconds.items()})
    assert "The tree makes 3.00x" in said and "4.00x of trl" in said


def test_a_pair_is_one_row_of_the_peer() -> None:
    cases = learning_cases()
    assert [micro(cases["dpo-lora"], rows) for rows in (1, 4, 16)] == [1, 2, 8]
    assert [micro(cases["grpo-lora"], rows) for rows in (1, 4, 16)] == [1, 4, 16]
