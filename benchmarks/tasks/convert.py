"""Convert the public data sets of the benchmark tasks to rows of `text, label`, `question, answer` or pairs.

    python benchmarks/tasks/convert.py [clinc150] [sms_spam] [dolly_flan_6400] ... (default: all)

reads $FINETOOTH_DATA (default: ../shared/data beside the checkout) and writes benchmarks/tasks/data/, which
git ignores. A text that occurs twice, by finetooth's own normalisation, is kept once: in the test file
before the validation file before the training file. What was left out is counted in the output.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetooth.data.examples import normalise
from finetooth.rundir import write_jsonl

HERE = Path(__file__).resolve().parent
Rows = list[tuple[str, ...]]  # (text, label) or (prompt, chosen, rejected)
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


def read_trec(folder: Path) -> tuple[dict[str, Rows], int]:
    """Six kinds of questions, numbered in the file, with the published test."""
    kinds = ("description", "entity", "abbreviation", "person", "place", "number")
    splits: dict[str, Rows] = {}
    total = 0
    for split in ("train", "test"):
        text, repaired = decode((folder / f"TREC.{split}.all").read_bytes())
        pairs = [line.split(" ", 1) for line in text.split("\n") if line]
        splits[split] = [(question.strip(), kinds[int(number)]) for number, question in pairs]
        total += repaired
    return splits, total


def read_sst2(folder: Path) -> tuple[dict[str, Rows], int]:
    """Sentences from film reviews, positive or negative, with the published splits."""
    splits: dict[str, Rows] = {}
    total = 0
    for split, name in (("train", "train"), ("validation", "dev"), ("test", "test")):
        text, repaired = decode((folder / f"{name}.tsv").read_bytes())
        pairs = [line.rsplit("\t", 1) for line in text.split("\n") if line]
        splits[split] = [(sentence, ("negative", "positive")[int(label)]) for sentence, label in pairs]
        total += repaired
    return splits, total


def read_ag_news(folder: Path) -> tuple[dict[str, Rows], int]:
    """The published test part alone, title and first sentences; finetooth splits it."""
    text, repaired = decode((folder / "test.csv").read_bytes())
    kinds = ("world", "sports", "business", "technology")
    rows = [
        (f"{title}. {body}", kinds[int(number) - 1]) for number, title, body in csv.reader(io.StringIO(text))
    ]
    return {"train": rows}, repaired


def read_e2e_cleaned(folder: Path) -> tuple[dict[str, Rows], int]:
    """Facts about a restaurant and sentences that tell them, several for the same facts; finetooth splits."""
    text, repaired = decode((folder / "devel-fixed.no-ol.csv").read_bytes())
    return {"train": [(row["mr"], row["ref"]) for row in csv.DictReader(io.StringIO(text))]}, repaired


def read_gsm8k(folder: Path) -> tuple[dict[str, Rows], int]:
    """Word problems and their solutions, without the calculator's marks; the published training part."""
    text, repaired = decode((folder / "train.jsonl").read_bytes())
    rows = [json.loads(line) for line in text.splitlines()]
    return {"train": [(row["question"], re.sub(r"<<.*?>>", "", row["answer"])) for row in rows]}, repaired


def read_wikisql(folder: Path) -> tuple[dict[str, Rows], int]:
    """A part of the questions, with values replaced by var0, var1, ..., and their query in short."""
    sizes = {"train": 5000, "test": 500}
    splits: dict[str, Rows] = {split: [] for split in sizes}
    for query in json.loads(bz2.decompress((folder / "wikisql.json.bz2").read_bytes())):
        sql = query["sql"][0].replace(" FROM TABLE AS TABLEalias0", "").replace("TABLEalias0.", "")
        for sentence in query["sentences"]:
            split = sentence["question-split"]
            if split in sizes and len(splits[split]) < sizes[split]:
                splits[split].append((sentence["text"], sql.removesuffix(" ;").replace("_FIELD", "")))
    return splits, 0


def read_dolly(folder: Path) -> tuple[dict[str, Rows], int]:
    """Instructions, the human's answer as chosen and that of a small model as rejected; finetooth splits.

    Left out are rows in which one of the two is empty, or both are the same.
    """
    text, repaired = decode((folder / "google_flan-t5-small_decode_output.jsonl").read_bytes())
    entries = [json.loads(line) for line in text.splitlines()]
    names = ("instruction", "text", "decoded")
    found: Rows = [tuple(entry[name].strip() for name in names) for entry in entries]
    return {"train": [row for row in found if all(row) and row[1] != row[2]]}, repaired


