"""Tables of what was measured, as Markdown, so that a terminal and docs/benchmarks.md show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidebyside.statistics import Ratio, Spread, line_fit
from sidebyside.training import SAME_LOSS, apart, same_loss

Result = Mapping[str, Any]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns aligned."""
    widths = [max(len(line[at]) for line in [head, *lines]) for at in range(len(head))]

    def show(cells: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([show(head), rule, *(show(line) for line in lines)])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range of seconds."""
    found = Spread.of(values)
    return f"{found.median:.{digits}f} s ({found.low:.{digits}f}-{found.high:.{digits}f})"


def ratio(others: Sequence[float], ours: Sequence[float]) -> str:
    """The paired ratio and its lower bound."""
    found = Ratio.paired(others, ours)
    return f"{found.median:.2f}x" + (f" (> {found.low:.2f})" if found.low is not None else "")


def of(name: str, result: Result) -> str:
    """The table of any case."""
    if "alike" in result:
        return learning_table(name, result)
    return training_table(name, result) if "work" in result else answers_table(name, result)


def training_table(name: str, result: Result) -> str:
    """One training case: times, ratios to finetooth, memory, losses, and the share of the floor."""
    systems = result["systems"]
    ours = systems["finetooth"]["seconds"]
    void = same_loss(systems)
    lines = []
    for system, found in systems.items():
        if not found["seconds"]:
            lines.append([system, "did not run", "", "", ""])
            continue
        lines.append(
            [
                system,
                spread(found["seconds"]),
                ratio(found["seconds"], found["ours"]) if system != "finetooth" else "",
                f"{found['peak'] / 2**30:.2f} GiB" if "peak" in found else "",
                f"{found['losses'][0]:.4f} → {found['losses'][-1]:.4f}",
            ]
        )
    head = ["system", "a step: median (range)", "times finetooth", "peak memory", "loss"]
    return "\n\n".join(
        [
            f"**{name}**: {result['title']}",
            floor_line(result, ours),
            table(head, lines),
            agreement(void),
        ]
    )


def learning_table(name: str, result: Result) -> str:
    """Rewards and preferences: times, ratios to finetooth, memory, gradients, and the tree's share."""
    systems = result["systems"]
    ours = systems["finetooth"]["seconds"]
    lines = []
    for system, found in systems.items():
        beside = found.get("ours", ours)
        lines.append(
            [
                system,
                spread(found["seconds"]),
                ratio(found["seconds"], beside) if system != "finetooth" else "",
                f"{found['peak'] / 2**30:.2f} GiB",
                f"{found['norms'][0]:.6g}",
            ]
        )
    step = "a step of the processor" if result.get("clock") == "processor" else "a step"
    head = ["system", f"{step}: median (range)", "times finetooth", "peak memory", "gradient norm"]
    parts = [f"**{name}**: {result['title']}", floor_line(result, ours), table(head, lines)]
    if result["searched"]:
        tried = ", ".join(f"{rows}: {seconds:.1f} s" for rows, seconds in result["searched"].items())
        parts.append(f"TRL's micro-batches in rows, of which the fastest is taken: {tried}.")
    if not result["alike"]:
        return "\n\n".join([*parts, "Each system samples its own answers, so gradients are not compared."])
    loss, norm = apart(systems)
    alike = f"In all steps the gradient's norm is the same to {norm:.0e} of it, and the loss to {loss:.0e}."
    return "\n\n".join([*parts, tree_line(systems), alike])


def tree_line(systems: Mapping[str, Any]) -> str:
    """How much of the ratio to TRL is the tree's: what finetooth takes for the same rows without it."""
    seconds = {name: found["seconds"] for name, found in systems.items()}
    alone, ours = seconds["finetooth-unshared"], seconds["finetooth"]
    said = [f"The tree makes {ratio(alone, ours)} of the ratios; the rest is"]
    rest = [f"{ratio(seconds[name], alone)} of {name}" for name in seconds if name.startswith("trl")]
    return f"{said[0]} {', '.join(rest)}."


def answers_table(name: str, result: Result) -> str:
    """Cases (c) and (d): times, ratios, memory, best batch sizes, and whether the answers are the same."""
    ours = result["systems"]["finetooth"]["seconds"]
    batch = result["batch"] if isinstance(result["batch"], dict) else {"generate": result["batch"]}
    lines = [
        [
            system,
            spread(found["seconds"], digits=2 if min(ours) > 0.5 else 4),
            ratio(found["seconds"], ours) if system != "finetooth" else "",
            f"{found['peak'] / 2**30:.2f} GiB",
            str(batch.get(system, "")),
        ]
        for system, found in result["systems"].items()
    ]
    head = ["system", "median (range)", "times finetooth", "peak memory", "best batch"]
    same = "The answers agree" if result["agree"] else "VOID: the answers differ"
    ties = sum(gap > 0 for gap in result["gaps"])
    if ties and result["agree"]:
        same += f", but for {ties} where two were less than 1e-4 nats apart"
    return "\n\n".join([f"**{name}**: {result['title']}", table(head, lines), same + "."])


def floor_line(result: Result, ours: Sequence[float]) -> str:
    """The rows, the floor, and where finetooth stands."""
    work, rate = result["work"], Spread.of(result["rates"])
    seconds = result["gflop"] / rate.median
    return (
        f"{work['row_tokens']:,} tokens in the rows, {work['distinct']:,} distinct, "
        f"{work['scored']:,} scored. "
        f"Fewest operations: {result['gflop']:.0f} GFLOP; matrix rate {rate.median:.0f} GFLOP/s "
        f"({rate.low:.0f}-{rate.high:.0f}), so {seconds:.2f} s: "
        f"finetooth at {seconds / Spread.of(ours).median:.0%} of the floor."
    )


def agreement(void: Mapping[str, float]) -> str:
    """Whether all systems trained the same thing."""
    if not void:
        return f"The first losses of all systems agree to {SAME_LOSS:g}."
    named = ", ".join(f"{name} by {by:.4f}" for name, by in void.items())
    return f"VOID for {named}: the first loss differs from finetooth's, so something else was trained."


def scaling_table(result: Result) -> str:
    """The sweeps over shares and rows, and the line through finetooth's times."""
    points = result["points"]
    names = list(points[0]["seconds"])
    lines = [
        [
            f"{point['value']:.0%} shared" if point["sweep"] == "share" else f"{point['value']} rows",
            f"{point['work']['row_tokens']:,}",
            f"{point['work']['distinct']:,}",
            *(spread(point["seconds"][name]) for name in names),
        ]
        for point in points
    ]
    return table(["point", "tokens", "distinct", *names], lines) + "\n\n" + "\n".join(fits(points))


def fits(points: Sequence[Any]) -> list[str]:
    """Seconds a step as a line in the distinct tokens, for each sweep, and how well it fits.

    Of the medians, and of the fastest rounds: other work on the machine can only add time.
    """
    found = []
    for sweep in ("share", "rows"):
        part = [point for point in points if point["sweep"] == sweep]
        distinct = [point["work"]["distinct"] for point in part]
        spreads = [Spread.of(point["seconds"]["finetooth"]) for point in part]
        for what, values in (
            ("medians", [one.median for one in spreads]),
            ("fastest rounds", [one.low for one in spreads]),
        ):
            slope, start, square = line_fit(distinct, values)
            found.append(
                f"* over {sweep}, {what}: {1000 * slope:.2f} ms a distinct token + {start:.2f} s, "
                f"R² = {square:.4f}"
            )
    return found
