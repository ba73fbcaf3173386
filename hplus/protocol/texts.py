"""Texts that come in: in which form they are compared, and whether there is anything to see in them."""

from __future__ import annotations

import unicodedata

# Characters that are blank on the screen: Hangul fillers and the empty braille pattern.
BLANK_SIGNS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
# Categories without a glyph of their own: controls, formats, separators and marks. What this version of
# Unicode does not know yet is visible: a new emoji is one.
INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Me"))
ASCII_BLANKS = "".join(map(chr, [*range(33), 127]))


def nfc(text: str) -> str:
    """Return the text in NFC, in which texts are compared: keyboards write é as one code point or as two."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def keyword(text: str) -> str:
    """Return a keyword of the protocol in lower case, whichever keyboard has written its i.

    A Turkish phone makes "h\u0131gh" or "H\u0130GH" of HIGH.
    """
    trimmed = text.strip()
    if trimmed.isascii():
        return trimmed.lower()
    parts = unicodedata.normalize("NFKD", trimmed.casefold()).replace("\u0131", "i")
    return "".join(char for char in parts if not unicodedata.combining(char))


def has_visible(text: str) -> bool:
    """Whether there is a character to see, other than spaces, joiners and other invisible ones."""
    if text.isascii():
        return bool(text.strip(ASCII_BLANKS))
    return any(char not in BLANK_SIGNS and unicodedata.category(char) not in INVISIBLE for char in text)


def must_be_visible(text: str) -> str:
    """Return the text. Raises ValueError where there is nothing to see in it."""
    if not has_visible(text):
        raise ValueError("is empty")
    return text