def read_hh_rlhf(folder: Path) -> tuple[dict[str, Rows], int]:
    """Conversations, and two answers to the last turn; finetooth splits.

    Left out are pairs whose conversations differ before the last turn, and those of equal or empty answers.
    """
    text, repaired = decode(gzip.decompress((folder / "harmless-base" / "test.jsonl.gz").read_bytes()))
    found: Rows = []
    for line in text.splitlines():
        entry = json.loads(line)
        (start, chosen), (other, rejected) = (_turns(entry[name]) for name in ("chosen", "rejected"))
        if start and start == other and chosen and rejected and chosen != rejected:
            found.append((json.dumps(start), chosen, rejected))
    return {"train": found}, repaired


def _turns(talk: str) -> tuple[list[dict[str, str]], str]:
    """A conversation in the form "\\n\\nHuman: ...\\n\\nAssistant: ..." as messages, and its last answer."""
    parts = re.split(r"\n\n(Human|Assistant): ?", talk)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    if not turns or turns[-1]["role"] != "assistant" or not all(turn["content"] for turn in turns):
        return [], ""
    return turns[:-1], turns[-1]["content"]


READERS: dict[str, Callable[[Path], tuple[dict[str, Rows], int]]] = {
    "clinc150": read_clinc150,
    "sms_spam": read_sms_spam,
    "snips": read_snips,
    "trec": read_trec,
    "sst2": read_sst2,
    "ag_news_test": read_ag_news,
    "e2e_cleaned": read_e2e_cleaned,
    "gsm8k": read_gsm8k,
    "wikisql_text2sql": read_wikisql,
    "dolly_flan_6400": read_dolly,
    "hh_rlhf_harmless_test": read_hh_rlhf,
}
QUESTIONS = {"e2e_cleaned", "gsm8k", "wikisql_text2sql"}  # written as question, answer
PAIRS = {"dolly_flan_6400", "hh_rlhf_harmless_test"}  # written as prompt, chosen, rejected
TALKS = {"hh_rlhf_harmless_test"}  # their prompts are conversations, JSON until they are written
SEVERAL = {"e2e_cleaned"}  # the same text has several right answers, all of which stay


def without_copies(splits: Mapping[str, Rows], several: bool = False) -> tuple[dict[str, Rows], Report]:
    """The splits with every normalised text once, and the report of what was left out. several: every pair
    of text and label once.
    """
    first: dict[str, tuple[str, str]] = {}  # normalised text -> (split, label) of the row that stays
    kept: dict[str, Rows] = {split: [] for split in splits}
    within = dict.fromkeys(splits, 0)
    across = dict.fromkeys(splits, 0)
    conflicts = 0
    for split in (name for name in PRECEDENCE if name in splits):
        for row in splits[split]:
            text, label = row[0], "\0".join(row[1:])
            key = normalise(text) + (f"\0{normalise(label)}" if several else "")
            where, known = first.setdefault(key, (split, ""))
            if not known:
                first[key] = (split, label)
                kept[split].append(row)
                continue
            within[split] += where == split
            across[split] += where != split
            conflicts += not several and known != label
    written = {split: len(rows) for split, rows in kept.items()}
    return kept, Report(written, within, across, conflicts)


def convert(name: str, source: Path, out: Path) -> Report:
    """Write out/NAME/{train,validation,test}.jsonl of one data set, as far as it has these splits."""
    splits, repaired = READERS[name](source / name)
    kept, report = without_copies(splits, name in SEVERAL)
    keys: tuple[str, ...] = ("question", "answer") if name in QUESTIONS else ("text", "label")
    keys = ("prompt", "chosen", "rejected") if name in PAIRS else keys
    for split, rows in kept.items():
        records: list[dict[str, Any]] = [dict(zip(keys, row, strict=True)) for row in rows]
        if name in TALKS:
            records = [record | {"prompt": json.loads(record["prompt"])} for record in records]
        write_jsonl(out / name / f"{split}.jsonl", records)
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
