"""The training loop: what it writes, which weights it keeps, when it stops, and that every key counts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gate import gate
from rich.console import Console
from training_for_tests import fit, load, rows, settings

from finetooth.config.method_keys import PreferenceKeys, RewardKeys
from finetooth.config.task import TrainConfig, build_task
from finetooth.errors import ConfigError, Interrupted, TrainError
from finetooth.training import checkpoint, loop
from finetooth.training.step import evaluate_rows

STEP_KEYS = [
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "rows",
    "scored_tokens",
    "row_tokens",
    "computed_tokens",
    "seconds",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    load(directory)
    return directory


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "train" / name).read_text().splitlines()]


def test_the_lines_of_the_contract(models: Path, tmp_path: Path) -> None:
    ticks = iter(range(1000))
    fit(load(models), tmp_path, clock=lambda: float(next(ticks)))
    steps = [line for line in lines(tmp_path) if "loss" in line]
    assert [list(line) for line in steps] == [STEP_KEYS] * 8
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert [line["rows"] for line in steps] == [4, 4, 4, 1] * 2
    assert steps[3]["epoch"] == 1.0
    assert {line["seconds"] for line in steps} == {1.0}
    assert all(line["computed_tokens"] <= line["row_tokens"] for line in steps)
    valid = [line for line in lines(tmp_path) if "valid_loss" in line]
    assert [list(line) for line in valid] == [["step", "valid_loss"]] * 4
    assert [line["step"] for line in valid] == [0, 3, 6, 8]


def test_every_row_has_one_loss_an_epoch(models: Path, tmp_path: Path) -> None:
    fit(load(models), tmp_path)
    losses = lines(tmp_path, "row_losses.jsonl")
    assert sorted(line["id"] for line in losses) == sorted(2 * [row.id for row in rows(13)])
    first = [line["loss"] for line in losses if line["step"] == 4]
    assert first == pytest.approx([line["loss"] for line in lines(tmp_path) if line.get("rows") == 1][:1])


def test_it_learns_and_leaves_the_generator_alone(models: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    fit(load(models), tmp_path, settings(epochs=15), validation=[])
    losses = [line["loss"] for line in lines(tmp_path)]
    assert sum(losses[-4:]) < 0.3 * sum(losses[:4])
    assert torch.equal(torch.get_rng_state(), before)  # nothing random: no state to save, none to lose


def test_the_best_weights_are_restored(models: Path, tmp_path: Path) -> None:
    model = load(models)
    other = rows(6, seed=9)  # random tokens that are not trained on: a huge rate soon makes them unlikely
    result = fit(model, tmp_path, settings(learning_rate=0.5, epochs=4, validate_every=1), validation=other)
    valid = {line["step"]: line["valid_loss"] for line in lines(tmp_path) if "valid_loss" in line}
    valid.pop(0)
    assert result.best_step == min(valid, key=valid.__getitem__)
    assert result.best_step < result.steps
    assert result.best_loss == valid[result.best_step]
    assert evaluate_rows(model, other, budget=64)[0] == result.best_loss


def test_training_that_only_harms_keeps_its_best_and_says_so(models: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, width=60)
    result = fit(load(models), tmp_path, console=console)
    valid = {line["step"]: line["valid_loss"] for line in lines(tmp_path) if "valid_loss" in line}
    assert min(valid, key=valid.__getitem__) == 0
    assert result.best_step > 0
    assert f"never fell below the {valid[0]:.4f} before training" in said.getvalue()


def test_patience_stops_and_a_stopped_run_is_not_continued(models: Path, tmp_path: Path) -> None:
    config = settings(learning_rate=0.5, epochs=50, validate_every=1, patience=2)
    result = fit(load(models), tmp_path, config)
    assert result.stopped_early
    assert result.steps == result.best_step + 2
    again = load(models)
    assert fit(again, tmp_path, config) == result
    assert evaluate_rows(again, rows(6, 1), budget=64)[0] == result.best_loss


def test_a_finished_run_gives_its_weights_again(models: Path, tmp_path: Path) -> None:
    first, second = load(models), load(models)
    assert fit(first, tmp_path) == fit(second, tmp_path)
    assert first.digest() == second.digest()


def test_without_validation_rows_the_last_weights_count(models: Path, tmp_path: Path) -> None:
    result = fit(load(models), tmp_path, validation=[])
    assert (result.best_step, result.best_loss) == (8, None)
    assert all("valid_loss" not in line for line in lines(tmp_path))


CHANGES: dict[str, dict[str, object]] = {
    "adapter": {"adapter": "none"},
    "rank": {"rank": 2},
    "learning_rate": {"learning_rate": 0.02},
    "batch_size": {"batch_size": 5},
    "epochs": {"epochs": 3},
    "max_steps": {"max_steps": 5},
    "schedule": {"schedule": "linear"},
    "warmup": {"warmup": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "max_grad_norm": {"max_grad_norm": 0.1},
    "micro_tokens": {"micro_tokens": 20},
    "validate_every": {"validate_every": 2},
    "save_every": {"save_every": 7},
    "log_every": {"log_every": 2},
    "patience": {"patience": 1},
    "optimizer": {"optimizer": "muon"},
}
# Numbers of steps, which test_schedule.py has too: in `make test-all`.
SCHEDULED = ("epochs", "max_steps", "schedule", "warmup", "validate_every", "save_every", "log_every")
ELSEWHERE = {
    *("select", "preflight", "checkpointing", "track"),  # what they change: commands/test_before_training
    *("interpolate", "seed", "seeds"),  # commands/test_interpolate, commands/test_seeds
    *("method", *PreferenceKeys.model_fields),  # training/test_preferences
    *RewardKeys.model_fields,  # training/test_rollout
}


BASES: dict[str, dict[str, object]] = {
    "plain": {},
    "patience": {"learning_rate": 0.5, "validate_every": 1},
}


def outcome(models: Path, run: Path, config: TrainConfig) -> list[Any]:
    """The weights, the logged metrics and the steps of the saved checkpoints."""
    saved: list[int] = []
    real = checkpoint.save

    def save(folder: Path, what: checkpoint.Checkpoint) -> Path:
        saved.append(what.step)
        return real(folder, what)

    model = load(models, config.adapter, rank=config.rank)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.checkpoints, "save", save)
        fit(model, run, config)
    logged = [{key: value for key, value in line.items() if key != "seconds"} for line in lines(run)]
    return [model.digest(), logged, saved]


def test_every_key_is_covered() -> None:
    assert set(CHANGES) | ELSEWHERE == set(TrainConfig.model_fields)


@pytest.fixture(scope="module")
def unchanged(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The outcome of each base, which two runs give alike."""
    found = {}
    for name, values in BASES.items():
        found[name], again = (
            outcome(models, tmp_path_factory.mktemp(name), settings(**values)) for _ in range(2)
        )
        assert found[name] == again
    return found


