"""Lists of JSON whose order means nothing: those that a schema calls sets, or all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

REFERENCES = 20  # followed from one place to the next


@dataclass(frozen=True, slots=True)
class Lists:
    """Which lists are sets. schema: that of the place; None where none is known. root: the whole schema."""

    schema: Any = None
    ordered: bool = True
    root: Any = None

    @property
    def unordered(self) -> bool:
        """Whether a list at this place is a set."""
        return not self.ordered or bool(self._here().get("uniqueItems") is True)

    def of(self, key: str | int) -> Lists:
        """The same for a field of an object, or for an item of a list."""
        here = self._here()
        inner = here.get("properties") if isinstance(key, str) else here.get("items")
        if isinstance(key, str):
            inner = inner.get(key, here.get("additionalProperties")) if isinstance(inner, Mapping) else None
        return replace(self, schema=inner, root=self.root if self.root is not None else self.schema)

    def _here(self) -> Mapping[str, Any]:
        schema, root = self.schema, self.root if self.root is not None else self.schema
        for _ in range(REFERENCES):
            if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
                break
            place, *steps = schema["$ref"].split("/")
            schema = root if place == "#" else None
            for step in steps:
                schema = schema.get(step) if isinstance(schema, Mapping) else None
        return schema if isinstance(schema, Mapping) else {}


def aligned(got: Any, want: Any, lists: Lists) -> Any:
    """`got` with the items of its sets at the places that equal items have in `want`, the others between."""
    if isinstance(got, dict) and isinstance(want, dict):
        return {key: aligned(inner, want.get(key), lists.of(key)) for key, inner in got.items()}
    if not isinstance(got, list) or not isinstance(want, list):
        return got
    if not lists.unordered:
        pairs = zip(got, [*want, *[None] * len(got)], strict=False)
        return [aligned(one, other, lists.of(at)) for at, (one, other) in enumerate(pairs)]
    left: dict[str, list[Any]] = {}
    for at, one in enumerate(got):
        left.setdefault(_key(one, lists.of(at)), []).append(one)
    placed: list[Any] = []
    free = []
    for at, other in enumerate(want):
        same = left.get(_key(other, lists.of(at)))
        if same:
            same.pop()
            placed.append(other)
        elif len(placed) < len(got):
            placed.append(_FREE)
            free.append(at)
    rest = [one for ones in left.values() for one in ones]
    for at, one in zip(free, rest, strict=False):
        placed[at] = aligned(one, want[at], lists.of(at))
    return [one for one in placed if one is not _FREE] + rest[len(free) :]


_FREE = object()


def _key(value: Any, lists: Lists) -> str:
    """A text that values share when they are equal but for the order of sets."""
    if isinstance(value, dict):
        parts = sorted(f"{json.dumps(key)}: {_key(inner, lists.of(key))}" for key, inner in value.items())
        return f"{{{', '.join(parts)}}}"
    if isinstance(value, list):
        items = [_key(inner, lists.of(at)) for at, inner in enumerate(value)]
        return f"[{', '.join(sorted(items) if lists.unordered else items)}]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)
