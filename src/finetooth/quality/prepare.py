"""Preparing a run's data: from the user's files to data/{train,validation,sealed,rejected}.jsonl.

The sealed test set is written here and read only by evaluation/ledger.py. A prepared run reads its train and
validation rows back, and opens neither the user's files nor the sealed rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetooth.config import cleaning
from finetooth.config.task import Task
from finetooth.data.examples import from_json, to_json, with_ids
from finetooth.data.formats.columns import ColumnPlan
from finetooth.data.formats.parse import ParsedTable, parse
from finetooth.data.read.files import read
from finetooth.data.read.locations import rejected_line
from finetooth.data.read.table import RejectedRow
from finetooth.data.split import (
    SIDES,
    InheritedSplit,
    ParentRun,
    Sides,
    inherit_split,
    label_notes,
    rows_not_in,
    split,
    split_keys,
)
from finetooth.errors import ConfigError, DataError
from finetooth.quality import change_sets
from finetooth.quality.findings import Finding, blocking_findings
from finetooth.quality.reading_findings import (
    broken,
    empty_sides,
    leaks_found,
    require_rates_column,
    unread_labels,
)
from finetooth.quality.repair.clean import CleaningResult, CleaningStep, clean, merge_steps
from finetooth.quality.similarity.clusters import SplitKeys, merge_near_duplicate_keys, with_clusters
from finetooth.quality.similarity.near import SimilarPair
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.types import Example


@dataclass(frozen=True, slots=True)
class AssembledData:
    """The user's data in memory, cleaned and split. rejected: rows set aside, personal data redacted.

    findings: found while reading: too many broken rows, exact leaks between sides, an empty side.
    user_provided: sides with files of their own. cleaned: what each operation of data.clean did.
    pairs: near-duplicates as (id, id, pair), if the split has computed the same that the rules would.
    sealed_of: the parent run whose test set this is, if it is inherited.
    """

    format: str
    sides: Sides
    rejected: list[RejectedRow]
    total: int
    findings: list[Finding]
    notes: list[str]
    user_provided: frozenset[str] = frozenset()
    cleaned: tuple[CleaningStep, ...] = ()
    pairs: tuple[tuple[str, str, SimilarPair], ...] | None = None
    sealed_of: ParentRun | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the training rows, or of the run whose test set this is; () without labels."""
        if self.sealed_of is not None:
            return tuple(self.sealed_of.labels)
        rows = self.sides["train"] if self.format == "labels" else ()
        return tuple(sorted({example.tags["label"] for example in rows}))


@dataclass(frozen=True, slots=True)
class PreparedData:
    """The rows that training and validation may see, and the number of sealed test rows.

    labels: of the training rows, sorted; () when the format has none. sealed_format: format of the test rows
    if they are inherited from the parent run; labels are then that run's, too.
    """

    train: list[Example]
    validation: list[Example]
    sealed_count: int
    format: str
    labels: tuple[str, ...]
    notes: list[str]
    sealed_format: str | None = None


def prepare(task: Task, run_path: str | Path, data: AssembledData | None = None) -> PreparedData:
    """Read, validate, split and write the data of a run; for a prepared run, only read it back.

    data: the result of `assemble(task)`, if it is already there. Raises DataError for a blocking finding that
    data.allow does not override (more than 1% of a file's rows broken, a row on two sides, an empty side);
    rejected.jsonl is written first, so that it can be inspected.
    """
    folder = Path(run_path) / "data"
    if not (folder / "split.json").is_file():
        _write(data or assemble(task), folder, task.data.allow)
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
    return PreparedData(
        train,
        validation,
        about["sealed"],
        about["format"],
        tuple(about["labels"]),
        about["notes"],
        about.get("sealed_format"),
    )


def _write(data: AssembledData, folder: Path, allowed: Sequence[str]) -> None:
    """Write the sides. split.json comes last: its presence says that all others are complete."""
    write_jsonl(folder / "rejected.jsonl", map(rejected_line, data.rejected))
    blocking = blocking_findings(data.findings, allowed)
    if blocking:
        where = f"\nAll of them are in {folder / 'rejected.jsonl'}." if data.rejected else ""
        raise DataError("\n".join(finding.message() for finding in blocking) + where)
    for side, name in zip(SIDES, ("train", "validation", "sealed"), strict=True):
        write_jsonl(folder / f"{name}.jsonl", map(to_json, data.sides[side]))
    about = {
        "format": data.format,
        "train": len(data.sides["train"]),
        "validation": len(data.sides["validation"]),
        "sealed": len(data.sides["test"]),
        "rejected": len(data.rejected),
        "labels": list(data.labels),
        "notes": data.notes,
    }
    if data.sealed_of is not None:
        about["sealed_format"] = data.sealed_of.format
    write_json(folder / "split.json", about)


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The rows of the user's files before the split. tables, cleaned: by side with a source of its own.

    plan: how the columns of all files are read.
    """

    tables: dict[str, list[ParsedTable]]
    cleaned: dict[str, CleaningResult]
    plan: ColumnPlan

    @property
    def format(self) -> str:
        """The format of all files. Raises DataError if they differ: all rows are graded in one way."""
        return _one_format(self.tables)


def read_rows(task: Task) -> ReadRows:
    """Read, validate and clean the rows of a task's files, each with its id. Raises DataError."""
    config = task.data
    sources = {side: getattr(config, side) for side in SIDES if not isinstance(getattr(config, side), float)}
    files = {side: read(source, config.encoding, side) for side, source in sources.items()}
    plan = ColumnPlan.of([table for tables in files.values() for table in tables], config.columns)
    parsed = {
        side: [parse(table, config, config.format, plan) for table in tables]
        for side, tables in files.items()
    }
    identified = with_ids([[row for table in tables for row in table.examples] for tables in parsed.values()])
    operations = cleaning.operations(config.clean)
    cleaned = {}  # `balance` comes after the split, so that the test set keeps its distribution
    for side, rows in zip(parsed, identified, strict=True):
        # A test set of the user's own also keeps its duplicates, so that results stay comparable.
        later = {"balance"} if side == "train" else {"balance", "dedupe"}
        cleaned[side] = clean(rows, [one for one in operations if one.name not in later], task.seed)
    return ReadRows(parsed, cleaned, plan)


