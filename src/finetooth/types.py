"""Value types that all layers share: small frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

AnswerRole = Literal["target", "chosen", "rejected", "option", "reference"]
StopReason = Literal["stop", "string", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is system, user, assistant or tool.

    weight: loss weight of an assistant turn; 0 makes it context only. more: further fields that a chat
    template may read: tool_calls, tool_call_id, name, reasoning_content.
    """

    role: str
    content: str
    weight: float = 1.0
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A continuation of a context and its role. SFT trains on answers with the role `target`.

    weight, more: as in Message.
    """

    text: str
    role: AnswerRole = "target"
    weight: float = 1.0
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the user's data in the form shared by all tasks: a context and its answers.

    `context` is empty for plain text, whose `answers[0]` is the whole document. `tags` holds what is not
    trained on: `label`, `group`, `file`, `line`, and the user's other columns.
    tools: JSON schemas of the functions that the assistant may call, as chat templates expect them.
    """

    id: str
    context: tuple[Message, ...]
    answers: tuple[Answer, ...]
    tags: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()

    @property
    def target(self) -> str:
        """The text of the first target answer, else of the chosen one, else an empty string."""
        texts = {answer.role: answer.text for answer in reversed(self.answers)}
        return texts.get("target", texts.get("chosen", ""))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How `Model.generate` chooses tokens. The same seed gives the same samples, whatever else is generated.

    temperature: 0 is greedy decoding; from 0.0001 on, logits are divided by it before sampling.
    max_tokens: maximum length of an answer, including its stop token. samples: answers per context.
    seed: the random stream is keyed by (seed, context, sample, position).
    top_k: sample from the k most likely tokens; 0 or None: from all. top_p: nucleus sampling, from the
    smallest set of tokens (after top_k) whose probability reaches this share, in (0, 1].
    stop: stop strings; the text is cut before the first one.
    Generation raises DataError for invalid values.
    """

    temperature: float = 0.0
    max_tokens: int = 64
    samples: int = 1
    seed: int = 0
    top_p: float = 1.0
    top_k: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer to one context.

    row: index of the context in the caller's order. tokens: the sampled ids, including the stop token.
    logprobs: one per token, in nats, at the sampling temperature, before top_k and top_p. text: decoded
    without the stop token, and cut before a stop string. stop: `stop` if a stop token ended it, `string` if a
    stop string did, `length` if max_tokens was reached. sample: index among the samples.
    """

    row: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    stop: StopReason
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer; joined, the pieces of an answer are its completion's text.

    row, sample: as in Completion. completion: the whole answer on its last piece, else None.
    """

    row: int
    text: str
    sample: int = 0
    completion: Completion | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A grader's result for one answer: a value in [0, 1], or None with an error.

    A crash of the grader is an `error`, never a value. `got` and `want` are the two sides of the comparison.
    """

    value: float | None
    reason: str = ""
    got: str = ""
    want: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One graded answer of one candidate: a line of records.jsonl, whose keys these are.

    also: score, error and reason of each further grader. lenient: the score when form is forgiven, of an
    answer that the model wrote; None of a chosen label. confidence: the calibrated one in a label that the
    tuned model chose.
    """

    id: str
    candidate: str
    text: str
    score: float | None
    error: str | None
    reason: str
    got: str
    want: str
    prompt_tokens: int
    completion_tokens: int
    stop: str
    also: Mapping[str, Any] = field(default_factory=dict)
    lenient: float | None = None
    confidence: float | None = None
