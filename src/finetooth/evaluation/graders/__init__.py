"""Graders: pure functions `(Example, text) -> Score`, at once metric, reward and data filter.

A model's bad answer is wrong: value 0. A grader that crashes says nothing about the model: Score(error),
never a value. named.py gives them their names and options; basic.py says right or wrong, overlap.py how much
of the expected text is there, structured.py reads JSON. trial.py tries them before anything is trained.
"""

from finetooth.evaluation.graders.basic import contains, exact, label, labels, last_number, number
from finetooth.evaluation.graders.named import (
    BUILT_IN,
    PERPLEXITY,
    PREFERENCE,
    Grader,
    GraderSpec,
    corpus_score,
    grader_digest,
    grading_format,
    guard,
    is_custom,
    resolve,
    resolve_all,
    specs,
)
from finetooth.evaluation.graders.overlap import bleu, chrf, f1, rouge1, rouge2, rouge_l
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
    "specs",
    "validate_graders",
]