def assemble(task: Task, parent_run: ParentRun | None = None) -> AssembledData:  # long: stages in order
    """Read, validate, clean and split, in memory. Raises DataError if nothing usable is left.

    parent_run: the run whose split is kept; see `inherit_split`.
    """
    config = task.data
    requested = {side: getattr(config, side) for side in ("validation", "test")}
    shares = {side: share if isinstance(share, float) else 0.0 for side, share in requested.items()}
    if sum(shares.values()) >= 1:
        raise ConfigError(
            f"data.validation {shares['validation']} and data.test {shares['test']} leave no row to train "
            "on: their sum must be below 1."
        )
    found = read_rows(task)
    parsed, examples = found.tables, {side: result.examples for side, result in found.cleaned.items()}
    tables = [table for tables in parsed.values() for table in tables]
    format = found.format
    # A row that is nearly one of the parent run's stays on its side, so those are clustered with the others.
    rows = [*examples["train"], *(rows_not_in(parent_run, examples["train"]) if parent_run else ())]
    keys = SplitKeys(split_keys(rows), [])
    if any(shares.values()):
        keys = merge_near_duplicate_keys(rows, keys.keys)
    own_keys = keys.keys[: len(examples["train"])]
    sides = split(examples["train"], own_keys, task.seed, shares["test"], shares["validation"])
    inherited = InheritedSplit(sides, [])
    if parent_run:
        inherited = inherit_split(examples["train"], sides, parent_run, shares, keys.keys)
    sides = inherited.sides | {side: rows for side, rows in examples.items() if side != "train"}
    changed = change_sets.applied(task, found.plan, format, sides)
    balance = [one for one in cleaning.operations(config.clean) if one.name == "balance"]
    after = clean(changed.sides["train"], balance, task.seed)
    sides = changed.sides | {"train": after.examples}
    key_of = {row.id: key for row, key in zip(examples["train"], own_keys, strict=True)}
    sides |= {side: with_clusters(sides[side], key_of) for side in ("validation", "test")}
    findings = [one for side, found in parsed.items() for table in found for one in broken(side, table)]
    findings += [one for tables in parsed.values() for table in tables for one in unread_labels(table)]
    findings += leaks_found(config, sides)
    require_rates_column(config, sides)
    if sides["train"] or not blocking_findings(findings, config.allow):
        findings += empty_sides(config, sides)
    notes = [note for table in tables for note in table.notes]
    notes += [*keys.notes, *inherited.notes, *changed.notes, *label_notes(sides)]
    if format == "preference" and task.train.method == "sft":
        notes.append("the chosen answers are learned; train.method: sft does not use the rejected ones.")
    pairs = None
    # Where a cluster was left apart (keys.notes), its rows may be on two sides: the rules look themselves.
    apart = keys.notes or parent_run or len(examples) > 1 or after.dropped or config.add
    if keys.pairs is not None and not apart:
        pairs = tuple((rows[pair.one].id, rows[pair.other].id, pair) for pair in keys.pairs)
    return AssembledData(
        format=format,
        sides=sides,
        rejected=[row.redacted() for table in tables for row in table.rejected],
        total=sum(table.total for table in tables),
        findings=findings,
        notes=notes,
        user_provided=frozenset(side for side in examples if side != "train"),
        cleaned=(*merge_steps([*(one.steps for one in found.cleaned.values()), changed.steps]), *after.steps),
        pairs=pairs,
        sealed_of=parent_run if inherited.sealed else None,
    )


def _one_format(parsed: dict[str, list[ParsedTable]]) -> str:
    """The format of all files. Raises DataError if they differ: all rows of a run are graded in one way."""
    names = [
        (side if len(tables) == 1 else f"{side} {table.name}", table.format)
        for side, tables in parsed.items()
        for table in tables
        if table.examples
    ]
    if len({name for _, name in names}) > 1:
        found = ", ".join(f"{where} is {name}" for where, name in names[:10])
        raise DataError(f"The files have different formats: {found}. Use one, or name it with data.format.")
    return names[0][1] if names else "unknown"
