"""The data gate: the list of all rules, and their findings ordered by severity.

To add a rule, write a function (View) -> findings in quality/rules and add it to RULES and docs/guide.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from finetooth.errors import ConfigError
from finetooth.privacy.masking import redact, redact_json
from finetooth.quality.findings import SEVERITIES, Finding, Rule, View
from finetooth.quality.rules.added_leaks import added_leaks
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
from finetooth.quality.rules.several_labels import several_labels
from finetooth.quality.rules.shortcuts import (
    copied_answer,
    first_token_shortcut,
    label_in_text,
    length_shortcut,
)
from finetooth.quality.rules.text import control_characters, empty_answer, encoding, html, trivial_question
from finetooth.quality.rules.unseen import pairs_alike, unseen_in_label

RULES: tuple[Rule, ...] = (
    leaks,
    possible_leaks,
    added_leaks,
    one_label,
    labels_are_unique,
    empty_answer,
    conflicting_answers,
    duplicates,
    near_duplicates,
    label_errors,
    label_spelling,
    unseen_in_label,
    pairs_alike,
    answer_not_in_set,
    unseen_label,
    rare_label,
    label_imbalance,
    several_labels,
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

# Blocking rules that --allow can override. broken-rows is found while reading.
BLOCKS = ("leak", "one-label", "labels-are-unique", "broken-rows")
# Blocking rules that cannot be overridden, and what to do instead.
HARD = {
    "added-leak": "remove these rows from the change set",
    "empty-side": "every side needs a row",
    "grader": "choose another one with evaluate.grader",
    "overlong": "set data.overlong: cut or drop",
    "not-rendered": "remove these rows, or choose a template that can render them",
    "token-without-embedding": "use the model's own tokenizer and template",
}


def inspect(view: View) -> list[Finding]:
    """The findings of all rules, blocking ones first, otherwise in the order of RULES.

    Personal data and secrets are redacted in summaries and facts, as Hit.of does in evidence.
    """
    found: list[Finding] = []
    for number, rule in enumerate(RULES):
        view.progress(number, len(RULES))
        found += map(redacted, rule(view))
    view.progress(len(RULES), len(RULES))
    return ordered(found)


def redacted(finding: Finding) -> Finding:
    """The finding with personal data and secrets redacted in its summary and facts."""
    return replace(finding, summary=redact(finding.summary), facts=redact_json(finding.facts))


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by severity: block, review, info; otherwise in the given order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def require_known(allowed: Sequence[str]) -> None:
    """Raises ConfigError for a rule that --allow cannot override, so that a typo is not ignored."""
    for rule in allowed:
        if rule in HARD:
            raise ConfigError(
                f"data.allow: {rule!r} cannot be allowed, as training would stop there; {HARD[rule]}."
            )
        if rule not in BLOCKS:
            near = difflib.get_close_matches(rule, BLOCKS, 1)
            hint = (
                f"did you mean {near[0]}?" if near else f"the blocking rules are {', '.join(sorted(BLOCKS))}."
            )
            raise ConfigError(f"data.allow: {rule!r} is not a blocking rule; {hint}")
