"""Which languages the rows are in, as far as their letters and their commonest words tell.

A language is said only where a text has enough of its words and clearly more than of any other; a text that
is short, or all names and numbers, or code, stays unknown.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator

from finetooth.config.values import format_count_of, plural
from finetooth.quality.findings import Finding, Hit, View, question
from finetooth.types import Example

TEXT = 500  # characters that are read
LETTERS = 12  # of one script, at least
SCRIPT = 0.7  # of all letters are of it
WORDS = 3  # different ones of the commonest words of a language, at least
WORDS_SHARE = 0.15  # of all words
AHEAD, BY = 1.25, 1  # times the words of the next language, and one more
KNOWN = 50  # rows of which the language is known, before shares are told
MAIN = 0.98  # of them, from which on all else is rare
FEWEST, LEAST = 3, 0.002  # rows of a language, and their share of the known: fewer are titles and names
RARE = 0.1  # answers in another language, up to which they look like mistakes; more is a task, as translation

# First code point, and the script from there on; "" is none of these. Unicode 15 blocks.
_STARTS = (
    *((0x0, ""), (0x41, "Latin"), (0x5B, ""), (0x61, "Latin"), (0x7B, ""), (0xC0, "Latin"), (0x250, "")),
    *((0x370, "Greek"), (0x400, "Cyrillic"), (0x530, ""), (0x590, "Hebrew"), (0x600, "Arabic"), (0x700, "")),
    *((0x900, "Devanagari"), (0x980, "Bengali"), (0xA00, ""), (0xB80, "Tamil"), (0xC00, ""), (0xE00, "Thai")),
    *(
        (0xE80, ""),
        (0x10A0, "Georgian"),
        (0x1100, "Korean"),
        (0x1200, ""),
        (0x1E00, "Latin"),
        (0x1F00, "Greek"),
    ),
    *(
        (0x2000, ""),
        (0x3040, "Japanese"),
        (0x3100, ""),
        (0x3400, "Chinese"),
        (0x4DC0, ""),
        (0x4E00, "Chinese"),
    ),
    *(
        (0xA000, ""),
        (0xAC00, "Korean"),
        (0xD7B0, ""),
        (0xF900, "Chinese"),
        (0xFB00, ""),
        (0x20000, "Chinese"),
    ),
)
_POINTS = [point for point, _ in _STARTS]

# Common words that few other languages share. Close ones stand together, as short texts do not part them.
_WORDS = {
    "English": "the and of to is that it was for with you this are have be not what how but from they "
    "my we which who where when does did would can your at in on as by an or if so will there has had "
    "been about into up out please get make me am she his her their its no all one do than then them just",
    "German": "der die das und ist nicht ein eine ich zu mit den dem von auf sich des auch es sie wir "
    "wie für war aber oder wird sind bei nach was wo wer in im an am um einer einen als dass so er hat "
    "mir mich man noch nur zum zur wurde aus",
    "French": "le la les de des et est un une que qui dans pour pas je vous nous il elle ce cette sur "
    "avec au aux du ne sont mais où quel quelle être se en on par plus son sa ses ou été ont cela ces "
    "leur moi mon ma mes",
    "Spanish": "el la los las de es que en un una por con para no se del lo como más su pero qué cuál "
    "está son fue ha sus al muy cómo quién dónde si me mi le ya este esta entre sin sobre cuándo cuántos "
    "ser han también",
    "Italian": "il lo la gli che di in un una per con non sono della del nel alla dei come più anche "
    "questo ma si mi ho le quale dove ha cosa delle da se al sua suo era ed nella questa degli chi quando",
    "Portuguese": "os as de que um uma não para com em do da dos das no na por se mais como mas foi ao "
    "ele você são qual onde está eu me seu sua ou nos pelo pela ser quando isso quem também",
    "Dutch": "de het een en van is dat niet ik je met voor op zijn aan er maar ook wat hoe bij naar dit "
    "die heeft wordt waar worden deze in te was als om uit door tot hij ze nog wie haar had",
    "Swedish": "och att det är en som på av för med jag inte den till har ett om men vi kan du vad hur "
    "från ska eller när var så sig han hon där efter vid inom under",
    "Danish or Norwegian": "og at det er en som på af av for med jeg ikke den til har et om men vi kan "
    "du hva hvad hvordan fra skal eller når også de var så sig seg han hun der hvor ved blev ble",
    "Finnish": "ja on ei se että hän oli mutta ovat kun tai niin myös mitä minä sinä olen olla joka "
    "mikä miten tämä kuin en sen jos ole voi nyt",
    "Polish": "nie na się do jest to że jak co po ale czy od dla przez są był jego tego może mnie ten "
    "za tak było oraz ich który która tylko już",
    "Czech or Slovak": "je se na že to do si ale jak jako pro by tak za co po byl jsem jsou nebo která "
    "který aby čo sú ako sa nie od bylo jeho tento při než",
    "Romanian": "și de la în nu este că un cu pe din pentru mai sunt care ce se au fost dar sau acest "
    "lui al ale această",
    "Hungarian": "az és nem hogy is egy van ez de meg volt csak már mint el ki vagy mi kell azt lesz ha "
    "így még ezt nagyon minden",
    "Turkish": "ve bir bu için da de ne çok ile var gibi daha ama ben olarak değil mi kadar olan nasıl "
    "sonra ki en her",
    "Indonesian or Malay": "yang dan di ini itu dengan untuk tidak dari dalam akan pada juga saya ke "
    "adalah ada bisa atau kamu apa oleh anda",
    "Croatian or Serbian": "je se na da za su nije koji od što kao ili ne ali sam će bi ako kako po to "
    "iz koja",
    "Vietnamese": "là và của có không được cho các một trong người những với tôi này đã để khi bạn",
    "Russian": "и в не на что я с он как это по но к из за то так от мы вы для она они был все или где "
    "кто у о же бы было",
    "Ukrainian": "і в не на що я з як це та до але у за від він вони ми ви для була є або де хто й про",
    "Bulgarian": "и в не на да се за от е с че са по но като ще това аз той съм или има как къде кой",
}
_TRANSLATE = re.compile("translat|übersetz|traduc|tradu[iz]|tradurre|vertaal|przetłum|перев[её]|переклад")
_LANGUAGES: dict[str, list[str]] = {}
for _name, _list in _WORDS.items():
    for _word in _list.split():
        _LANGUAGES.setdefault(_word, []).append(_name)


def language(text: str) -> str:
    """The language of a text by its English name, or its script where that says as much; "" is unknown."""
    read = unicodedata.normalize("NFC", text[:TEXT])
    if read.isascii():  # the quick way through most rows of most sets
        return _by_words(read) if sum(map(str.isalpha, read)) >= LETTERS else ""
    letters = [letter for letter in read if letter.isalpha()]
    scripts = Counter(_STARTS[bisect_right(_POINTS, ord(letter)) - 1][1] for letter in letters)
    if not letters:
        return ""
    if scripts["Japanese"] > 0.1 * len(letters):  # beside Chinese characters
        return "Japanese" if len(letters) >= LETTERS // 2 else ""
    script, count = scripts.most_common(1)[0]
    dense = script in ("Chinese", "Korean")
    if not script or count < SCRIPT * len(letters) or count < (LETTERS // 2 if dense else LETTERS):
        return ""
    return _by_words(read) if script in ("Latin", "Cyrillic") else script


def _by_words(text: str) -> str:
    # With what hangs on an apostrophe: the s of `what's` is a word of its own in Czech. For the same reason
    # no word of one Latin letter is in a list.
    words = re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text.casefold())
    hits: Counter[str] = Counter()
    different: Counter[str] = Counter()
    for word, times in Counter(words).items():
        for name in _LANGUAGES.get(word, ()):
            hits[name] += times
            different[name] += 1
    (best, most), (_, next_most) = [*hits.most_common(2), ("", 0), ("", 0)][:2]
    enough = most >= WORDS_SHARE * len(words) and different[best] >= WORDS
    return best if enough and most >= AHEAD * next_most + BY else ""


def language_mix(view: View) -> Iterator[Finding]:
    """`language-mix`: info where the questions are in several languages; review where single answers are in
    another language than their question, in at most a tenth of the rows in which both are known."""
    rows = list(view.rows())
    asked = [language(question(row)) for _, row in rows]
    known = Counter(name for name in asked if name)
    for name in list(known):
        if known[name] < max(FEWEST, LEAST * known.total()):
            del known[name]
    if known.total() >= KNOWN and len(known) > 1:
        yield from _mix(rows, asked, known)
    if view.labelled or view.format == "text":
        return
    answered = [language(row.target) for _, row in rows]
    both = [at for at in range(len(rows)) if asked[at] and answered[at]]
    other = [
        at for at in both if asked[at] != answered[at] and not _wanted(question(rows[at][1]), answered[at])
    ]
    if len(both) < KNOWN or not 0 < len(other) <= RARE * len(both):
        return
    yield Finding(
        "language-mix",
        "review",
        f"{format_count_of(len(other), len(both), 'answer')} {plural(len(other), 'is', 'are')} in another "
        "language "
        f"than {plural(len(other), 'its', 'their')} question.",
        hits=tuple(
            Hit.of(rows[at][1], rows[at][0], f"asked in {asked[at]}, answered in {answered[at]}")
            for at in other
        ),
        fix="Look at the rows: if the answer should be in the language of the question, rewrite it.",
        facts={"other": len(other), "rows": len(both)},
    )


def _wanted(asked: str, answered: str) -> bool:
    """Whether a question asks for another language: by its name, or for a translation."""
    folded = asked.casefold()
    return bool(_TRANSLATE.search(folded)) or any(
        name.casefold() in folded for name in answered.split(" or ") if name
    )


def _mix(rows: list[tuple[str, Example]], asked: list[str], known: Counter[str]) -> Iterator[Finding]:
    """The shares of the languages; rows of the rare ones where one language has nearly all."""
    names = sorted(known, key=lambda name: (-known[name], name))
    shares = ", ".join(f"{name} {known[name]:,} ({known[name] / known.total():.1%})" for name in names[:6])
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    rare = known[names[0]] >= MAIN * known.total()
    yield Finding(
        "language-mix",
        "info",
        f"Of {known.total():,} rows whose language can be told, {shares}{more}."
        + (" The model learns little of the rare ones." if rare else ""),
        hits=tuple(
            Hit.of(row, side, f"in {name}")
            for (side, row), name in zip(rows, asked, strict=True)
            if rare and name in names[1:]
        ),
        fix="Look at the rows, if texts in these languages were not meant to be here." if rare else "",
        facts={"rows": {name: known[name] for name in names}, "unknown": len(rows) - known.total()},
    )
