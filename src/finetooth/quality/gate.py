"""All rules of the data gate in one list, and what they found in order of weight.

To add a rule: a function (View) -> findings in a module here, a line in RULES, and one in docs/guide.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from finetooth.errors import ConfigError
from finetooth.privacy.masking import redact, redact_json
from finetooth.quality.findings import SEVERITIES, Finding, Rule, View
from finetooth.quality.rules.answer_rates import answer_rates
from finetooth.quality.rules.duplicates import conflicting_answers, duplicates, near_duplicates
from finetooth.quality.rules.label_errors import label_errors
from finetooth.quality.rules.labels import (
    answer_not_in_set,
    label_imbalance,
    label_spelling,
    labels_are_unique,
    one_label,
    rare_label,
    unseen_label,
)
from finetooth.quality.rules.language import language_mix
from finetooth.quality.rules.leaks import leaks, possible_leaks
from finetooth.quality.rules.personal_data import personal_data, secrets
from finetooth.quality.rules.shortcuts import (
    copied_answer,
    first_token_shortcut,
    label_in_text,
    length_shortcut,
)
from finetooth.quality.rules.text import control_characters, empty_answer, encoding, html, trivial_question

RULES: tuple[Rule, ...] = (
    leaks,
    possible_leaks,
    one_label,
    labels_are_unique,
    empty_answer,
    conflicting_answers,
    duplicates,
    near_duplicates,
    label_errors,
    label_spelling,
    answer_not_in_set,
    unseen_label,
    rare_label,
    label_imbalance,
    length_shortcut,
    first_token_shortcut,
    label_in_text,
    copied_answer,
    secrets,
    personal_data,
    encoding,
    control_characters,
    html,
    trivial_question,
    language_mix,
    answer_rates,
)

# What --allow may name: blocks that are a judgement. broken-rows is found while reading.
BLOCKS = ("leak", "one-label", "labels-are-unique", "broken-rows")
# Blocks that no word can lift, and what lifts them.
HARD = {
    "empty-side": "every side needs a row",
    "grader": "name another with evaluate.grader",
    "overlong": "say data.overlong: cut or drop",
    "not-rendered": "take these rows out, or give a template that can write them",
    "token-without-embedding": "use the model's own tokenizer and template",
}


def inspect(view: View) -> list[Finding]:
    """What every rule found, blocks first, otherwise in the order of RULES.

    Personal data and secrets are veiled in what is said, as Hit.of does in the evidence of every rule.
    """
    found: list[Finding] = []
    for number, rule in enumerate(RULES):
        view.progress(number, len(RULES))
        found += map(redacted, rule(view))
    view.progress(len(RULES), len(RULES))
    return ordered(found)


def redacted(finding: Finding) -> Finding:
    """The finding with personal data and secrets veiled in what it says and in its facts."""
    return replace(finding, summary=redact(finding.summary), facts=redact_json(finding.facts))


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Blocks first, then what wants a review; otherwise as they come."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def require_known(allowed: Sequence[str]) -> None:
    """ConfigError for a rule that cannot block, so that a slip of the pen allows nothing."""
    for rule in allowed:
        if rule in HARD:
            raise ConfigError(
                f"data.allow: {rule!r} cannot be allowed, as training would stop there; {HARD[rule]}."
            )
        if rule not in BLOCKS:
            near = difflib.get_close_matches(rule, BLOCKS, 1)
            hint = f"did you mean {near[0]}?" if near else f"those are {', '.join(sorted(BLOCKS))}."
            raise ConfigError(f"data.allow: {rule!r} is no rule that blocks; {hint}")
