"""The rules, and two rewards: for the string that the rule gives, and for each of its signs in its place."""

from collections.abc import Callable, Sequence

from finetooth import Example

RULES: dict[str, Callable[[list[str]], Sequence[str]]] = {
    "reverse": lambda signs: signs[::-1],
    "say twice": lambda signs: signs * 2,
    "keep digits": lambda signs: [sign for sign in signs if sign.isdigit()],
    "drop vowels": lambda signs: [sign for sign in signs if sign not in "aeiou"],
    "loud vowels": lambda signs: [sign.upper() if sign in "aeiou" else sign for sign in signs],
}


def follows(example: Example, text: str) -> bool:
    """Whether the answer is what the rule makes of the signs."""
    return text.split() == wanted(example)


def near(example: Example, text: str) -> float:
    """The share of signs that are right and in their place."""
    got, want = text.split(), wanted(example)
    return sum(mine == right for mine, right in zip(got, want, strict=False)) / max(len(got), len(want))


def wanted(example: Example) -> list[str]:
    """What the rule makes of the signs."""
    rule, _, signs = example.context[-1].content.partition(": ")
    return list(RULES[rule](signs.split()))
