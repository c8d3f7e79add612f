"""Graders: pure functions `(Example, text) -> Score`, used as metric, reward and data filter.

A bad answer scores 0. A grader that crashes is no evidence about the model: Score(error), never a value.
named.py resolves names and options; basic.py grades right or wrong, numbers.py numbers, label_sets.py several
labels, overlap.py overlap with the expected text, structured.py JSON, templated.py graders written as data.
forms.py says which forms of a text are one content. trial.py tests graders before training.
"""

from finetooth.evaluation.graders.basic import contains, exact, label
from finetooth.evaluation.graders.custom import grade_all, guard
from finetooth.evaluation.graders.label_sets import labels
from finetooth.evaluation.graders.named import (
    BUILT_IN,
    PERPLEXITY,
    PREFERENCE,
    GraderSpec,
    corpus_score,
    grader_digest,
    grading_format,
    is_custom,
    resolve,
    resolve_all,
    specs,
    without_options,
)
from finetooth.evaluation.graders.numbers import last_number, number
from finetooth.evaluation.graders.other_forms import settled, shown_forms
from finetooth.evaluation.graders.overlap import bleu, chrf, f1, rouge1, rouge2, rouge_l
from finetooth.evaluation.graders.shared import Grader
from finetooth.evaluation.graders.structured import json_fields
from finetooth.evaluation.graders.trial import validate_graders

__all__ = [
    "BUILT_IN",
    "PERPLEXITY",
    "PREFERENCE",
    "Grader",
    "GraderSpec",
    "bleu",
    "chrf",
    "contains",
    "corpus_score",
    "exact",
    "f1",
    "grade_all",
    "grader_digest",
    "grading_format",
    "guard",
    "is_custom",
    "json_fields",
    "label",
    "labels",
    "last_number",
    "number",
    "resolve",
    "resolve_all",
    "rouge1",
    "rouge2",
    "rouge_l",
    "settled",
    "shown_forms",
    "specs",
    "validate_graders",
    "without_options",
]
