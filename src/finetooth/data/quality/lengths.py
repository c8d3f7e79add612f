"""What the rows are once they are tokens: too long, not to be rendered, of tokens that nothing knows."""

from __future__ import annotations

from collections.abc import Iterator

from finetooth.config import DataConfig
from finetooth.data.quality.findings import Finding
from finetooth.data.survey import Survey

NAMED = 5  # tokens that a sentence names


def in_tokens(config: DataConfig, tokens: Survey) -> Iterator[Finding]:
    """Findings of a survey. Tokens that are lost are counted as the trainer counts them (data/overlong)."""
    yield from _unusable(tokens)
    yield from _overlong(config, tokens)
    if tokens.unembedded:
        listed = ", ".join(map(repr, tokens.unembedded[:NAMED]))
        yield Finding(
            "token-without-embedding",
            "block",
            f"The model has no embedding for {len(tokens.unembedded)} tokens of these rows: {listed}. "
            "They were added to the tokenizer alone.",
            fix="Use a template without them: `template: instruction`.",
        )
    if tokens.unknown:
        yield Finding(
            "unknown-token",
            "review",
            f"{len(tokens.unknown):,} rows have characters that this model's tokenizer does not know: "
            "the model sees one and the same token for each of them.",
            tuple(tokens.unknown),
            fix="Take a model that knows them (any with a byte-level vocabulary does), or rewrite them.",
        )


def _unusable(tokens: Survey) -> Iterator[Finding]:
    if tokens.unusable:
        yield Finding(
            "not-rendered",
            "block" if tokens.stopped else "review",
            f"{len(tokens.unusable):,} rows cannot be written with this model's template and are set aside.",
            tuple(tokens.unusable),
            fix="The reason stands beside each row. Mend or remove them, or choose another `template`.",
        )


def _overlong(config: DataConfig, tokens: Survey) -> Iterator[Finding]:
    """Too long is a block until the user says what to do; what that costs is told afterwards."""
    if not tokens.overlong:
        return
    count = f"{len(tokens.overlong):,} rows are longer than {tokens.limit:,} tokens"
    lost = f"{tokens.lost:,} of {tokens.scored_tokens:,} scored tokens"
    facts = {"rows": len(tokens.overlong), "scored_tokens": tokens.lost, "limit": tokens.limit}
    larger = "or a larger data.max_tokens, if the model allows it"
    if config.overlong == "cut" and tokens.uncuttable:
        says = (
            f"{len(tokens.uncuttable):,} rows do not fit {tokens.limit:,} tokens even without their context."
        )
        fix = f"Set data.overlong: drop, {larger}."
        yield Finding("overlong", "block", says, tuple(tokens.uncuttable), fix, facts=facts)
    elif config.overlong == "cut":
        says = f"{count}: the oldest part of their context is cut away; no scored token is lost."
        facts["scored_tokens"] = 0
        yield Finding("overlong", "info", says, tuple(tokens.overlong), facts=facts)
    elif config.overlong == "drop":
        says = f"{count} and are dropped, with {lost}."
        yield Finding(
            "overlong", "review", says, tuple(tokens.overlong), f"Or take {larger[3:]}.", facts=facts
        )
    else:
        says = f"{count}. They hold {lost}."
        fix = f"Set data.overlong: cut (shortens contexts from the left) or drop, {larger}."
        yield Finding("overlong", "block", says, tuple(tokens.overlong), fix, facts=facts)
