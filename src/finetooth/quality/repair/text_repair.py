"""Text repair: broken encodings, leftover HTML, whitespace and invisible characters.

Every operation maps a text to a text and is idempotent.
"""

from __future__ import annotations

import html
import re
import unicodedata
from html.entities import html5

# --- encodings ---

# UTF-8 bytes as characters of cp1252, or of Latin-1 if cp1252 has none.
_BYTES = {chr(byte): byte for byte in range(0x80, 0x100)}
_CP1252 = {byte: bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0xA0)}
_C1 = {chr(byte): char for byte, char in _CP1252.items() if char != "\ufffd"}
_BYTES |= {char: ord(control) for control, char in _C1.items()}
_NEXT = "[" + "".join(re.escape(char) for char, byte in _BYTES.items() if byte < 0xC0) + "]"
_SEQUENCE = re.compile(f"[\xc2-\xdf]{_NEXT}|[\xe0-\xef]{_NEXT}{{2}}|[\xf0-\xf4]{_NEXT}{{3}}")
_RUN = re.compile(f"(?:{_SEQUENCE.pattern})+")
_C1_CHARACTER = re.compile("[" + "".join(_C1) + "]")
# May follow an accented letter in correct text: "café…”" could be misread as é + two bytes.
_CLOSING = set("…”’»“‘—–› \xa0")
# Ranges of characters that mojibake usually stands for.
_USUAL = (
    *((0x80, 0x17F), (0x218, 0x21B), (0x370, 0x3FF), (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x20A0, 0x20CF)),
    *((0x2100, 0x214F), (0x2190, 0x22FF), (0x2500, 0x27BF), (0xFB00, 0xFB06), (0xFE0F, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFFD, 0xFFFD), (0x1F000, 0x1FAFF)),
)


MOST_READ = 20_000_000  # characters that an operation reads of one text, layer after layer


def fix_encoding(text: str) -> str:
    """Text whose UTF-8 was read as cp1252 or Latin-1, once or repeatedly, decoded correctly (`Ã©` -> `é`).

    Only characters whose bytes are valid UTF-8 are changed. If they could also end a word or a quotation,
    they are changed only next to unambiguous ones. C1 control characters that are printable in cp1252
    (U+0092 for ’) become those characters, as in HTML.
    """
    while not text.isascii():
        fixed = _C1_CHARACTER.sub(lambda found: _C1[found[0]], _decoded(text))
        if fixed == text:
            break
        text = fixed
    return text


def _decoded(text: str) -> str:
    runs = list(_RUN.finditer(text))
    if not any(map(_sure, runs)):
        return text
    return _RUN.sub(lambda run: "".join(map(_character, _SEQUENCE.findall(run[0]))), text)


def _character(sequence: str) -> str:
    """The bytes of a sequence decoded as UTF-8; the sequence itself if they are not valid UTF-8."""
    try:
        return bytes(_BYTES[char] for char in sequence).decode("utf-8")
    except UnicodeDecodeError:
        return sequence


def _sure(run: re.Match[str]) -> bool:
    """Whether a run of sequences is unlikely to be intended."""
    sequences = _SEQUENCE.findall(run[0])
    found = [char for sequence in sequences if (char := _character(sequence)) != sequence]
    if len(found) > 1:
        return True
    if not found or not any(low <= ord(found[0]) <= high for low, high in _USUAL):
        return False
    before = run.string[max(0, run.start() - 1) : run.start()]
    after = run.string[run.end() : run.end() + 1]
    ends_a_word = before.isalpha() or (before != "" and before in "“‘«\"'(")
    return not (ends_a_word and set(sequences[0][1:]) <= _CLOSING and not after.isalpha())


# --- invisible characters ---

_CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d"  # the others of C1 are cp1252
_SOFT = "\u00ad\u2060\ufeff"
_MARKS = "\u200e\u200f\u202a-\u202c\u2066-\u2069"
_STRANGE = re.compile(f"[{_CONTROL}{_SOFT}\u202d\u202e]")
# Joiners are valid between letters of Arabic, Indic scripts and Thai, and in emoji, not after Latin letters.
_JOINERS = re.compile("(?<![\u0300-\U0010ffff])[\u200b-\u200d]+")
_DIRECTIONS = re.compile(f"[{_MARKS}]")
_MAY_HIDE = re.compile(f"[{_CONTROL}{_SOFT}\u200b-\u200f\u202a-\u2069]")
NAMES = {
    "\u00ad": "soft hyphen",
    "\u200b": "zero width space",
    "\u200c": "zero width non-joiner",
    "\u200d": "zero width joiner",
    "\u200e": "left-to-right mark",
    "\u200f": "right-to-left mark",
    "\u202d": "left-to-right override",
    "\u202e": "right-to-left override",
    "\u2060": "word joiner",
    "\ufeff": "byte-order mark",
    "\x00": "NUL",
    "\x07": "bell",
    "\x08": "backspace",
    "\x0b": "vertical tab",
    "\x0c": "form feed",
    "\x1b": "escape",
    "\x7f": "delete",
}


