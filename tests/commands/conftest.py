"""Shared by the verbs' tests: which models were asked."""

from __future__ import annotations

from typing import Any

import pytest
from fruit_iterations import fruit as fruit
from fruit_iterations import fruit_runs as fruit_runs

from finetooth.evaluation.candidates import ModelCandidate


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models' candidates that were asked, each once for every call."""
    names: list[str] = []
    real = ModelCandidate.answers

    def answers(self: ModelCandidate, *given: Any, **more: Any) -> Any:
        names.append(self.name)
        return real(self, *given, **more)

    monkeypatch.setattr(ModelCandidate, "answers", answers)
    return names
