"""What other rows say too is not memorised, wherever an answer is cut into halves."""

from types import SimpleNamespace
from typing import Any

from tokenizers_for_tests import byte_level

from finetooth.data.examples import normalised_context
from finetooth.runs.overfitting import _elsewhere
from finetooth.types import Answer, Example, Message


def test_boilerplate_that_is_cut_within_a_character_is_found_elsewhere() -> None:
    same = "您好，感谢您的来信，我们会尽快回复您。"
    rows = [Example(f"{k}", (Message("user", f"question {k}"),), (Answer(same),)) for k in range(2)]
    tokenizer = byte_level([], 256)
    ids = tokenizer.encode(same).ids
    answers = [(normalised_context(row), same) for row in rows]
    context: Any = SimpleNamespace(tokenizer=tokenizer)
    cut = [at for at in range(len(ids)) if tokenizer.decode(ids[at:])[0] == "\ufffd"]
    assert len(cut) > 20  # some of the cuts are within a character
    assert all(_elsewhere(context, rows[0], ids[at : at + 16], answers) for at in range(len(ids) - 16))
    assert not _elsewhere(context, rows[0], ids, answers[:1])
    assert not _elsewhere(context, rows[0], tokenizer.encode("something else").ids, answers)