def invisible(text: str) -> str:
    """The unwanted control and invisible characters of a text, in order.

    Tabs and line breaks are fine; so are joiners in scripts that need them, and directional marks in text
    with right-to-left letters.
    """
    if not _MAY_HIDE.search(text):
        return ""
    found = _STRANGE.findall(text) + [char for run in _JOINERS.findall(text) for char in run]
    return "".join(found + (_DIRECTIONS.findall(text) if not _right_to_left(text) else []))


def _right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in ("R", "AL") and char not in "\u200f" for char in text)


def _visible(text: str) -> str:
    while _MAY_HIDE.search(text):
        seen = _JOINERS.sub("", _STRANGE.sub("", text))
        seen = seen if _right_to_left(seen) else _DIRECTIONS.sub("", seen)
        if seen == text:
            break
        text = seen
    return text


_LINE_ENDS = re.compile("\r\n|[\r\u2028\u2029]")
_SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INNER = re.compile(r"(?<=[^ \t])[ \t]+")


def normalise_space(text: str) -> str:
    """Single spaces, no trailing spaces, at most one empty line in a row, no invisible characters.

    Indentation is kept, as code needs it; that of the first line only if another line is indented too.
    """
    text = _visible(_SPACES.sub(" ", _LINE_ENDS.sub("\n", text)))
    lines = [_INNER.sub(" ", line.rstrip(" \t")) for line in text.split("\n")]
    kept = [line for line, last in zip(lines, ["", *lines], strict=False) if line or last]
    while kept and not kept[-1]:
        kept.pop()
    if kept and not any(line[:1] in (" ", "\t") for line in kept[1:]):
        kept[0] = kept[0].lstrip(" \t")
    return "\n".join(kept)


# --- HTML ---

# Names of HTML elements except `s`, as </s> is a common end-of-text token. Those that are also words can be
# placeholders (<label>) or mark parts of an answer (<summary>...</summary>).
_VOID = "br|hr|wbr"
_BLOCK = "p|div|nav|blockquote|ul|ol|dl|dt|dd|thead|tbody|tfoot|tr|h[1-6]"
_WORD_BLOCK = (
    "section|article|header|footer|main|aside|pre|table|form|fieldset|figure|figcaption|details|summary|"
    "address|body|html|head|title|option|select"
)
_INLINE = "a|b|bdi|bdo|big|del|em|font|i|iframe|ins|small|span|strike|strong|sub|sup|tt|u"
_WORD_INLINE = (
    "abbr|audio|button|canvas|center|cite|code|img|input|kbd|label|link|mark|meta|path|q|samp|script|style|"
    "svg|textarea|var|video"
)
_WORD = re.compile(f"{_WORD_BLOCK}|{_WORD_INLINE}", re.IGNORECASE)
_KNOWN = re.compile(
    f"{_VOID}|{_BLOCK}|{_WORD_BLOCK}|{_INLINE}|{_WORD_INLINE}|li|td|th|s|acronym|blink|caption|col|colgroup|"
    "embed|marquee|nobr|noscript|object|picture|source|time",
    re.IGNORECASE,
)
_VALUE = r"\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=`]+"
_SWITCH = "disabled|checked|selected|hidden|required|nowrap"
_ATTRIBUTE = rf"\s+(?:[a-zA-Z_:@][\w:.-]*\s*=\s*(?:{_VALUE})|{_SWITCH})"
_TAG = re.compile(
    rf"<(?P<end>/?)(?P<name>{_VOID}|{_BLOCK}|{_WORD_BLOCK}|{_INLINE}|{_WORD_INLINE}|li|td|th)"
    rf"(?P<more>(?:{_ATTRIBUTE})*)\s*/?>",
    re.IGNORECASE,
)
_DOCTYPE = re.compile(r"<!doctype[^<>]*>", re.IGNORECASE)
_SCRIPT = re.compile(r"<(script|style)\b[^<>]*>(?=[^<]*[{;(])", re.IGNORECASE)
_ENDS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style")}
# Attributes that occur only in web pages.
_OF_A_PAGE = re.compile(
    r"\s(?:class|style|href|src|rel|for|onclick|charset|content|placeholder)\s*=", re.IGNORECASE
)
_OPENED = re.compile(r"<([a-zA-Z][\w.-]*)(?:\s[^<>]*)?>")
_CLOSED = re.compile(r"</([a-zA-Z][\w.-]*)\s*>")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
_ALONE = re.compile(rf"{_VOID}|p|li", re.IGNORECASE)  # elements that are often not closed
_BREAKS = re.compile(rf"{_BLOCK}|{_WORD_BLOCK}|br|hr", re.IGNORECASE)


