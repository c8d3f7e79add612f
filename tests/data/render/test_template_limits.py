"""Templates that would take all time or memory: refused in seconds, and only these."""

from __future__ import annotations

import threading
import time
import tracemalloc
from datetime import datetime

import pytest

from finetooth.data.render import limits
from finetooth.data.render.chat_template import ChatTemplate
from finetooth.data.render.limits import TemplateLimit
from finetooth.errors import DataError
from finetooth.types import Message

# A list that holds one list often is small in memory and endless as text.
NESTED = "{% set x = [0] * 99 %}" + "{% set x = [x] * 99 %}" * 3
QUESTION = [Message("user", "Which way?")]


def render(source: str) -> str:
    return ChatTemplate(source, {}, "t.jinja", datetime.now).render(QUESTION, True)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    monkeypatch.setattr(limits, "MEMORY", 1 << 28)


ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = range(99999) | sum %}{% endfor %}",
]
LARGE = [
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% set n = namespace(x='a' * 9**7) %}{% for i in range(9) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='a' * 9**7) %}{% for i in range(9) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    NESTED + "{{ x | string | length }}",
    "{{ range(99999) | map('string') | map('center', 9999) | list | length }}",
]


@pytest.mark.parametrize("source", [*ENDLESS, *(pytest.param(one, marks=pytest.mark.slow) for one in LARGE)])
def test_time_and_memory_are_limited(source: str, quick: None) -> None:
    start = time.process_time()
    with pytest.raises(TemplateLimit, match=r"t\.jinja: took more than") as error:
        render(source)
    assert "\n" not in str(error.value) and time.process_time() - start < 15


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' | center(10 ** 10) }}",
        "{{ 'a'.center(10 ** 10) }}",
        "{{ 'a'.ljust(10 ** 10) }}",
        "{{ 'a'.zfill(10 ** 10) }}",
        "{{ 'a\tb'.expandtabs(10 ** 10) }}",
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
        "{{ ('a' * 1000000).join(['x'] * 1000000) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (10 ** 10, 1) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ 'a\nb' | indent(10 ** 10) }}",
        "{{ messages | tojson(indent=10 ** 10) }}",
        "{{ lipsum(n=10 ** 10) }}",
        "{{ [1] * 10 ** 10 }}",
        "{{ range(10 ** 10) }}",
        "{% for i in range(99999) recursive %}{{ loop(range(99999)) if i < 2 }}{% endfor %}",
        NESTED + "{{ x | tojson }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set ns = namespace(x=9) %}{% for i in range(99999) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    ],
)  # fmt: skip
def test_a_step_that_is_too_large_is_not_taken(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"t\.jinja: cannot render this conversation"):
            render(source)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "source", ["{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{% if 1 %}" * 5000 + "{% endif %}" * 5000]
)
def test_a_text_that_is_nested_too_deeply_is_no_template(source: str) -> None:
    with pytest.raises(DataError, match=r"t\.jinja"):
        render(source)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'a' | center(5) }}|{{ 'b'.ljust(2) }}|{{ '%02d' % 7 }}{{ '%s' | format(1) }}", "  a  |b |071"),
        ("{{ 'a-b' | replace('-', '+') }}{{ ', '.join(['x', 'y']) }}{{ 7 % 4 * 2 }}", "a+bx, y6"),
        ("{{ 'aaa' | replace('a', 'b', 2) }}{{ 'aaa'.replace('a', 'c', 1) }}", "bbacaa"),
        ("{{ 'x\ny' | indent(2) }}{{ '{:>4}'.format(1) }}{{ [1] | tojson(indent=1) }}", "x\n  y   1[\n 1\n]"),
    ],
)  # fmt: skip
def test_ordinary_steps_are_as_they_were(source: str, text: str) -> None:
    assert render(source) == text


def test_many_slow_renderings_are_no_endless_one(quick: None) -> None:
    template = ChatTemplate("{% for i in range(99999) %}{% endfor %}ok", {}, "The template", datetime.now)
    start = time.process_time()
    while time.process_time() - start < 1.0:
        assert template.render(QUESTION, True) == "ok"


def test_other_threads_render_without_the_limit_of_time() -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(render("{{ messages[0].content }}")))
    thread.start()
    thread.join()
    assert found == ["Which way?"]
