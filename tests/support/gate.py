"""Which values of a parametrised test the gate tries; `make test-all` tries every one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def gate(values: Iterable[Any], chosen: Callable[[Any], bool] | Iterable[Any]) -> list[Any]:
    """These values as the parameters of a test; those that are not `chosen` have the marker `full`.

    Raises ValueError where nothing is chosen, or something that is no value: the gate would try less than
    it says.
    """
    values, chosen = list(values), chosen if callable(chosen) else list(chosen)
    wanted = chosen if callable(chosen) else chosen.__contains__
    missing = [] if callable(chosen) else [value for value in chosen if value not in values]
    if missing or not any(map(wanted, values)):
        raise ValueError(f"of {values} the gate tries {missing or 'nothing'}")
    return [pytest.param(value, marks=() if wanted(value) else pytest.mark.full) for value in values]
