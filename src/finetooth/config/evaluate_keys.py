"""Keys of the evaluate section (task.py): how answers are produced, graded and judged."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from finetooth.config.method_keys import Number, Positive
from finetooth.config.values import one_or_more, yaml_number

Auto = Literal["auto"]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Grader = str | dict[str, Any]  # a name, or a mapping with the name and its options
PRICES, RETENTION = ("price_in", "price_out"), ("retention", "retention_margin")  # decide no answer
ROBUSTNESS = ("perturbations", "general")  # nor do these
Perturbation = Literal[
    "typos", "case", "punctuation", "contractions", "whitespace", "names", "numbers",
    "addition", "out-of-scope",
]  # fmt: skip
GRADER_SECONDS = 20.0  # also what graders of no task get


def _no_duplicates(shots: list[int]) -> list[int]:
    repeated = sorted({count for count in shots if shots.count(count) > 1})
    if repeated:
        raise ValueError(f"{repeated[0]} is given twice; list each number of examples once")
    return shots


def _temperature(value: float) -> float:
    if value != 0 and not 1e-4 <= value < math.inf:
        raise ValueError("expected 0 (greedy decoding) or a number of at least 0.0001")
    return value


class EvaluateKeys(BaseModel):
    """How answers are produced and graded."""

    grader: Grader | list[Grader] = Field(
        "auto",
        description="Grader of the answers: auto, exact, label, labels, number, contains, json, f1, rouge, "
        "rouge1, rouge2, bleu, chrf, preference, perplexity, file.py:function or package.module:function; "
        "with options: {name: number, tolerance: 0.01}, {name: json, schema: FILE}, {name: exact, strict: "
        "true} or {name: regex, pattern: ...}. Several form a list, the first of which is primary.",
    )
    shots: Annotated[
        list[Annotated[int, Field(ge=0, le=10_000)]],
        BeforeValidator(one_or_more),
        AfterValidator(_no_duplicates),
    ] = Field(
        default_factory=lambda: [0, 4],
        description="Few-shot prompting baselines of the base model: numbers of examples in the prompt, 0 "
        "for zero-shot.",
    )
    prompt: str | None = Field(
        None,
        description="Prompt file, as `finetooth baseline` writes it: the candidate `prompt` beside the other "
        "prompting baselines, and `tuned+prompt`, the tuned model under it.",
    )
    ladder: Auto | bool = Field(
        "auto",
        description="Whether `run` also searches for the best prompt of the base, as `finetooth baseline` "
        "does; it is then the candidate `prompt`. auto: where the base has 50 million weights or more, and "
        "search and prompt compute at most a third of what training does.",
    )
    price_in: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="Price of a million prompt tokens, in any currency; shown as the cost of answers."
    )
    price_out: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="Price of a million generated tokens, in the same currency."
    )
    free: bool = Field(
        False,
        description="Label tasks: also grade answers that the tuned model generates freely, as from a server "
        "that does not hold it to the labels. The verdict stays on the constrained ones.",
    )
    retention: Literal["auto", "checkpoints"] | bool = Field(
        "auto",
        description="Whether `run` also measures what general ability the tuned model kept, on a panel of "
        "questions and prose that comes with finetooth; auto: where the base has 50 million weights or more; "
        "checkpoints: also at every validation of the training.",
    )
    retention_margin: Share = Field(
        0.1, description="Tolerated loss of the probability of right answers on that panel."
    )
    general: Annotated[list[str], BeforeValidator(one_or_more)] = Field(
        default_factory=list,
        description="Files of other tasks: `run` also asks base and tuned model up to 200 rows of each, with "
        "its own instruction and grader. Whether the tuned model kept it is judged by retention_margin.",
    )
    perturbations: Annotated[bool | list[Perturbation], BeforeValidator(one_or_more)] = Field(
        False,
        description="Whether `run` also asks the tuned model and the best prompt perturbed validation rows: "
        "which kinds, or all (true). Every kind costs about as much as another evaluation.",
    )
    max_tokens: Auto | Count = Field(
        "auto", description="Maximum answer length in tokens; auto fits the training answers."
    )
    temperature: Annotated[float, BeforeValidator(yaml_number), AfterValidator(_temperature)] = Field(
        0.0, description="Sampling temperature; 0 is greedy decoding."
    )
    limit: Count | None = Field(None, description="Maximum number of rows to evaluate in a split.")
    looks: Count = Field(
        1,
        description="How many looks at the sealed test may prove an improvement, by all runs together; each "
        "is tested at .05 / looks. Declared before the first look, which records it.",
    )
    margin: Annotated[float, BeforeValidator(yaml_number), Field(gt=0, lt=1)] | None = Field(
        None,
        description="Non-inferiority margin, a share (0.02 is 2 points): the result then says whether the "
        "tuned model is shown to be less than this worse than every prompt, and than `start`.",
    )
    cost_wrong: Annotated[Number, Field(ge=0)] | None = Field(
        None,
        description="Label tasks: what a wrong answer costs, in the unit of cost_handover. With both, the "
        "confidence below which a row is handed over is chosen on the validation rows.",
    )
    cost_handover: Annotated[Number, Field(ge=0)] | None = Field(
        None,
        description="Label tasks: what it costs to hand a row over to a person. `predict` and `chat` then "
        "answer unsure below the threshold.",
    )
    grader_seconds: Positive = Field(
        GRADER_SECONDS,
        description="Maximum time in seconds that a custom grader or reward, a regular expression or a JSON "
        "Schema may take for one answer; a longer one ends the command.",
    )

    @model_validator(mode="after")
    def _both_costs(self) -> Self:
        if (self.cost_wrong is None) != (self.cost_handover is None):
            raise ValueError("cost_wrong and cost_handover belong together: expected both or neither")
        return self