@pytest.mark.parametrize("key", gate(CHANGES, lambda key: key not in SCHEDULED))
def test_changing_a_key_changes_something(
    models: Path, tmp_path: Path, unchanged: dict[str, list[Any]], key: str
) -> None:
    base = "patience" if key == "patience" else "plain"
    assert outcome(models, tmp_path, settings(**BASES[base] | CHANGES[key])) != unchanged[base]


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"train\.method"):
        build_task({"data": {"train": "x.jsonl"}, "train": {"method": "lion"}})


def test_an_auto_that_was_not_resolved_is_an_error(models: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="not resolved: found 'auto'"):
        fit(load(models), tmp_path, settings(batch_size="auto"))


def test_a_model_that_gets_no_gradient_is_noticed(models: Path, tmp_path: Path) -> None:
    model = load(models)
    with torch.no_grad():
        for name, weight in model.named_trainable().items():
            if "lora_A" in name:
                weight.zero_()  # with B at 0 as well, no adapter ever moves
    with pytest.raises(TrainError, match="gradient of the first step is zero"):
        fit(model, tmp_path)


def test_a_loss_that_is_not_finite_leaves_no_checkpoint_of_it(models: Path, tmp_path: Path) -> None:
    model = load(models, "none")
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[int(rows(13)[7].tokens[-2])] = torch.nan
    with pytest.raises(TrainError, match=r"not finite .from row-7."):
        fit(model, tmp_path, settings(adapter="none"), validation=[])
    assert all(line["loss"] == line["loss"] for line in lines(tmp_path))


