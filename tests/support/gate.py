"""Which values of a parametrised test the gate tries; `make test-all` tries every one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def gate(values: Iterable[Any], chosen: Callable[[Any], bool] | Iterable[Any]) -> list[Any]:
    """These values as the parameters of a test; those that are not `chosen` have the marker `full`."""
    wanted = chosen if callable(chosen) else list(chosen).__contains__
    return [pytest.param(value, marks=() if wanted(value) else pytest.mark.full) for value in values]
