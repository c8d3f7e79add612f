"""What changed between two versions of the same rows, by what the rows say: added, edited, removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, process

from finetooth.data.examples import content, normalised_context, source_location
from finetooth.types import Example

ALIKE = 80  # least similarity, of 100, of a row's text before and after an edit
MOST_COMPARED = 4_000_000  # pairs of texts; beyond, a row with another text is a new one


@dataclass(frozen=True, slots=True)
class RowChanges:
    """The rows of a new version that an old one does not have, and the reverse. edited: (old, new)."""

    added: list[Example]
    edited: list[tuple[Example, Example]]
    removed: list[Example]

    def words(self) -> str:
        """A sentence with the counts, and the place of the first edited or added row."""
        counts = (("added", len(self.added)), ("edited", len(self.edited)), ("removed", len(self.removed)))
        parts = [f"{count:,} {word}" for word, count in counts if count]
        if not parts:
            return "Its rows say the same as before; only their order, or columns that are not read, differ."
        parts[0] = parts[0].replace(" ", f" {'row' if parts[0].startswith('1 ') else 'rows'} ", 1)
        first = [source_location(new) for _, new in self.edited[:1]] or [
            *map(source_location, self.added[:1])
        ]
        return f"{', '.join(parts)}{f'; the first: {first[0]}' if first else ''}."


def compare_rows(old: Sequence[Example], new: Sequence[Example]) -> RowChanges:
    """What became of `old` in `new`. Order, ids and tags do not count; each copy of a row does.

    A row is edited if one with its id, its prompt or nearly its text is gone. The id counts only where the
    file has ids: those of finetooth follow from the content.
    """
    gone, come = list(old), list(new)
    _paired(gone, come, content)
    edited = [pair for key in (lambda row: row.id, normalised_context) for pair in _paired(gone, come, key)]
    if 0 < len(gone) * len(come) <= MOST_COMPARED:
        texts = [_text(row) for row in come]
        used: set[int] = set()
        for row in list(gone):
            left = {index: text for index, text in enumerate(texts) if index not in used}
            best = process.extractOne(_text(row), left, scorer=fuzz.ratio, score_cutoff=ALIKE)
            if best is not None:
                used.add(best[2])
                edited.append((row, come[best[2]]))
                gone.remove(row)
        come = [row for index, row in enumerate(come) if index not in used]
    return RowChanges(come, edited, gone)


def _paired(
    gone: list[Example], come: list[Example], key: Callable[[Example], Hashable]
) -> list[tuple[Example, Example]]:
    """Pairs of rows with the same key, each row once; they are taken out of both lists."""
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for index, row in enumerate(come):
        waiting[key(row)].append(index)
    pairs, used, left = [], set(), []
    for row in gone:
        indices = waiting.get(key(row))
        if not indices:
            left.append(row)
            continue
        used.add(indices[0])
        pairs.append((row, come[indices.pop(0)]))
    gone[:] = left
    come[:] = [row for index, row in enumerate(come) if index not in used]
    return pairs


def _text(example: Example) -> str:
    return "\n".join([*(message.content for message in example.context), example.target])
