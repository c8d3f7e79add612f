"""The part of a run's page on its training: the curves, and how long it took."""

from __future__ import annotations

from typing import Any

from finetooth.config.values import format_count
from finetooth.report.charts import flattened, smooth, training_curve
from finetooth.report.evidence import Evidence, Line, duration


def training_part(evidence: Evidence) -> dict[str, Any] | None:
    """The training curve: losses, or the rewards of a reinforcement-learning run, whose policy loss says
    nothing and is not comparable with the validation loss.
    """
    lines, result = evidence.metrics, evidence.json("train/result.json")
    rewarded = any("reward" in line for line in lines)
    key, valid = ("reward", "valid_score") if rewarded else ("loss", "valid_loss")
    train_S = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    valid_S = [(line["step"], line[valid]) for line in lines if line.get(valid) is not None]
    if not train_S and not valid_S:
        return None
    caption = "Mean reward of the sampled completions and score on the validation rows"
    if not rewarded:
        pairs, method = any("accuracy" in line for line in lines), result.get("method")
        unit = "in nats per scored token" if not pairs else "per answer" if method == "kto" else "per pair"
        caption = f"Loss {unit}"
    best_step = result.get("best_step") if result.get("selected_by") else None
    scores = [] if rewarded else [(one["step"], one["valid_score"]) for one in lines if "valid_score" in one]
    return {
        "chart": training_curve(train_S, valid_S, "reward" if rewarded else "loss", best_step),
        "scores": training_curve([], scores, "score", best_step) if len(scores) > 1 else None,
        "log": not rewarded and flattened(train_S, valid_S),
        "names": [name for name, points_S in (("training", train_S), ("validation", valid_S)) if points_S],
        "caption": caption,
        "steps": max(step for step, _ in [*train_S, *valid_S]),
        "smoothing": smooth(train_S)[1],
        "best": min(valid_S, key=lambda point: point[1]) if valid_S and not rewarded else None,
        "kept": best_step,
        "retention": [(line["step"], line["valid_retention"]) for line in lines if "valid_retention" in line],
        "by_score": result.get("selected_by") == "score",
        "time": duration(sum(line.get("seconds") or 0.0 for line in lines)) if train_S else "",
    }


def training_line(evidence: Evidence) -> Line | None:
    """Steps, time and the checkpoint that was kept."""
    found = training_part(evidence)
    if found is None:
        return None
    words = f"Method {evidence.method}, {format_count(found['steps'], 'step')}"
    words += f" in {found['time']}" if found["time"] else ""
    if found["kept"] is not None:
        chosen = "score" if found["by_score"] else "loss"
        words += f"; the weights are those of step {found['kept']:,}, chosen by validation {chosen}"
    return Line("Training", f"{words}.")
