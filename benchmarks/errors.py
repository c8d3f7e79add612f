"""What `finetooth errors` costs on many answers: python benchmarks/errors.py --rows 20000

Makes two runs of generated rows (benchmarks/data_gate.py has the generator): labels, of which the model takes
some for others, and free answers with loops, wrong numbers and other errors in a tenth of them. A child
process analyses each: seconds, seconds of processors, and its peak resident memory.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE)]

from data_gate import Writer, measured  # noqa: E402

from finetooth.data.examples import to_json  # noqa: E402
from finetooth.rundir import write_json, write_jsonl, write_text  # noqa: E402
from finetooth.types import Answer, Example, Message  # noqa: E402

WRONG, TRAIN = 0.1, 5_000
GRADERS = {"labels": "label", "qa": "chrf"}
CONFIG = """\
name: made-up
model: milktooth
data: {{train: rows.jsonl, format: {kind}}}
evaluate: {{grader: {grader}}}
"""


def examples(writer: Writer, kind: str, name: str, count: int) -> list[Example]:
    """Rows of a kind as a run has them."""
    found = []
    for number, row in enumerate(writer.rows(kind, count)):
        asked, answer = row.values()
        tags = {"file": f"{name}.jsonl", "line": number + 1}
        tags |= {"label": answer} if kind == "labels" else {}
        found.append(Example(f"{name}-{number}", (Message("user", asked),), (Answer(answer),), tags))
    return found


def records(rows: list[Example], kind: str, labels: list[str]) -> Iterator[Mapping[str, Any]]:
    """The tuned model's answers, some of them wrong."""
    draw = random.Random(5)
    for row in rows:
        want, wrong = row.target, draw.random() < WRONG
        text = want
        if wrong and kind == "labels":
            text = labels[(labels.index(want) + draw.choice((1, 1, 2))) % len(labels)]
        elif wrong:
            text = draw.choice(
                (f"{want} {want[:40]}" * 4, want[: len(want) // 5], f"{want} See 417 and 902.")
            )
        line = {"id": row.id, "candidate": "tuned", "text": text, "error": None, "reason": "", "stop": "stop",
                "got": text, "want": want, "score": 0.0 if wrong else 1.0, "prompt_tokens": 90,
                "completion_tokens": 60}  # fmt: skip
        yield line if kind == "labels" else {**line, "lenient": line["score"]}


def make(folder: Path, kind: str, count: int) -> Path:
    """A run directory with so many answered validation rows."""
    writer = Writer(3)
    train, rows = (examples(writer, kind, *one) for one in (("train", TRAIN), ("validation", count)))
    labels = sorted({row.target for row in train}) if kind == "labels" else []
    write_text(folder / "config.yaml", CONFIG.format(kind=kind, grader=GRADERS[kind]))
    write_json(folder / "environment.json", {"versions": {"finetooth": "0"}})
    write_jsonl(folder / "data" / "train.jsonl", map(to_json, train))
    write_jsonl(folder / "data" / "validation.jsonl", map(to_json, rows))
    write_json(folder / "data" / "split.json", {"labels": labels, "format": kind, "train": TRAIN})
    answers = folder / "evaluate" / "validation"
    write_jsonl(answers / "records.jsonl", records(rows, kind, labels))
    write_json(
        answers / "summary.json",
        {"n": count, "grader": GRADERS[kind], "split": "validation", "candidates": []},
    )
    return folder


def main() -> None:
    """Make the runs, analyse them, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="answers, default %(default)s")
    given = parser.parse_args()
    for kind in GRADERS:
        with tempfile.TemporaryDirectory() as place:
            run = make(Path(place) / kind, kind, given.rows)
            status, *took = measured(
                [sys.executable, "-m", "finetooth", "errors", str(run), "--quiet"], still=True
            )
            page = (run / "errors" / "errors.html").stat().st_size / 1e6
            print(
                f"{kind:8}{given.rows:8,} answers: exit {status}, {took[0]:6.1f} s ({took[1]:.1f} s of "
                f"processors), {took[2]:.2f} GiB at most, page {page:.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
