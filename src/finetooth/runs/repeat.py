"""The A/A flip rate: answers that change when the same model is asked the same rows once more.

The rows come in another order and beside other rows. Where arithmetic depends on the batch, as it may on a
GPU, some answers change with it, and as many of the rows that a comparison calls fixed or broken are chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from finetooth.evaluation import graders
from finetooth.evaluation.prompts import Prompt
from finetooth.evaluation.summary import TUNED
from finetooth.runs.asking import candidate, primary_grader
from finetooth.runs.context import RunContext
from finetooth.types import Example, Record

MOST = 32  # rows that are asked again


def asked_again(
    context: RunContext, rows: Sequence[Example], records: Iterable[Record]
) -> dict[str, int] | None:
    """{rows, changed}: how many rows the tuned model was asked again, and how many answers changed.

    records: of the same rows. None for graders of likelihoods, for which nothing is answered.
    """
    grader = primary_grader(context)
    if grader in (graders.PERPLEXITY, graders.PREFERENCE):
        return None
    text_of = {record.id: record.text for record in records if record.candidate == TUNED}
    chosen = [row for row in rows if row.id in text_of][::2][:MOST][::-1]
    asked = candidate(context, grader, context.tuned(), Prompt(TUNED))
    changed = sum(text_of[chosen[one.index].id] != one.text for one in asked.predict(chosen))
    return {"rows": len(chosen), "changed": changed}
