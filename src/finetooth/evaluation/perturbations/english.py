"""English words for perturbations: contractions with their long forms, and first names.

Forms that can mean two things are left out, as are names that are words, places or months.
"""

from __future__ import annotations

import re

_VERB = "(is|are|was|were|do|does|did|has|have|had|would|could|should|must|need)"
_NEXT = r"(?=\s+\w)(?! not)"  # "it is." and "that is not" stay
_FOLLOWS = r"(?= (?:a|an|the|not|my|your|going|so|too|very)\b)"  # else 's may be a genitive, or "has"
# (what is looked for, what stands in its place): SHORT shortens, LONG writes out.
SHORT = [
    (re.compile(pattern, re.IGNORECASE), becomes)
    for pattern, becomes in (
        (rf"\b{_VERB} not\b", r"\1n't"),
        (r"\b(w)ill not\b", r"\1on't"),
        (r"\b(c)an ?not\b", r"\1an't"),
        (rf"\b(I) am{_NEXT}", r"\1'm"),
        (rf"\b(you|we|they) are{_NEXT}", r"\1're"),
        (rf"\b(I|you|he|she|it|we|they) will{_NEXT}", r"\1'll"),
        (rf"\b(it|that|what|there|he|she|who|where|how) is{_NEXT}", r"\1's"),
    )
]
LONG = [
    (re.compile(pattern, re.IGNORECASE), becomes)
    for pattern, becomes in (
        (rf"\b{_VERB}n't\b", r"\1 not"),
        (r"\b(w)on't\b", r"\1ill not"),
        (r"\b(c)an't\b", r"\1annot"),
        (r"\b(I)'m\b", r"\1 am"),
        (r"\b(you|we|they)'re\b", r"\1 are"),
        (r"\b(I|you|we|they)'ve\b", r"\1 have"),
        (r"\b(I|you|he|she|it|we|they)'ll\b", r"\1 will"),
        (rf"\b(it|that|what|there|he|she|who|where|how)'s{_FOLLOWS}", r"\1 is"),
    )
]

_WOMEN = (
    "Anna|Maria|Laura|Julia|Emma|Olivia|Elena|Fatima|Aisha|Priya|Yuki|Ingrid|Chloe|Isabella|Amelia|Hannah|"
    "Sarah|Rachel|Jessica|Jennifer|Michelle|Stephanie|Katherine|Elizabeth|Susan|Karen|Nancy|Linda|Patricia|"
    "Barbara|Deborah|Amina|Leila|Nadia|Sofia|Zoe|Martha"
)
_MEN = (
    "James|John|Robert|Michael|David|William|Richard|Joseph|Thomas|Daniel|Matthew|Anthony|Andrew|Steven|Paul|"
    "Kevin|Brian|Edward|Peter|Henry|Samuel|Ahmed|Mohammed|Omar|Hassan|Arjun|Carlos|Diego|Luis|Pedro|Hans|"
    "Stefan|Sven|Ivan|Dmitri|Kenji|Hiroshi"
)
NAMES = [names.split("|") for names in (_WOMEN, _MEN)]  # each is changed for one of the same list