def strip_html(text: str) -> str:
    """Text without HTML: tags and comments removed, breaks and paragraphs as line breaks, entities decoded.

    A tag is removed only if it is certain: of a known element, and closed, with attributes, or never closed;
    so `a < b`, <name> and List<a> are kept. An element whose name is a word, such as <summary>, is removed
    only next to others or with an attribute of web pages. Kept are: text between backticks, entities that
    would become a tag, as in `&lt;b&gt;bold&lt;/b&gt;`, and texts with elements unknown to HTML, such as XML.
    """
    read = 0
    while (
        ("<" in text or "&" in text)
        and read <= MOST_READ
        and not _has_custom_elements(text)
        and (plain := _without_html(text)) != text
    ):
        read += len(text)
        text = plain
    return text


def _has_custom_elements(text: str) -> bool:
    """Whether an element unknown to HTML is opened and closed: XML, or named parts of an answer."""
    if "</" not in text:
        return False
    outside = " ".join(_CODE.split(text)[::2])
    both = {*_OPENED.findall(outside)} & {*_CLOSED.findall(outside)}
    return any(not _KNOWN.fullmatch(name) for name in both)


def has_tags(text: str) -> bool:
    """Whether there are tags or comments that `strip_html` removes."""
    return not _has_custom_elements(text) and _without_tags(text) != text


def _without_html(text: str) -> str:
    without = _without_tags(text)
    plain, read = without, 0
    while read <= MOST_READ and (unescaped := _unescaped(plain, "")) != plain:
        read += len(plain)
        plain = unescaped
    return plain if _without_tags(plain) == plain else _unescaped(without, "<>&")


def _unescaped(text: str, left: str) -> str:
    """Decodes entities, except in code and except those of the characters in `left`."""
    parts = _CODE.split(text)  # code is at the odd positions
    parts[::2] = [
        _ENTITY.sub(lambda one: one[0] if (char := _entity(one)) in left else char, part)
        for part in parts[::2]
    ]
    return "".join(parts)


def _entity(found: re.Match[str]) -> str:
    if found[0][1] != "#" and found[0][1:] not in html5:
        return found[0]
    char = html.unescape(found[0]).replace("\xa0", " ")
    return found[0] if char in ("", "\ufffd") else char


def _shown(text: str) -> str:
    """Without comments, scripts and styles, which a browser does not show."""
    return _DOCTYPE.sub("", _without_scripts(_without_comments(text)))


def _without_comments(text: str) -> str:
    parts, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        parts.append(text[at:start])
        at = end + 3
    return "".join([*parts, text[at:]])


def _without_scripts(text: str) -> str:
    """Without scripts and styles that are closed. Linear: an end that is missing is looked for once."""
    parts, at, closed = [], 0, dict(_ENDS)
    while closed and (start := _SCRIPT.search(text, at)):
        name = start[1].lower()
        end = closed[name].search(text, start.end()) if name in closed else None
        if end is None:
            closed.pop(name, None)
            parts.append(text[at : start.end()])
            at = start.end()
        else:
            parts.append(text[at : start.start()])
            at = end.end()
    return "".join([*parts, text[at:]])


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    parts = _CODE.split(text)
    outside = list(map(_shown, parts[::2]))
    tags = [tag for part in outside for tag in _TAG.finditer(part)]
    closed = {tag["name"].lower() for tag in tags if tag["end"]}

    def certain(tag: re.Match[str]) -> bool:
        name = tag["name"].lower()
        return bool(tag["end"] or tag["more"] or name in closed or _ALONE.fullmatch(name))

    page = any(
        certain(tag) and (not _WORD.fullmatch(tag["name"]) or _OF_A_PAGE.search(tag["more"])) for tag in tags
    )

    def replaced(tag: re.Match[str]) -> str:
        name = tag["name"].lower()
        if not certain(tag) or not (page or not _WORD.fullmatch(name)):
            return tag[0]
        if name == "li":
            return "" if tag["end"] else "\n- "
        return "\n" if _BREAKS.fullmatch(name) else " " if name in ("td", "th") else ""

    parts[::2] = [_TAG.sub(replaced, part) for part in outside]
    without = "".join(parts)
    if without == text:
        return text
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", without)).strip()
