"""The nouns that travel between layers: small, frozen, without behaviour beyond what their shape implies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

AnswerRole = Literal["target", "chosen", "rejected", "option", "reference"]
StopReason = Literal["stop", "string", "length"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is system, user, assistant or tool.

    weight: of an assistant's turn in training; 0 is context that is not learned. more: what else a chat
    template may read of a turn, under the field's names: tool_calls, tool_call_id, name, reasoning_content.
    """

    role: str
    content: str
    weight: float = 1.0
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A possible continuation of a context, and what it is for. `target` is what training imitates.

    weight, more: as of a Message.
    """

    text: str
    role: AnswerRole = "target"
    weight: float = 1.0
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the user's data in the one shape that all tasks share: a context and its answers.

    `context` is empty for plain text, whose `answers[0]` is the whole document. `tags` carries what the row
    came with and is not trained on: `label`, `group`, `file`, `line`, and the user's own columns.
    tools: JSON schemas of the functions that the assistant may call, as chat templates take them.
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

    temperature: 0 takes the most likely token; from 0.0001 on, logits are divided by it before sampling.
    max_tokens: the longest answer, its stop token included. samples: answers per context.
    seed: of the random stream, keyed by (seed, context, sample, position).
    top_k: sample among the k most likely tokens; 0 or None: among all. top_p: sample among the fewest most
    likely tokens that hold this share, in (0, 1], of the probability (of what top_k left).
    stop: strings that end an answer: its text is cut before the first of them.
    Raises DataError, when used, for values that cannot be.
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
    """What a model answered to one context.

    row: index of the context in the caller's order. tokens: the sampled ids, the stop token included.
    logprobs: one per token, nats, at the sampling temperature, before top_k and top_p. text: decoded without
    the stop token, and cut before a stop string. stop: `stop` when a stop token ended it, `string` when a
    stop string did, `length` when max_tokens did. sample: index among the samples.
    """

    row: int
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    stop: StopReason
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of an answer that is being written: an answer's pieces, joined, are its completion's text.

    row, sample: as of a Completion. completion: the whole answer, with its last piece; else None.
    """

    row: int
    text: str
    sample: int = 0
    completion: Completion | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What a grader says of one answer: a value in [0, 1], or an error and then no value.

    A crash of the grader is an `error`, never a value. `got` and `want` are what was compared.
    """

    value: float | None
    reason: str = ""
    got: str = ""
    want: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One graded answer of one candidate: a line of records.jsonl (the names are part of the contract).

    also: score, error and reason by each further grader.
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
