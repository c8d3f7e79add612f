"""Languages are told by their common words and letters, or not at all."""

from __future__ import annotations

import pytest
from label_rows import row, topics, view
from public_data import DATA

from finetooth.quality.rules.language import language, language_mix
from finetooth.rundir import read_json

SENTENCES = {
    "English": "The meeting was moved to Friday and nobody told me what it is about.",
    "German": "Die Sitzung wurde auf Freitag verschoben und niemand hat mir gesagt, was das ist.",
    "French": "La réunion a été déplacée et je ne sais pas qui est dans la salle.",
    "Spanish": "La reunión se ha cambiado para el viernes y no sé por qué es así.",
    "Italian": "La riunione è stata spostata e non so perché gli altri sono nella sala.",
    "Portuguese": "A reunião foi mudada para sexta e eu não sei onde você está com os outros.",
    "Dutch": "De vergadering is naar vrijdag verplaatst en ik weet niet wat het doel van de dag is.",
    "Swedish": "Mötet har flyttats till fredag och jag vet inte vad det är för något.",
    "Danish or Norwegian": "Mødet er flyttet til fredag og jeg ved ikke hvad det er for noget.",
    "Finnish": "Kokous on siirretty ja minä en tiedä mitä se on, mutta hän tietää.",
    "Polish": "Spotkanie jest w piątek i nie wiem, czy to jest dla mnie, ale się dowiem.",
    "Czech or Slovak": "Schůzka je v pátek a nevím, co to je, ale jsem tam jako host, že ano.",
    "Romanian": "Ședința a fost mutată și nu știu ce este, dar sunt la birou cu un coleg.",
    "Hungarian": "A találkozó már pénteken van, és nem tudom, hogy mi az, de meg kell nézni.",
    "Turkish": "Toplantı cuma günü ve ben bunun ne olduğunu bilmiyorum ama çok önemli bir şey gibi.",
    "Indonesian or Malay": "Rapat itu dipindah ke hari Jumat dan saya tidak tahu apa yang akan ada di sana.",
    "Vietnamese": "Cuộc họp đã được chuyển và tôi không biết những người này là của công ty nào.",
    "Russian": "Встреча перенесена на пятницу, и я не знаю, что это такое и кто там был.",
    "Ukrainian": "Зустріч перенесли на п'ятницю, і я не знаю, що це таке та хто там є.",
    "Bulgarian": "Срещата е преместена за петък и аз не съм сигурен, че ще има място за това.",
    "Greek": "Η συνάντηση μεταφέρθηκε στην Παρασκευή",
    "Chinese": "会议改到星期五了，没有人告诉我",
    "Japanese": "会議は金曜日に変更されました",
    "Korean": "회의가 금요일로 변경되었습니다",
    "Arabic": "تم نقل الاجتماع إلى يوم الجمعة",
    "Hebrew": "הפגישה הועברה ליום שישי",
    "Thai": "การประชุมถูกเลื่อนไปวันศุกร์",
    "Devanagari": "बैठक शुक्रवार को स्थानांतरित कर दी गई",
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_is_told(name: str) -> None:
    assert language(SENTENCES[name]) == name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "42",
            "ok",
            "Berlin Paris Roma Madrid",
            "invoice 2231 overdue",
            "u r 2 late 4 me u no",
            "😀 😀 😀",
        ),
        *(
            '{"item": "bread", "count": 2}',
            "def f(x): return x + 1",
            "C:\\Users\\me\\file.txt",
            "men's 80s hits",
        ),
    ],
)
def test_what_cannot_be_told_is_unknown(text: str) -> None:
    assert language(text) == ""


def english(count: int) -> list[tuple[str, str]]:
    return [
        (f"What is it that they want from room {at}?", f"They want to see what is in it, and {at}.")
        for at in range(count)
    ]


def test_one_language_gives_no_finding() -> None:
    rows = [row(*texts, at) for at, texts in enumerate(english(80))]
    assert not list(language_mix(view(rows, format="qa")))
    assert not list(language_mix(view(topics(100))))


def test_an_answer_in_another_language_is_listed() -> None:
    texts = english(80)
    texts[5] = (texts[5][0], SENTENCES["German"])
    (finding,) = language_mix(view([row(*pair, at) for at, pair in enumerate(texts)], format="qa"))
    assert finding.severity == "review"
    assert [(hit.id, hit.evidence) for hit in finding.hits] == [
        ("r5", "question in English, answer in German")
    ]


def test_an_answer_in_the_language_that_was_asked_for_is_right() -> None:
    texts = english(80)
    texts[5] = ("Please translate this for me, as it was said.", SENTENCES["German"])
    texts[6] = ("How do you say that in German, if it is not too much?", SENTENCES["German"])
    assert not list(language_mix(view([row(*pair, at) for at, pair in enumerate(texts)], format="qa")))


def test_a_task_of_translation_is_no_mistake() -> None:
    texts = [(question, SENTENCES["French"]) for question, _ in english(80)]
    assert not list(language_mix(view([row(*pair, at) for at, pair in enumerate(texts)], format="qa")))


def test_the_shares_of_several_languages() -> None:
    names = ["English"] * 60 + ["Russian"] * 40
    rows = [row(SENTENCES[name], "a", at) for at, name in enumerate(names)]
    (finding,) = language_mix(view(rows))
    assert finding.severity == "info" and finding.facts["rows"] == {"English": 60, "Russian": 40}
    assert not finding.hits
    rare = [row(SENTENCES["English" if at > 2 else "Korean"], "a", at) for at in range(300)]
    (finding,) = language_mix(view(rare))
    assert [hit.id for hit in finding.hits] == ["r0", "r1", "r2"]


@pytest.mark.data
@pytest.mark.parametrize(("code", "name"), [("en", "English"), ("de", "German"), ("es", "Spanish")])
def test_published_questions(code: str, name: str) -> None:
    """Few are short enough to stay unknown; none is taken for another language."""
    path = DATA / "xquad_en" / f"xquad.{code}.json"
    if not path.is_file():
        pytest.skip("xquad_en is not under FINETOOTH_DATA")
    passages = [part for article in read_json(path)["data"] for part in article["paragraphs"]]
    told = [language(part["context"]) for part in passages]
    asked = [language(question["question"]) for part in passages for question in part["qas"]]
    assert told.count(name) >= 0.97 * len(told) and set(told) <= {name, ""}
    assert asked.count(name) >= 0.5 * len(asked) and set(asked) <= {name, ""}
