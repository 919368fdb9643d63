"""Characters of the symbol fonts that Word writes by their codes."""

from __future__ import annotations

import re

_SYMBOLS = {
    **dict(enumerate("ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", 0x41)),
    **dict(enumerate("αβχδεφγηιϕκλμνοπθρστυϖωξψζ", 0x61)),
    **{0xA3: "≤", 0xA5: "∞", 0xAE: "→", 0xB0: "°", 0xB1: "±", 0xB3: "≥", 0xB4: "×", 0xB7: "•", 0xB9: "≠"},
}
"""Characters of the font Symbol."""
_WINGDINGS = {0x6F: "☐", 0xA8: "☐", 0xE0: "→", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑"}


def symbol(font: str, code: str) -> str:
    """A character of a symbol font."""
    if not re.fullmatch("[0-9A-Fa-f]{1,5}", code):
        return ""
    point = int(code, 16)
    if font == "Symbol":
        return _SYMBOLS.get(point & 0xFF, " ")
    if "dings" in font:
        return _WINGDINGS.get(point & 0xFF, " ")
    return chr(point & 0xFF) if 0xF000 <= point <= 0xF0FF else chr(point)
