"""From the user's files to the sides of a run, once: data/{train,validation,sealed,rejected}.jsonl.

The sealed test is written here and read in evaluation/ledger.py alone. A run that has been prepared reads its
train and validation rows back, and opens neither the user's files nor the sealed rows again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetooth.config import cleaning
from finetooth.config.cleaning import Operation
from finetooth.config.task import DataConfig, Task
from finetooth.config.values import format_count, format_count_of, plural
from finetooth.data.examples import from_json, source_location, to_json, with_ids
from finetooth.data.formats.parse import ParsedTable, parse
from finetooth.data.inherited_split import InheritedSplit, ParentRun, inherit_split
from finetooth.data.read.table import RejectedRow
from finetooth.data.read.tables import read
from finetooth.data.split import SIDES, label_notes, leaks, split, split_keys
from finetooth.errors import ConfigError, DataError
from finetooth.privacy.masking import redact
from finetooth.quality.findings import Finding, Hit, blocking_findings
from finetooth.quality.repair.clean import clean
from finetooth.quality.repair.steps import CleaningResult, CleaningStep, merge_steps
from finetooth.quality.similarity.clusters import SplitKeys, merge_near_duplicate_keys
from finetooth.quality.similarity.near import SimilarPair
from finetooth.rundir import read_json, read_jsonl, write_json, write_jsonl
from finetooth.types import Example

MOST_BROKEN = 0.01


@dataclass(frozen=True, slots=True)
class AssembledData:
    """The user's data in memory, cleaned. rejected: rows that were set aside, personal data hidden.

    findings: what is seen while reading: too many broken rows, and rows that are on two sides as they are.
    user_provided: sides that are files of their own. cleaned: what each operation of data.clean did.
    pairs: near-duplicates by the ids of their rows, where the split found what the rules would find.
    sealed_of: the run whose test this is, where it is another's.
    """

    format: str
    sides: dict[str, list[Example]]
    rejected: list[RejectedRow]
    total: int
    findings: list[Finding]
    notes: list[str]
    user_provided: frozenset[str] = frozenset()
    cleaned: tuple[CleaningStep, ...] = ()
    pairs: tuple[tuple[str, str, SimilarPair], ...] | None = None
    sealed_of: ParentRun | None = None


@dataclass(frozen=True, slots=True)
class PreparedData:
    """The rows that training and iterating may see, and how many are sealed.

    labels: of the training rows, sorted; () when the format has none. sealed_format: of the test rows, where
    they are those of the run that this one goes on from; the labels are then those of that run too.
    """

    train: list[Example]
    validation: list[Example]
    sealed_count: int
    format: str
    labels: tuple[str, ...]
    notes: list[str]
    sealed_format: str | None = None


def prepare(task: Task, run_path: str | Path, data: AssembledData | None = None) -> PreparedData:
    """Read, validate, split and write the data of a run; of a prepared run, read train and validation.

    data: what `assemble` made of the task, where that has been done already. Raises DataError for a block
    that data.allow does not name (more than 1% of a file's rows broken, a row on two sides), and for an empty
    side; rejected.jsonl is written before that, so that it can be looked at.
    """
    folder = Path(run_path) / "data"
    if not (folder / "split.json").is_file():
        _materialise(data or assemble(task), folder, task.data.allow)
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


def _materialise(data: AssembledData, folder: Path, allowed: Sequence[str]) -> None:
    """Write the sides. split.json comes last: it says that all the others are whole."""
    write_jsonl(folder / "rejected.jsonl", (row.to_json() for row in data.rejected))
    stops = blocking_findings(data.findings, allowed)
    if stops:
        where = f"\nAll of them are in {folder / 'rejected.jsonl'}." if data.rejected else ""
        raise DataError("\n".join(finding.message() for finding in stops) + where)
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
    if data.sealed_of is not None:
        about |= {"sealed_format": data.sealed_of.format, "labels": list(data.sealed_of.labels)}
    write_json(folder / "split.json", about)


def assemble(task: Task, parent_run: ParentRun | None = None) -> AssembledData:
    """Read, validate and split, in memory. Raises DataError for what leaves nothing to look at.

    parent_run: the run that training goes on from.
    """
    config = task.data
    asked_for = {side: getattr(config, side) for side in ("validation", "test")}
    shares = {side: share if isinstance(share, float) else 0.0 for side, share in asked_for.items()}
    if sum(shares.values()) >= 1:
        raise ConfigError(
            f"data.validation {shares['validation']} and data.test {shares['test']} leave no row to train "
            "on: their sum must be below 1."
        )
    parsed = dict(_parse_all(config))
    parts = [part for found in parsed.values() for part in found]
    format = _one_format(parsed)
    found = [[row for part in parsed[side] for row in part.examples] for side in parsed]
    examples = dict(zip(parsed, with_ids(found), strict=True))
    asked = cleaning.operations(config.clean)
    early = [_clean(rows, side, asked, task.seed) for side, rows in examples.items()]
    examples = {side: done.examples for side, done in zip(examples, early, strict=True)}
    keys = SplitKeys(split_keys(examples["train"]), [])
    if any(shares.values()):
        keys = merge_near_duplicate_keys(examples["train"], keys.keys)
    sides = split(examples["train"], keys.keys, task.seed, shares["test"], shares["validation"])
    kept = (
        inherit_split(examples["train"], sides, parent_run, shares)
        if parent_run
        else InheritedSplit(sides, [])
    )
    sides = kept.sides
    late = clean(sides["train"], [one for one in asked if one.name == "balance"], task.seed)
    sides |= {"train": late.examples} | {side: rows for side, rows in examples.items() if side != "train"}
    findings = [one for side, found in parsed.items() for part in found for one in _broken(side, part)]
    findings += _leaks(sides, config)
    _require_rates(config, sides)
    if sides["train"] or not blocking_findings(findings, config.allow):
        findings += _empty_sides(config, sides)
    return AssembledData(
        format=format,
        sides=sides,
        rejected=[row.redacted() for part in parts for row in part.rejected],
        total=sum(part.total for part in parts),
        findings=findings,
        notes=[note for part in parts for note in part.notes]
        + keys.notes
        + kept.notes
        + label_notes(sides)
        + _unused(format, task),
        user_provided=frozenset(side for side in examples if side != "train"),
        cleaned=(*merge_steps([done.steps for done in early]), *late.steps),
        pairs=None if parent_run or len(examples) > 1 or late.dropped else _named(examples["train"], keys),
        sealed_of=parent_run if kept.sealed else None,
    )


def _named(rows: Sequence[Example], keys: SplitKeys) -> tuple[tuple[str, str, SimilarPair], ...] | None:
    """The pairs that the split was made by; None where clusters were left apart, as some may straddle."""
    if keys.pairs is None or keys.notes:
        return None
    return tuple((rows[pair.one].id, rows[pair.other].id, pair) for pair in keys.pairs)


def _clean(rows: Sequence[Example], side: str, asked: Sequence[Operation], seed: int) -> CleaningResult:
    """The rows of a source after what is done before the split. Balance waits for the split, so that the test
    stays as rows come; and a test of the user's own keeps its copies, as its rows were counted by others.
    """
    later = {"balance"} if side == "train" else {"balance", "dedupe"}
    return clean(rows, [one for one in asked if one.name not in later], seed)


def _leaks(sides: Mapping[str, Sequence[Example]], config: DataConfig) -> Iterator[Finding]:
    """Rows that are on two sides as they are. The rule `leak` (data/quality/leaks) finds these and more."""
    pairs = leaks(sides, groups=config.group is not None)
    if pairs:
        yield Finding(
            "leak",
            "block",
            f"{format_count(len(pairs), 'row (or group) is', 'rows (or groups) are')} on two sides of the "
            "split, "
            "so no result could be trusted.",
            tuple(
                Hit.of(copy, other, f"= {one} {source_location(row)}", row.id)
                for one, row, other, copy in pairs
            ),
            "Take each out of one of the two files.",
        )


def _unused(format: str, task: Task) -> list[str]:
    """What the rows hold and training does not use."""
    if format != "preference" or task.train.method != "sft":
        return []
    return ["the chosen answers are learned; the rejected ones are kept and not used by train.method: sft."]


def _parse_all(config: DataConfig) -> Iterator[tuple[str, list[ParsedTable]]]:
    """The training source, then what the user brought for the other sides."""
    for side in SIDES:
        source = getattr(config, side)
        if not isinstance(source, float):
            tables = read(source, config.encoding, side)
            yield side, [parse(table, config, config.format) for table in tables]


def _one_format(parsed: dict[str, list[ParsedTable]]) -> str:
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


def _broken(side: str, part: ParsedTable) -> Iterator[Finding]:
    """A block when more than 1% of a file's rows are broken."""
    if len(part.rejected) <= MOST_BROKEN * part.total:
        return
    bytes = any(row.reason.startswith("not UTF-8") for row in part.rejected)
    hint = ", or name the file's encoding, for example `data.encoding: cp1252`" if bytes else ""
    yield Finding(
        "broken-rows",
        "block",
        f"{part.rejected[0].file}: {format_count_of(len(part.rejected), part.total, 'row')} "
        f"{plural(len(part.rejected), 'is', 'are')} broken, more than "
        f"{MOST_BROKEN:.0%}.",
        tuple(Hit("", f"{row.file}, line {row.line}", side, redact(row.reason)) for row in part.rejected),
        f"Repair or remove them{hint}.",
    )


def _require_rates(config: DataConfig, sides: Mapping[str, Sequence[Example]]) -> None:
    """The column of data.rates, which is among the tags as every column that the format does not read."""
    known = {tag for row in sides["train"] for tag in row.tags} - {"file", "line", "label", "group"}
    known |= {config.group} if config.group else set()
    if sides["train"] and config.rates not in (None, *known):
        listed = ", ".join(sorted(known)[:20])
        others = f"Columns to compare by: {listed}." if listed else "The rows have no columns to compare by."
        raise DataError(f"data.rates: no training row has {config.rates!r}. {others}")


def _empty_sides(config: DataConfig, sides: dict[str, list[Example]]) -> Iterator[Finding]:
    """A block when a side has no row, but one that was set to a share of 0. DataError for no training row."""
    empty = [
        side for side in SIDES if not sides[side] and not (side != "train" and getattr(config, side) == 0)
    ]
    if not empty:
        return
    total = sum(map(len, sides.values()))
    counts = ", ".join(f"{len(sides[side])} {side}" for side in SIDES)
    wanted = " and ".join(f"data.{side}: a larger share or a file" for side in empty if side != "train")
    finding = Finding(
        "empty-side",
        "block",
        f"Too few rows ({total}): they split into {counts}, and every side needs at least one "
        "(30 in the test before a result can be called better).",
        fix="Bring more rows" + (f", or set {wanted}." if wanted else "."),
    )
    if not sides["train"]:
        raise DataError(f"{finding.summary} {finding.fix}")
    yield finding
