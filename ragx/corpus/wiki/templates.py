"""MediaWiki templates that represent text, and their text. Other templates are dropped."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable

_SUPERSCRIPT = str.maketrans("0123456789+-−()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ⁿ")

_LITERAL = {
    "'": "'",
    "'s": "'s",
    "=": "=",
    "!": "|",
    "pipe": "|",
    "·": "·",
    "•": "•",
    "dot": "·",
    "nbsp": " ",
    "thinsp": " ",
    "spaces": " ",
    "ndash": "–",
    "mdash": "—",
    "snd": " – ",
    "spnd": " – ",
    "spaced ndash": " – ",
}
_FIRST_VALUE = {
    *("nowrap", "nobr", "small", "smaller", "big", "large", "larger", "nobold", "noitalic", "sc", "smallcaps", "em"),
    *("abbr", "tooltip", "linktext", "vanchor", "visible anchor", "keypress", "nastaliq", "strong", "math", "mvar"),
    *(
        "quote",
        "quotation",
        "blockquote",
        "cquote",
        "bquote",
        "poemquote",
        "sub",
        "code",
        "sic",
        "as written",
        "nts",
        "ipa",
    ),
    *("angbr", "vr", "gr", "flag", "flagcountry", "flagu", "plainlist", "railgauge"),
}
_LAST_VALUE = {"lang", "transl", "transliteration", "native name", "script", "unicode", "columns-list", "resize"}
_SHIPS = {"hms", "uss", "hmas", "hmcs", "ss", "rms", "mv"}

_RANGE_WORDS = {"-", "–", "to", "and", "or", "by", "x", "×", "+/-", "±", "to about"}
_UNITS = {
    "C": "°C",
    "F": "°F",
    "sqmi": "sq mi",
    "sqft": "sq ft",
    "cuft": "cu ft",
    "cumi": "cu mi",
    "/sqmi": "per sq mi",
    "/km2": "per km²",
    "impgal": "imp gal",
    "USgal": "US gal",
}
_MULTIPLES = {"e3": "thousand ", "e6": "million ", "e9": "billion ", "e12": "trillion "}


def superscript(text: str) -> str:
    """An exponent in superscript characters, so that 10<sup>6</sup> does not become 106; not words ("2nd")."""
    return text.translate(_SUPERSCRIPT) if re.fullmatch(r"[\d+\-−()n]+", text) else text


def template_text(name: str, values: list[str], named: dict[str, str]) -> str:
    """The text of a template, or "" to drop it. `values` are its unnamed arguments; all arguments are plain text."""
    name = name.strip().lower().replace("_", " ")
    if name in _LITERAL:
        return _LITERAL[name]
    values = [value.strip() for value in values] or [named[key] for key in ("1", "text", "quote") if key in named]
    if not values:
        return ""
    if name in _FIRST_VALUE or name.startswith("lang-"):
        return values[0]
    if name in _LAST_VALUE:
        return values[-1]
    if name in _SHIPS:
        return f"{name.upper()} {values[0]}"
    return _RENDERERS[name](values, named) if name in _RENDERERS else ""


def _convert(values: list[str], named: dict[str, str]) -> str:
    """{{convert|400|to|670|mm|in}} -> "400 to 670 mm"; {{convert|6|ft|4|in|cm}} -> "6 ft 4 in"."""
    words: list[str] = []
    rest = list(values)
    while rest and (_is_number(rest[0]) or (rest[0] in _RANGE_WORDS and words)):
        words.append(rest.pop(0))
    if rest:
        words.append(_unit(rest.pop(0)))
    if len(rest) > 1 and _is_number(rest[0]) and not _is_number(rest[1]):
        words += [rest[0], _unit(rest[1])]
    return " ".join(words)


def _is_number(value: str) -> bool:
    return re.match(r"[+−-]?\.?\d", value) is not None


def _unit(code: str) -> str:
    for prefix, multiple in _MULTIPLES.items():
        if code.startswith(prefix) and len(code) > len(prefix):
            return multiple + _unit(code.removeprefix(prefix))
    return _UNITS.get(code) or re.sub(r"(?<=[a-z])([23])", lambda power: superscript(power[1]), code)


def _quantity(values: list[str], named: dict[str, str]) -> str:
    """{{val|6.241|e=18|u=m}} -> "6.241×10¹⁸ m"; a second value is the uncertainty."""
    uncertainty = values[1] if len(values) > 1 else ""
    number = values[0] + (uncertainty if uncertainty.startswith("(") or not uncertainty else f" ± {uncertainty}")
    return f"{number}{_power(named['e']) if 'e' in named else ''} {named.get('u', named.get('ul', ''))}".strip()


def _power(exponent: str) -> str:
    return "×10" + superscript(exponent)


def _fraction(values: list[str], named: dict[str, str]) -> str:
    whole, above, below = (["", "1", *values] if len(values) == 1 else ["", *values])[-3:]
    return f"{whole} {above}/{below}".strip()


def _as_of(values: list[str], named: dict[str, str]) -> str:
    year, *month_day = values
    if month_day and month_day[0].isdigit() and 1 <= int(month_day[0]) <= 12:
        month_day[0] = calendar.month_name[int(month_day[0])]
    return " ".join(["as of" if "lc" in named else "As of", *reversed(month_day[:2]), year])


def _nihongo(values: list[str], named: dict[str, str]) -> str:
    rest = ", ".join(value for value in values[1:3] if value)
    return f"{values[0]} ({rest})" if rest else values[0]


_RENDERERS: dict[str, Callable[[list[str], dict[str, str]], str]] = {
    "convert": _convert,
    "cvt": _convert,
    "val": _quantity,
    "e": lambda values, _: _power(values[0]),
    "sup": lambda values, _: superscript(values[0]),
    "frac": _fraction,
    "sfrac": _fraction,
    "chem": lambda values, _: "".join(values),
    "as of": _as_of,
    "circa": lambda values, _: f"c. {values[0]}",
    "c.": lambda values, _: f"c. {values[0]}",
    "nihongo": _nihongo,
    "nuclide2": lambda values, _: "-".join(values[:2]),
    "simplenuclide2": lambda values, _: "-".join(values[:2]),
    "hlist": lambda values, _: ", ".join(values),
    "ubl": lambda values, _: ", ".join(values),
    "unbulleted list": lambda values, _: ", ".join(values),
}
