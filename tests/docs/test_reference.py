"""docs/reference.md says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from finetooth.config import keys

ROOT = Path(__file__).resolve().parents[2]


def generator():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_generator_makes() -> None:
    module = generator()
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.render(page), "out of date: python tools/reference.py"


def test_the_generator_would_notice_a_change() -> None:
    module = generator()
    page = module.PAGE.read_text(encoding="utf-8")
    for key, description in keys():
        assert f"| `{key}` |" in page
        assert module.render(page.replace(description, "planted")) == page
