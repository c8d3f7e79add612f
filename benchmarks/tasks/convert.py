"""Convert the public data sets of the benchmark tasks to finetooth's `text, label` rows.

    python benchmarks/tasks/convert.py [clinc150] [sms_spam] [snips]

reads $FINETOOTH_DATA (default: ../shared/data beside the checkout) and writes benchmarks/tasks/data/, which
git ignores. A text that occurs twice, by finetooth's own normalisation, is kept once: in the test file
before the validation file before the training file. What was left out is counted in the output.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetooth.data.examples import normalise
from finetooth.rundir import write_jsonl

HERE = Path(__file__).resolve().parent
Rows = list[tuple[str, str]]  # (text, label)
# Where a text of two splits stays: the published test is touched least.
PRECEDENCE = ("test", "validation", "train")


@dataclass(frozen=True, slots=True)
class Report:
    """What one data set became. written: rows by split. within, across: copies left out of a split because
    it, or one that goes before it, has the text. conflicts: those of them with another label. repaired:
    bytes that were no UTF-8."""

    written: Mapping[str, int]
    within: Mapping[str, int]
    across: Mapping[str, int]
    conflicts: int
    repaired: int = 0


def data_directory() -> Path:
    """Where the public data sets are: $FINETOOTH_DATA, else ../shared/data beside the checkout."""
    return Path(os.environ.get("FINETOOTH_DATA") or HERE.parents[2] / "shared" / "data")


def decode(content: bytes) -> tuple[str, int]:
    """The text of a file that is UTF-8 but for stray Latin-1 bytes, and how many of those there were."""
    repaired = 0
    while True:
        try:
            return content.decode("utf-8"), repaired
        except UnicodeDecodeError as error:
            bad = content[error.start : error.end]
            content = content[: error.start] + bad.decode("latin-1").encode() + content[error.end :]
            repaired += len(bad)


def words(label: str) -> str:
    """A label as a person would write it: pto_request is "pto request", AddToPlaylist "add to playlist"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", label).lower()


def read_clinc150(folder: Path) -> tuple[dict[str, Rows], int]:
    """The 150 intents of data_small.json with its own splits, without the out-of-scope rows."""
    text, repaired = decode((folder / "data_small.json").read_bytes())
    published = json.loads(text)
    names = {"train": "train", "validation": "val", "test": "test"}
    splits = {
        split: [(text, words(label)) for text, label in published[name]] for split, name in names.items()
    }
    return splits, repaired


def read_sms_spam(folder: Path) -> tuple[dict[str, Rows], int]:
    """One file; finetooth splits it."""
    text, repaired = decode((folder / "SMSSpamCollection").read_bytes())
    pairs = [line.split("\t", 1) for line in text.split("\n") if line]
    return {"train": [(message, label) for label, message in pairs]}, repaired


def read_snips(folder: Path) -> tuple[dict[str, Rows], int]:
    """Every intent's full training file, and its published validation file as the test."""
    splits: dict[str, Rows] = {"train": [], "test": []}
    total = 0
    for intent in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        for split, name in (("train", f"train_{intent}_full.json"), ("test", f"validate_{intent}.json")):
            text, repaired = decode((folder / intent / name).read_bytes())
            total += repaired
            for entry in json.loads(text)[intent]:
                sentence = "".join(part["text"] for part in entry["data"])
                splits[split].append((" ".join(sentence.split()), words(intent)))
    return splits, total


READERS: dict[str, Callable[[Path], tuple[dict[str, Rows], int]]] = {
    "clinc150": read_clinc150,
    "sms_spam": read_sms_spam,
    "snips": read_snips,
}


def without_copies(splits: Mapping[str, Rows]) -> tuple[dict[str, Rows], Report]:
    """The splits with every normalised text once, and the report of what was left out."""
    first: dict[str, tuple[str, str]] = {}  # normalised text -> (split, label) of the row that stays
    kept: dict[str, Rows] = {split: [] for split in splits}
    within = dict.fromkeys(splits, 0)
    across = dict.fromkeys(splits, 0)
    conflicts = 0
    for split in (name for name in PRECEDENCE if name in splits):
        for text, label in splits[split]:
            where, known = first.setdefault(normalise(text), (split, ""))
            if not known:
                first[normalise(text)] = (split, label)
                kept[split].append((text, label))
                continue
            within[split] += where == split
            across[split] += where != split
            conflicts += known != label
    written = {split: len(rows) for split, rows in kept.items()}
    return kept, Report(written, within, across, conflicts)


def convert(name: str, source: Path, out: Path) -> Report:
    """Write out/NAME/{train,validation,test}.jsonl of one data set, as far as it has these splits."""
    splits, repaired = READERS[name](source / name)
    kept, report = without_copies(splits)
    for split, rows in kept.items():
        write_jsonl(out / name / f"{split}.jsonl", ({"text": text, "label": label} for text, label in rows))
    return Report(report.written, report.within, report.across, report.conflicts, repaired)


def describe(name: str, report: Report) -> Iterator[str]:
    """The lines printed for one data set."""
    for split, count in report.written.items():
        yield (
            f"{name} {split}: {count} rows; left out {report.within[split]} copies within it, "
            f"{report.across[split]} of a split that goes before it"
        )
    yield f"{name}: {report.conflicts} of the copies had another label; {report.repaired} bytes repaired"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(READERS)}; default: all")
    parser.add_argument("--out", type=Path, default=HERE / "data")
    options = parser.parse_args()
    source = data_directory()
    unknown = sorted(set(options.names) - set(READERS))
    if unknown:
        parser.error(f"unknown data set {unknown[0]}; there are {', '.join(READERS)}")
    if not source.is_dir():
        parser.error(f"{source}: no such folder. Set FINETOOTH_DATA to the folder of the data sets.")
    for name in options.names or READERS:
        print("\n".join(describe(name, convert(name, source, options.out))))


if __name__ == "__main__":
    main()
