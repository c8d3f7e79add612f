"""Answers to rows that nobody has answered yet, and the log of them from which a killed `predict` goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from finetooth.data.formats.questions import Question
from finetooth.errors import ConfigError, DataError, GradeError
from finetooth.evaluation.answer_text import strip_reasoning
from finetooth.evaluation.candidates import Context, Prediction
from finetooth.rundir import read_jsonl
from finetooth.runs.asking import Asking
from finetooth.runs.confidence import DIGITS, UNSURE

CHUNK = 1024  # rows whose prompts are in memory together; what they share is computed once


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """The answer to one row. confidence: of a chosen label. error: why there is no answer, or only a part."""

    answer: str | None = None
    confidence: float | None = None
    error: str | None = None

    def cells(self, threshold: float | None) -> tuple[str | None, float | None, str | None]:
        """Answer, confidence and error for a table; the answer is `unsure` below the threshold."""
        low = threshold is not None and self.confidence is not None and self.confidence < threshold
        return UNSURE if low else self.answer, self.confidence, self.error


def answer_rows(asking: Asking, questions: Sequence[Question]) -> Iterator[tuple[int, RowAnswer]]:
    """The place and the answer of each row, in any order. Rows with the same prompt are asked once."""
    for start in range(0, len(questions), CHUNK):
        contexts: list[Context] = []
        places: dict[bytes, list[int]] = {}
        for question in questions[start : start + CHUNK]:
            try:
                context = _context(asking, question)
            except (DataError, GradeError) as error:
                yield question.place, RowAnswer(error=str(error))
                continue
            key = context[1].tokens.tobytes()
            if key not in places:
                contexts.append(context)
            places.setdefault(key, []).append(question.place)
        same = list(places.values())
        for prediction in asking.candidate.answers(contexts, confidence=True):
            found = _row_answer(asking, prediction)
            yield from ((place, found) for place in same[prediction.index])


def _context(asking: Asking, question: Question) -> Context:
    """The prompt of a row. DataError or GradeError says why it cannot be asked."""
    if question.example is None:
        raise DataError(question.reason)
    example = asking.example(question.example)
    if not any(message.content.strip() for message in example.context if message.role != "system"):
        raise DataError(f"nothing is left of the row after data.clean: {', '.join(asking.clean)}")
    try:
        return asking.candidate.context(example)
    except GradeError as error:
        raise GradeError(f"the row {error}") from None


def _row_answer(asking: Asking, prediction: Prediction) -> RowAnswer:
    text = strip_reasoning(prediction.text, asking.candidate.thinking is True)
    confidence = None if prediction.confidence is None else round(prediction.confidence, DIGITS)
    cut = prediction.stop == "length"
    error = f"the answer was cut off after {prediction.completion_tokens} tokens" if cut else None
    return RowAnswer(text, confidence, error)


def identity(asking: Asking, input_digest: str, columns: Mapping[str, str]) -> str:
    """A digest of all that decides the answers: the input, the weights, and how they are asked."""
    candidate = asking.candidate
    parts = {
        "input": input_digest,
        "columns": dict(columns),
        "weights": candidate.model.digest(),
        "template": candidate.renderer.chat_template,
        "sampling": asdict(candidate.sampling),
        "overlong": candidate.overlong,
        "thinking": candidate.thinking,
        "temperature": candidate.temperature,
        "clean": asking.clean,
        "format": asking.format,
        **asking.to_json(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class PredictionLog:
    """The answers so far, one JSON object per line behind the identity of the work, in a file of its own.

    known: the answers of an earlier process that did the same work, by place. A line that a kill has cut is
    removed, and a log of other work is replaced. One process at a time. Raises ConfigError if another works.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.known: dict[int, RowAnswer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(
                f"{path} is being written by another finetooth process. Wait for it, or choose another --out."
            ) from None
        except OSError:  # a file system without locks
            pass
        self._begin(identity)

    def _begin(self, identity: str) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        try:
            first, *lines = read_jsonl(self.path)
            if first == {"work": identity}:
                self.known = {line.pop("place"): RowAnswer(**line) for line in lines}
                return
        except (DataError, ValueError, TypeError, KeyError, AttributeError):
            pass  # no log, or a damaged one: the work begins anew
        self._file.truncate(0)
        self._write({"work": identity})

    def add(self, place: int, answer: RowAnswer) -> None:
        """Append one answer; it is then with the operating system, so that a kill does not lose it."""
        self._write({"place": place, **asdict(answer)})

    def _write(self, line: Mapping[str, object]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()

    def remove(self) -> None:
        """Delete the log, once the answers are elsewhere."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def log_path(out: Path) -> Path:
    """Where the log of an output file is kept while it is made: a hidden file beside it."""
    return out.with_name(f".{out.name}.progress")
