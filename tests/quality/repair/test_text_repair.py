"""Operations on texts: what they mend, what they leave alone, and that twice is once."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetooth.quality.repair.clean import TEXT
from finetooth.quality.repair.text_repair import (
    fix_encoding,
    has_tags,
    invisible,
    normalise_space,
    strip_html,
)

WHOLE = [
    "The café’s naïve crème brûlée – 5 × 3 = 15 °C, £7, “quoted”…",
    "Grüße aus Köln: Straße, Öl, Äpfel",
    "Žluťoučký kůň úpěl ďábelské ódy",
    "Привет, как дела? Это тест.",
    "Ελληνικά: αβγ Δ π",
    "日本語のテキスト、漢字",
    "Tiếng Việt: lễ hội, đường phố",
    "emoji 🙂 and € 20",
    "Ştiinţă şi ştiinţe; ș ț",
]
MEANT = [
    "« AMANHÃ » e “MANHÔ…",
    "“café…” said the fiancé’",
    "CAFÉ» and «OLÁ»",
    "voilà\xa0» dit-il",
    "“Å” is a river; “Spaß”…",
    "Â, Ã and Ä are letters",
]


@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", WHOLE)
def test_bytes_read_in_the_wrong_encoding_are_read_right(text: str, wrong: str) -> None:
    raw = text.encode("utf-8")
    if wrong == "cp1252":  # bytes that cp1252 does not know are read as controls, as browsers do
        broken = "".join(bytes([b]).decode("cp1252") if b not in UNKNOWN else chr(b) for b in raw)
    else:
        broken = raw.decode(wrong)
    assert broken != text
    assert fix_encoding(broken) == text
    assert fix_encoding(f"Before it. {broken} After it.") == f"Before it. {text} After it."
    twice = broken.encode("utf-8").decode("latin-1")
    assert fix_encoding(twice) == text


UNKNOWN = {0x81, 0x8D, 0x8F, 0x90, 0x9D}


@pytest.mark.parametrize("text", [*WHOLE, *MEANT])
def test_text_that_is_whole_stays(text: str) -> None:
    assert fix_encoding(text) == text


def test_controls_that_are_signs_of_cp1252_become_those() -> None:
    assert fix_encoding("that\x92s \x93it\x94 \x96 \x80 5") == "that’s “it” – € 5"


@pytest.mark.parametrize(
    ("html", "plain"),
    [
        ("<p>One.</p><p>Two &amp; three</p>", "One.\n\nTwo & three"),
        ("a<br/>b<BR>c", "a\nb\nc"),
        ('<a href="x.html" class=big>link</a> <img src=y>', "link"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
        ("x &lt; y &#38; y &gt; z&nbsp;!", "x < y & y > z !"),
        ("I &lt;3 you &amp;amp; &lt;#&gt;", "I <3 you & <#>"),
        ("<!-- note --><style>p {}</style><script>run()</script>text", "text"),
        ("<b>bold</b> and </i>left", "bold and left"),
    ],
)
def test_html_becomes_plain_text(html: str, plain: str) -> None:
    assert strip_html(html) == plain


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d: pass",
        "x<b and c>d",
        "Dear <name>, on <date> at <address>",
        "List<a> and Map<i, b>",
        "<think>well</think> yes</s>",
        "AT&T, R&D; and Q&A; fish &chips",
        "use `<b>bold</b>` or\n```html\n<p>&amp;</p>\n```",
        "write &lt;b&gt;bold&lt;/b&gt;",
        "<slot>x</slot> <tool_call>{}</tool_call>",
    ],
)
def test_what_is_no_left_over_html_stays(text: str) -> None:
    assert strip_html(text) == text


def test_spaces_are_single_and_indentation_stays() -> None:
    code = "def f(x):\n    if x:\n        return  1\n\n\n\n    return 2  \n"
    assert normalise_space(code) == "def f(x):\n    if x:\n        return 1\n\n    return 2"
    assert normalise_space("  one\t two\xa0\u2009three \r\n four\r") == "  one two three\n four"
    assert normalise_space("\n\n  alone  \n") == "alone"
    assert normalise_space("    a\n    b") == "    a\n    b"


def test_invisible_characters_are_named_and_taken_out_where_they_do_not_belong() -> None:
    text = "a\u200bb\x07c\ufeff d\u202e e\u200f\x0c"
    assert sorted(invisible(text)) == sorted("\u200b\x07\ufeff\u202e\u200f\x0c")
    assert normalise_space(text) == "abc d e"
    for whole in ("👩\u200d💻 works", "می\u200cخواهم", "क्\u200dष", "שלום\u200f!", "tab\tand\nline"):
        assert invisible(whole) == ""
        assert normalise_space(whole) == whole.replace("\t", " ")


SENTENCE = "the a 5 of 12 in 2019 book < > & is it; (see 3.4) at 10:30 costs $4,500.00 yes — no"
PIECES = st.sampled_from(
    [
        *(
            "<b>",
            "</b>",
            "<br>",
            "<p",
            ">",
            "<",
            "&amp;",
            "&lt;",
            "b&gt;",
            "&",
            "amp;",
            "`",
            "```",
            "<!--",
            "-->",
        ),
        *(
            "Ã",
            "©",
            "â€™",
            "Ã©",
            "Å",
            "”",
            "é",
            "\x92",
            "Â",
            "\xa0",
            "Ð¿",
            "Ñ€",
            "ï»¿",
            "\u200d",
            "\ufeff",
            "ש",
        ),
        *(
            " ",
            "  ",
            "\n",
            "\t",
            "\r\n",
            "\u2028",
            "\x07",
            "word",
            "4111 1111 1111 1111",
            "ann@mail.org",
            "://",
        ),
        *(
            "+49 30 1234567",
            "12",
            "-",
            ".",
            ":",
            "@",
            "/",
            "call ",
            "born ",
            "1.2.1985",
            "[EMAIL]",
            "{",
            '"',
            "}",
        ),
    ]
)


@pytest.mark.parametrize("name", TEXT)
@settings(max_examples=150, deadline=None)
@given(text=st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=40)))
def test_twice_is_once(name: str, text: str) -> None:
    once = TEXT[name](text)
    assert TEXT[name](once) == once


@pytest.mark.parametrize("name", ["fix_encoding", "strip_html", "mask_pii"])
def test_plain_sentences_stay(name: str) -> None:
    draw = random.Random(0)
    words = SENTENCE.split()
    for _ in range(300):
        text = " ".join(draw.choices(words, k=draw.randint(1, 20)))
        assert TEXT[name](text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Answer with <label> alone.",
        "<label>spam</label>",
        "<summary>The cat sat.</summary>",
        "<title>Northern Lights</title> by <name>",
        "<code>x = 1</code>",
        "<details>none</details>",
        "<style>formal</style>",
        "Describe <img> in one line.",
        "<note><to>Tove</to><body>Tea &amp; cake<br/></body></note>",
        '<book><title lang="en">Dune</title></book>',
        "<answer><b>Paris</b></answer>",
    ],
)
def test_placeholders_and_elements_that_are_the_answer_stay(text: str) -> None:
    assert strip_html(text) == text and not has_tags(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<details><summary>More</summary><p>It is late.</p></details>", "More\n\nIt is late."),
        ('<label for="name">Name</label>', "Name"),
        ("<p>See <code>x</code></p>", "See x"),
        ('<div class="note">Tea&nbsp;time</div>', "Tea time"),
        ("<html><head><title>T</title></head><body>x<br>y</body></html>", "T\n\nx\ny"),
    ],
)
def test_what_a_page_left_over_goes_with_the_words_beside_it(text: str, plain: str) -> None:
    assert strip_html(text) == plain


def test_many_elements_that_are_never_closed_take_no_longer_than_others() -> None:
    start = time.perf_counter()
    strip_html("<item>" * 100_000 + "</other>")
    assert time.perf_counter() - start < 5
