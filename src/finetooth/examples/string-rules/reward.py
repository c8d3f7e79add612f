"""The rules, and the reward: 1 for the exact output of the rule, 0 for anything else."""

from collections.abc import Callable

from finetooth import Example

RULES: dict[str, Callable[[str], str]] = {
    "drop vowels": lambda sign: "" if sign in "aeiou" else sign,
    "keep vowels": lambda sign: sign if sign in "aeiou" else "",
    "drop digits": lambda sign: "" if sign.isdigit() else sign,
    "keep digits": lambda sign: sign if sign.isdigit() else "",
    "loud vowels": lambda sign: sign.upper() if sign in "aeiou" else sign,
    "double digits": lambda sign: f"{sign} {sign}" if sign.isdigit() else sign,
}


def follows(example: Example, text: str) -> bool:
    """Whether the answer is the rule applied to each character in turn."""
    rule, _, signs = example.context[-1].content.partition(": ")
    return text.split() == " ".join(RULES[rule](sign) for sign in signs.split()).split()
