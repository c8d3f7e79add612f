"""Token F1, ROUGE, BLEU and chrF: against the reference libraries, and where those have gaps."""

import random
import string
from collections import Counter

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from finetooth.evaluation.graders import BUILT_IN, bleu, chrf, corpus_score, f1, rouge1, rouge2, rouge_l
from finetooth.evaluation.graders.overlap import lcs_length
from finetooth.types import Answer, Example, Message

WORDS = ["the", "cat", "Cat", "sat", "on", "a", "mat", "re-read", "3.5", "it's", "fast_food", "x", "don't,"]
OVERLAP = {"f1": f1, "rouge1": rouge1, "rouge2": rouge2, "rouge": rouge_l, "bleu": bleu, "chrf": chrf}


def example(*targets: str) -> Example:
    answers = [Answer(targets[0]), *(Answer(target, "reference") for target in targets[1:])]
    return Example("a", (Message("user", "?"),), tuple(answers))


def random_texts(count: int, seed: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    length = [1, 2, 3, 5, 9, 20]
    return [
        (
            " ".join(draw.choices(WORDS, k=draw.choice(length))),
            " ".join(draw.choices(WORDS, k=draw.choice(length))),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(("grader", "kind"), [(rouge1, "rouge1"), (rouge2, "rouge2"), (rouge_l, "rougeL")])
def test_rouge_is_what_the_rouge_score_package_says(grader, kind: str) -> None:
    scorer = RougeScorer([kind])
    seen = set()
    for want, got in random_texts(400):
        if got == want or (kind == "rouge2" and len(RougeScorer([kind])._tokenizer.tokenize(want)) < 2):
            continue
        reference = scorer.score(want, got)[kind]
        score = grader(example(want), got)
        assert score.value == pytest.approx(reference.fmeasure, abs=1e-12), (want, got)
        assert score.reason == f"precision {reference.precision:.2f}, recall {reference.recall:.2f}"
        seen.add(round(score.value, 3))
    assert len(seen) > 20


def test_rouge_where_its_package_gives_the_expected_answer_no_marks() -> None:
    scorer = RougeScorer(["rouge1", "rouge2"])
    assert scorer.score("seven", "seven")["rouge2"].fmeasure == 0
    assert rouge2(example("seven"), "Seven!").value == 1
    assert rouge2(example("seven"), "it is seven").value == 0
    assert scorer.score("Привет мир", "Привет мир")["rouge1"].fmeasure == 0
    assert rouge1(example("Привет мир"), "привет, Анна").value == 0.5
    assert rouge_l(example("!?"), "...").value == 1  # neither has a word
    assert rouge_l(example("!?"), "a word").value == 0


def test_the_longest_common_subsequence_is_that_of_the_table() -> None:
    def by_table(left: list[str], right: list[str]) -> int:
        row = [0] * (len(right) + 1)
        for token in left:
            before = list(row)
            for at, other in enumerate(right):
                row[at + 1] = before[at] + 1 if token == other else max(before[at + 1], row[at])
        return row[-1]

    draw = random.Random(1)
    for _ in range(300):
        left, right = (draw.choices("abcd", k=draw.randrange(0, 90)) for _ in range(2))
        assert lcs_length(left, right) == by_table(left, right)


def squad_f1(got: str, want: str) -> float:
    """The formula of SQuAD's paper, written down separately: every step on lists."""

    def words(text: str) -> list[str]:
        letters = [letter for letter in text.lower() if letter not in string.punctuation]
        return [word for word in "".join(letters).split() if word not in ("a", "an", "the")]

    left, right = words(got), words(want)
    shared = sum(min(count, Counter(right)[word]) for word, count in Counter(left).items())
    if not left or not right:
        return float(left == right)
    precision, recall = shared / len(left), shared / len(right)
    return 2 * precision * recall / (precision + recall) if shared else 0.0


def test_f1_is_that_of_squad() -> None:
    for want, got in random_texts(300, 2):
        assert f1(example(want), got).value == pytest.approx(1.0 if got == want else squad_f1(got, want))
    score = f1(example("the Eiffel Tower in Paris"), "Eiffel tower, Rome")
    assert score.value == pytest.approx(2 * 2 / (4 + 3))
    assert score.reason == "missing: in, paris; not expected: rome"
    assert f1(example("an answer"), "The answer!").value == 1
    assert f1(example("answer"), "answer answer").value == pytest.approx(2 / 3)  # a repeated word counts once


def test_sentence_bleu_and_chrf_are_sacrebleus() -> None:
    for want, got in random_texts(60, 3):
        if want != got:
            references = [want, "the other cat"]
            one, other = example(*references), "the other cat"
            assert bleu(one, got).value == pytest.approx(
                min(1, sacrebleu.sentence_bleu(got, references).score / 100)
            )
            assert chrf(one, got).value == pytest.approx(
                min(1, sacrebleu.sentence_chrf(got, references).score / 100)
            )
            assert bleu(one, other).value == 1
    assert bleu(example("a cat sat on the mat"), "a dog").reason.startswith("bleu ")


def test_the_corpus_score_is_sacrebleus_and_not_the_mean_of_rows() -> None:
    pairs = random_texts(40, 4)
    rows, texts = [example(want) for want, _ in pairs], [got for _, got in pairs]
    wants = [want for want, _ in pairs]
    for name, reference in (("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)):
        found = corpus_score(name, rows, texts)
        assert found is not None
        assert found["value"] == pytest.approx(reference(texts, [wants]).score)
        mean = sum(BUILT_IN[name](row, text).value for row, text in zip(rows, texts, strict=True)) / 40
        assert abs(found["value"] / 100 - mean) > 0.005
        assert "version:" in found["signature"]
    assert corpus_score("rouge", rows, texts) is None
    mixed = [example("a cat", "the cat"), example("a mat")]
    assert corpus_score("bleu", mixed, ["the cat", "a mat"])["value"] == pytest.approx(
        sacrebleu.corpus_bleu(["the cat", "a mat"], [["a cat", "a mat"], ["the cat", None]]).score
    )


@pytest.mark.parametrize("name", OVERLAP)
def test_the_best_of_several_expected_answers_counts(name: str) -> None:
    both = example("completely different words here", "the cat sat on the mat")
    assert OVERLAP[name](both, "the cat sat on the mat").value == 1
    assert (
        OVERLAP[name](both, "the cat sat on a mat").value
        > OVERLAP[name](example("completely different words here"), "the cat sat on a mat").value
    )


@pytest.mark.parametrize("name", OVERLAP)
def test_a_worse_answer_is_worth_less(name: str) -> None:
    one = example("The restaurant Aromi serves Chinese food near the river")
    near = OVERLAP[name](one, "The restaurant Aromi serves English food near the river").value
    far = OVERLAP[name](one, "Aromi serves coffee to many people in the morning").value
    none = OVERLAP[name](one, "zzz").value
    assert 1 > near > far > none == 0
    assert OVERLAP[name](Example("a", (), ()), "x").error == "the row has no expected answer"