def interrupted(models: Path, run: Path, step: int, **options: Any) -> None:
    calls = iter(range(1, 100))
    with pytest.raises(Interrupted, match=f"ontinue with: finetooth train {run}"):
        fit(load(models), run, stop=lambda: next(calls) == step, **options)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("settings", {"config": settings(learning_rate=0.02)}),
        ("rows", {"train": rows(13, 5)}),
        ("rows", {"validation": rows(6, 5)}),
        ("seeds", {"seed": 2}),
    ],
)
def test_checkpoints_of_another_run_are_refused(
    models: Path, tmp_path: Path, what: str, change: dict[str, Any]
) -> None:
    interrupted(models, tmp_path, 3)
    with pytest.raises(TrainError, match=f"belong to a run with different {what}"):
        fit(load(models), tmp_path, **change)


def test_checkpoints_of_another_adapter_are_refused(models: Path, tmp_path: Path) -> None:
    interrupted(models, tmp_path, 3)
    with pytest.raises(TrainError, match="belong to a run with different weights"):
        fit(load(models, rank=2), tmp_path)


def test_another_torch_is_said_and_threads_are_put_back(models: Path, tmp_path: Path) -> None:
    interrupted(models, tmp_path, 4)
    path = tmp_path / "train" / "checkpoints" / "step-000004"
    found = checkpoint.load(path)
    state = {key: value for key, value in found.state.items() if key != "step"}
    state["made_of"] |= {"torch": "2.0.0", "threads": 3}
    checkpoint.save(path.parent, checkpoint.Checkpoint(4, found.weights, found.optimizer, state))
    said, before, during = io.StringIO(), torch.get_num_threads(), []

    def stop() -> bool:
        during.append(torch.get_num_threads())
        return False

    fit(load(models), tmp_path, console=Console(file=said, width=200), stop=stop)
    assert "torch was 2.0.0 when the checkpoint was saved" in said.getvalue()
    assert set(during) == {3}
    assert torch.get_num_threads() == before


def test_a_flipped_bit_falls_back_and_still_ends_with_the_same_weights(models: Path, tmp_path: Path) -> None:
    straight, broken = load(models), load(models)
    want = fit(straight, tmp_path / "straight")
    interrupted(models, tmp_path / "broken", 7)
    newest = tmp_path / "broken" / "train" / "checkpoints" / "step-000007" / checkpoint.OPTIMIZER
    content = bytearray(newest.read_bytes())
    content[-100] ^= 4
    newest.write_bytes(content)
    said = io.StringIO()
    assert fit(broken, tmp_path / "broken", console=Console(file=said, width=200)) == want
    assert "step-000007: this checkpoint is damaged" in said.getvalue()
    assert broken.digest() == straight.digest()


def test_a_damaged_best_checkpoint_is_said_and_later_weights_are_used(models: Path, tmp_path: Path) -> None:
    config = settings(learning_rate=0.5, epochs=4, validate_every=1, save_every=1)
    interrupted(models, tmp_path, 12, config=config)
    folder = tmp_path / "train" / "checkpoints"
    best = checkpoint.load(folder / "step-000012").state["loop"]["best_step"]
    assert best < 11
    (folder / f"step-{best:06d}" / checkpoint.WEIGHTS).write_bytes(b"")
    said = io.StringIO()
    result = fit(load(models), tmp_path, config, console=Console(file=said, width=200))
    assert "the best weights so far are damaged" in said.getvalue()
    assert result.best_step > 12


def test_a_directory_that_cannot_be_written_is_one_clear_error(models: Path, tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file where the directory should be")
    with pytest.raises(TrainError, match=r"cannot be written or read .*continue with: finetooth train"):
        fit(load(models), tmp_path)
