"""Rules about tokenized rows: too long, failing to render, or with tokens the model does not know."""

from __future__ import annotations

from collections.abc import Iterator

from finetooth.config.task import DataConfig
from finetooth.config.values import format_count, format_count_of, plural
from finetooth.quality.findings import Finding
from finetooth.quality.survey import Survey

NAMED = 5  # tokens listed in a message


def token_findings(config: DataConfig, tokens: Survey) -> Iterator[Finding]:
    """Findings of a survey. Lost tokens are counted as the trainer counts them (data/overlong)."""
    if tokens.unusable:
        yield Finding(
            "not-rendered",
            "block" if tokens.stopped else "review",
            f"{format_count(len(tokens.unusable), 'row')} cannot be rendered with this model's template "
            f"and {plural(len(tokens.unusable), 'is', 'are')} left out.",
            tuple(tokens.unusable),
            fix="The reason is given with each row. Correct or remove the rows, or choose another "
            "`template`.",
        )
    yield from _overlong(config, tokens)
    if tokens.unembedded:
        listed = ", ".join(map(repr, tokens.unembedded[:NAMED]))
        yield Finding(
            "token-without-embedding",
            "block",
            f"The model has no embedding for {format_count(len(tokens.unembedded), 'token')} in these "
            f"rows: {listed}. {plural(len(tokens.unembedded), 'It was', 'They were')} added to the "
            "tokenizer but not to the model.",
            fix=f"Use a template without {plural(len(tokens.unembedded), 'it', 'them')}, for example "
            "`template: instruction`.",
        )
    if tokens.unknown:
        yield Finding(
            "unknown-token",
            "review",
            f"{format_count(len(tokens.unknown), 'row has', 'rows have')} characters that this model's "
            "tokenizer does not know: the model sees the same unknown token for all of them.",
            tuple(tokens.unknown),
            fix="Use a model that knows them (any with a byte-level vocabulary does), or replace the "
            "characters.",
        )
    if tokens.forged:
        yield Finding(
            "special-token-text",
            "review",
            f"{format_count(len(tokens.forged), 'row has', 'rows have')} the text of a special token, such "
            "as the end of a turn, in a question, system or tool message. It is read as the token, here and "
            "by other servers: such a row can hold turns that nobody took.",
            tuple(tokens.forged),
            fix="Look at the rows. Remove the text, or write it in another way in the file, for example with "
            "a space behind its first character.",
        )


def _overlong(config: DataConfig, tokens: Survey) -> Iterator[Finding]:
    """A block until data.overlong says what to do; then the number of tokens it costs."""
    if not tokens.overlong:
        return
    rows = len(tokens.overlong)
    count = f"{format_count(rows, 'row is', 'rows are')} longer than {tokens.limit:,} tokens"
    lost = format_count_of(tokens.lost, tokens.scored_tokens, "scored token")
    facts = {"rows": len(tokens.overlong), "scored_tokens": tokens.lost, "limit": tokens.limit}
    larger = "or a larger data.max_tokens, if the model allows it"
    if config.overlong == "cut" and tokens.uncuttable:
        summary = (
            f"{format_count(len(tokens.uncuttable), 'row does', 'rows do')} not fit {tokens.limit:,} "
            f"tokens even without {plural(len(tokens.uncuttable), 'its', 'their')} context."
        )
        fix = f"Set data.overlong: drop, {larger}."
        yield Finding("overlong", "block", summary, tuple(tokens.uncuttable), fix, facts=facts)
    elif config.overlong == "cut":
        summary = (
            f"{count}: the oldest part of {plural(rows, 'its', 'their')} context is cut off; "
            "no scored token is lost."
        )
        facts["scored_tokens"] = 0
        yield Finding("overlong", "info", summary, tuple(tokens.overlong), facts=facts)
    elif config.overlong == "drop":
        summary = f"{count} and {plural(rows, 'is', 'are')} dropped, with {lost}."
        yield Finding(
            "overlong",
            "review",
            summary,
            tuple(tokens.overlong),
            f"To keep {plural(rows, 'it', 'them')}, use {larger[3:]}.",
            facts=facts,
        )
    else:
        summary = f"{count}. {plural(rows, 'It holds', 'They hold')} {lost}."
        fix = f"Set data.overlong: cut (shortens contexts from the left) or drop, {larger}."
        yield Finding("overlong", "block", summary, tuple(tokens.overlong), fix, facts=facts)
