"""Where a context ends and its answer starts, in tokens."""

from __future__ import annotations

from finetooth.data.render.tokenizer import Tokenizer
from finetooth.errors import DataError


def continuation(
    tokenizer: Tokenizer, context: str, context_ids: list[int], full: str
) -> tuple[list[int], bool]:
    """The ids that `full` adds to its beginning `context`, and whether a token straddled the two and was cut.

    Raises DataError where the tokenizer joins them inseparably.
    """
    ids = tokenizer.encode(full)
    if ids[: len(context_ids)] == context_ids:
        return ids[len(context_ids) :], False
    ids, offsets = tokenizer.encode_with_offsets(full)
    boundary = len(context)
    # Ends are compared, not starts: byte-level tokenizers leave the leading space out of a token's start.
    first = next(index for index, (_, end) in enumerate(offsets) if end > boundary)
    end = offsets[first][1]
    if first and offsets[first - 1][1] >= boundary:
        added = ids[first:]
    else:
        after = next((index for index, pair in enumerate(offsets) if pair[1] > end), len(ids))
        added = tokenizer.encode(full[boundary:end]) + ids[after:]
    if tokenizer.decode([*context_ids, *added]) != tokenizer.decode(ids):
        raise DataError(
            "the tokenizer joins the end of the context with the start of the answer, inseparably."
        )
    return added, True


def common_prefix_length(one: list[int], two: list[int]) -> int:
    """How many ids two lists have in common at their start."""
    pairs = zip(one, two, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(two)))
