"""From the user's files to the sides of a run, once: data/{train,validation,sealed,rejected}.jsonl.

The sealed test is written here and read in evaluation/ledger.py alone. A run that has been prepared reads its
train and validation rows back, and opens neither the user's files nor the sealed rows again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetooth.config import DataConfig, Task
from finetooth.data.examples import content_id, from_json, to_json
from finetooth.data.formats import Parsed, parse
from finetooth.data.read import read
from finetooth.data.split import SIDES, label_notes, leak_message, leaks, split
from finetooth.data.table import Rejected
from finetooth.errors import ConfigError, DataError
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.types import Example

MOST_BROKEN = 0.01


@dataclass(frozen=True, slots=True)
class Assembled:
    """The user's data in memory. problems: what a gate says no to, each a complete message."""

    format: str
    sides: dict[str, list[Example]]
    rejected: list[Rejected]
    total: int
    problems: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows that training and iterating may see, and how many are sealed.

    labels: of the training rows, sorted; () when the format has none.
    """

    train: list[Example]
    validation: list[Example]
    sealed_count: int
    format: str
    labels: tuple[str, ...]
    notes: list[str]


def prepare(task: Task, run_path: str | Path) -> Prepared:
    """Read, validate, split and write the data of a run; of a prepared run, read train and validation.

    Raises DataError when more than 1% of a file's rows are broken, identical contexts are on two sides, or a
    side is empty; rejected.jsonl is written before that, so that it can be looked at.
    """
    folder = Path(run_path) / "data"
    if not (folder / "split.json").is_file():
        _materialise(assemble(task), folder)
    about = read_json(folder / "split.json")
    train, validation = (
        [from_json(line) for line in read_jsonl(folder / f"{side}.jsonl")] for side in ("train", "validation")
    )
    for side, rows in (("train", train), ("validation", validation)):
        if len(rows) != about[side]:
            raise DataError(
                f"{folder / side}.jsonl has {len(rows)} rows, split.json says {about[side]}. The run's data "
                "was changed after the split: start again with a new --out."
            )
    return Prepared(
        train, validation, about["sealed"], about["format"], tuple(about["labels"]), about["notes"]
    )


def _materialise(data: Assembled, folder: Path) -> None:
    """Write the sides. split.json comes last: it says that all the others are whole."""
    write_jsonl(folder / "rejected.jsonl", (row.to_json() for row in data.rejected))
    if data.problems:
        where = f"\nAll of them are in {folder / 'rejected.jsonl'}." if data.rejected else ""
        raise DataError("\n".join(data.problems) + where)
    for side, name in zip(SIDES, ("train", "validation", "sealed"), strict=True):
        write_jsonl(folder / f"{name}.jsonl", map(to_json, data.sides[side]))
    labels = {example.tags["label"] for example in data.sides["train"]} if data.format == "labels" else set()
    about = {
        "format": data.format,
        "train": len(data.sides["train"]),
        "validation": len(data.sides["validation"]),
        "sealed": len(data.sides["test"]),
        "rejected": len(data.rejected),
        "labels": sorted(labels),
        "notes": data.notes,
    }
    write_json(folder / "split.json", about)


def assemble(task: Task) -> Assembled:
    """Read, validate and split, in memory. Raises DataError for what leaves nothing to look at."""
    config = task.data
    shares = {
        "validation": config.validation if isinstance(config.validation, float) else 0.0,
        "test": config.test if isinstance(config.test, float) else 0.0,
    }
    if sum(shares.values()) >= 1:
        raise ConfigError(
            f"data.validation {shares['validation']} and data.test {shares['test']} leave no row to train "
            "on: their sum must be below 1."
        )
    parsed = dict(_parse_all(config))
    parts = [part for found in parsed.values() for part in found]
    format = _one_format(parsed)
    found = [[row for part in parsed[side] for row in part.examples] for side in parsed]
    examples = dict(zip(parsed, _with_ids(found), strict=True))
    sides = split(examples["train"], task.seed, shares["test"], shares["validation"])
    sides |= {side: rows for side, rows in examples.items() if side != "train"}
    problems = [message for part in parts if (message := _broken(part))]
    pairs = leaks(sides, groups=config.group is not None)
    problems += [leak_message(pairs)] if pairs else []
    if not problems:
        _require_rows(config, sides)
    return Assembled(
        format=format,
        sides=sides,
        rejected=[row for part in parts for row in part.rejected],
        total=sum(part.total for part in parts),
        problems=problems,
        notes=[note for part in parts for note in part.notes] + label_notes(sides) + _unused(format, task),
    )


def _unused(format: str, task: Task) -> list[str]:
    """What the rows hold and training does not use."""
    if format != "preference" or task.train.method != "sft":
        return []
    return ["the chosen answers are learned; the rejected ones are kept and not used by train.method: sft."]


def _parse_all(config: DataConfig) -> Iterator[tuple[str, list[Parsed]]]:
    """The training source, then what the user brought for the other sides."""
    for side in SIDES:
        source = getattr(config, side)
        if not isinstance(source, float):
            tables = read(source, config.encoding, side)
            yield side, [parse(table, config, config.format) for table in tables]


def _one_format(parsed: dict[str, list[Parsed]]) -> str:
    """The format of all files. DataError when they differ, as rows of one kind are graded in one way."""
    names = [
        (side if len(parts) == 1 else f"{side} {part.name}", part.format)
        for side, parts in parsed.items()
        for part in parts
        if part.examples
    ]
    if len({name for _, name in names}) > 1:
        found = ", ".join(f"{where} is {name}" for where, name in names[:10])
        raise DataError(f"The files are of different formats: {found}. Use one, or name it with data.format.")
    return names[0][1] if names else "unknown"


def _with_ids(parts: Sequence[Sequence[Example]]) -> list[list[Example]]:
    """Ids for all examples: the given one, else of the content; a second one of the same id gets `-2`, ..."""
    used: set[str] = set()
    copies: dict[str, int] = {}
    result = []
    for examples in parts:
        named = []
        for example in examples:
            base = example.id or content_id(example)
            copies[base] = copies.get(base, 0) + 1
            id = base if copies[base] == 1 else f"{base}-{copies[base]}"
            while id in used:
                copies[base] += 1
                id = f"{base}-{copies[base]}"
            used.add(id)
            named.append(replace(example, id=id))
        result.append(named)
    return result


def _broken(part: Parsed) -> str:
    """The message of the gate for broken rows, '' when they are few enough."""
    if len(part.rejected) <= MOST_BROKEN * part.total:
        return ""
    first = "\n".join(f"  {row.file}, line {row.line}: {row.reason}" for row in part.rejected[:3])
    bytes = any(row.reason.startswith("not UTF-8") for row in part.rejected)
    hint = ", or name the file's encoding, for example `data.encoding: cp1252`" if bytes else ""
    return (
        f"{part.rejected[0].file}: {len(part.rejected)} of {part.total} rows are broken, more than "
        f"{MOST_BROKEN:.0%}. The first:\n{first}\nRepair or remove them{hint}."
    )


def _require_rows(config: DataConfig, sides: dict[str, list[Example]]) -> None:
    """Every side has rows, except one that was set to a share of 0."""
    empty = [
        side for side in SIDES if not sides[side] and not (side != "train" and getattr(config, side) == 0)
    ]
    if not empty:
        return
    total = sum(map(len, sides.values()))
    counts = ", ".join(f"{len(sides[side])} {side}" for side in SIDES)
    wanted = " and ".join(f"data.{side}: a larger share or a file" for side in empty if side != "train")
    raise DataError(
        f"Too few rows ({total}): they split into {counts}, and every side needs at least one "
        f"(30 in the test before a result can be called better). Bring more rows"
        + (f", or set {wanted}." if wanted else ".")
    )
