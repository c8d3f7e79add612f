"""The model that writes instructions for an optimiser: the base, or one at an address that the user names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from finetooth.data.render.renderer import Renderer
from finetooth.errors import ConfigError, DataError
from finetooth.evaluation.prompting.copro import Copro
from finetooth.evaluation.prompting.label_scores import Effort
from finetooth.evaluation.prompting.optimizer import Gepa, Optimizer
from finetooth.model.api import Model
from finetooth.privacy.masking import mask
from finetooth.runs import workspace
from finetooth.runs.context import RunContext
from finetooth.types import Example, Message, Sampling

KEY = "FINETOOTH_REFLECTION_KEY"  # of the environment: sent to the address that the user names, nowhere else
TEMPERATURE = 0.7  # the same answers, seen again, get another instruction
TOKENS, LEAST = 512, 32  # of an answer: at most, and for which there must be room
SECONDS = 120  # without a byte from the address
MOST = 1_000_000  # bytes of its answer

Reflect = Callable[[str], str]  # the answer to a prompt


def of_base(context: RunContext, model: Model, effort: Effort) -> Reflect:
    """The base model itself, asked with its template and without the task's instruction.

    effort: gets the tokens. Asking raises ConfigError where the prompt leaves no room for an answer.
    """
    renderer = Renderer(context.base_tokenizer, workspace.template(context.task, context.path))
    model.add_stop(renderer.stop_id)
    seed = 0

    def reflect(prompt: str) -> str:
        nonlocal seed
        seed += 1
        try:
            row = renderer.context_row((Message("user", prompt),), (), None)
        except DataError as error:
            raise ConfigError(f"The base model cannot write instructions: {error}") from error
        if (room := model.max_tokens - len(row)) < LEAST:
            raise ConfigError(
                f"The base model cannot write instructions: it takes {model.max_tokens} tokens, and the "
                f"answers to reflect on have {len(row)}. Name another model: --reflection-url and "
                "--reflection-model."
            )
        with model.eval_mode():
            (answer,) = model.generate([row], Sampling(TEMPERATURE, min(TOKENS, room), seed=seed))
        effort.tokens += len(row) + len(answer.tokens)
        effort.computed += len(row) + len(answer.tokens)
        return answer.text

    return reflect


@dataclass(frozen=True)
class Remote:
    """A model behind an OpenAI-compatible address, such as https://example.com/v1.

    Personal data and secrets are masked before anything is sent. FINETOOTH_REFLECTION_KEY of the environment
    is the bearer token, if it is set. Calling raises ConfigError.
    """

    url: str
    model: str

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ConfigError(
                f"--reflection-url: expected an address such as https://example.com/v1, found {self.url}"
            )

    def __call__(self, prompt: str) -> str:
        """The answer to this prompt, by chat/completions."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": mask(prompt)}],
            "temperature": TEMPERATURE,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        request = Request(address, json.dumps(body).encode(), headers)
        try:
            with build_opener(_NoRedirect).open(request, timeout=SECONDS) as response:
                text = _answer(json.loads(response.read(MOST)))
        except HTTPError as error:
            raise ConfigError(
                f"--reflection-url {self.url}: {self.model} answered HTTP {error.code}."
            ) from None
        except (OSError, HTTPException, ValueError) as error:
            raise ConfigError(f"--reflection-url {self.url}: no answer that can be read ({error}).") from None
        return text


@dataclass(frozen=True)
class Optimizing:
    """An optimiser that is to be built for a search, by its package: gepa or dspy.

    model: that writes instructions; None: the base itself.
    """

    package: str = "gepa"
    model: Remote | None = None

    def build(
        self, context: RunContext, base: Model, effort: Effort, examples: Sequence[Example]
    ) -> Optimizer:
        """The optimiser. effort: gets what the base writes."""
        reflect = self.model or of_base(context, base, effort)
        return Copro(reflect) if self.package == "dspy" else Gepa(examples, reflect, context.task.seed)


class _NoRedirect(HTTPRedirectHandler):
    """Nothing is sent to an address that the user has not named."""

    def redirect_request(self, *given: Any) -> None:
        return None


def _answer(found: Any) -> str:
    """The text of a chat completion. Raises ValueError."""
    try:
        text = found["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise ValueError("it has no choices[0].message.content")
    return text
