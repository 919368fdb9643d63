"""What MediaWiki templates read like: those that stand for text in a sentence, and boxes of named values as rows.

Notes, references, notices and boxes of links are dropped. Any other template in a sentence reads like its first value.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable

from ragx.corpus.wiki.template_names import (
    CURRENCIES,
    DATE_NAME,
    DEFAULTS,
    DROPPED,
    DROPPED_BEGINNINGS,
    DROPPED_ENDS,
    FILE_OR_ADDRESS,
    FIRST_VALUE,
    LANGUAGES,
    LAST_VALUE,
    LAYOUT_KEY,
    LAYOUT_VALUE,
    LITERAL,
    SHIPS,
)

_SUPERSCRIPT = str.maketrans("0123456789+-−()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ⁿ")

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


def template_text(name: str, values: list[str], named: dict[str, str], *, alone: bool = False) -> str:
    """What a template reads like, "" for one that is dropped.

    Args: `values`: its unnamed arguments, all as plain text; `alone`: it stands on a line of its own.
    """
    name = name.strip().lower().replace("_", " ")
    if name in LITERAL:
        return LITERAL[name]
    if name in DEFAULTS:
        return next((value.strip() for value in values if value.strip()), DEFAULTS[name])
    if name in DROPPED or name.startswith(DROPPED_BEGINNINGS) or name.endswith(DROPPED_ENDS):
        return ""
    if ":" in name:
        return _function_text(*name.split(":", 1))
    if alone and len(named) > 1 and name not in _RENDERERS:
        return _rows(named)
    values = [value.strip() for value in values] or [named[key] for key in ("1", "text", "quote") if key in named]
    known = _known_text(name, values, named)
    if known is not None:
        return known
    if alone or not values or FILE_OR_ADDRESS.match(values[0]):
        return ""
    return values[0]


def _known_text(name: str, values: list[str], named: dict[str, str]) -> str | None:
    """The text of a template that is known by name; None for others."""
    if name in ("height", "convert height"):
        return " ".join(f"{value} {unit}" for unit, value in named.items() if unit in ("m", "cm", "ft", "in"))
    if not values:
        return ""
    if name in FIRST_VALUE:
        return values[0]
    if name.startswith("lang-"):
        return _in_language(name.removeprefix("lang-"), values[0])
    if name in LAST_VALUE:
        return values[-1]
    if name in SHIPS:
        return f"{name.upper()} {values[0]}"
    if name[-1] in "$£€¥₹₩":
        return f"{name.upper()}{values[0]}"
    if name in CURRENCIES:
        return f"{CURRENCIES[name]}{values[0]}"
    if DATE_NAME.match(name):
        return _date(values)
    return _RENDERERS[name](values, named) if name in _RENDERERS else None


def _function_text(function: str, argument: str) -> str:
    """The text of a parser function, such as {{formatnum:12345}}; names are in lower case by now."""
    if function == "formatnum" and re.fullmatch(r"[+-]?\d{4,30}(\.\d+)?", argument.strip()):
        whole, point, rest = argument.strip().partition(".")
        return f"{int(whole):,}{point}{rest}"
    return argument.strip() if function in ("formatnum", "lc") else ""


def _rows(named: dict[str, str]) -> str:
    """The named values of a box, one a line."""
    rows = []
    for key, value in named.items():
        text = "; ".join(filter(None, (line.strip(" *#:;") for line in value.split("\n"))))
        text = text.replace(",; ", ", ")
        if text and not LAYOUT_KEY.search(key) and not LAYOUT_VALUE.fullmatch(text):
            rows.append(f"{key.replace('_', ' ')}: {text}")
    return "\n\n" + "\n".join(rows) + "\n\n" if rows else ""


def _in_language(code: str, text: str) -> str:
    name = LANGUAGES.get(code.partition("-")[0])
    return f"{name}: {text}" if name else text


def _date(values: list[str]) -> str:
    """{{birth date|1931|5|8}} -> "8 May 1931"; a date in words stays as it is."""
    numbers = [value for value in values[:3] if re.fullmatch(r"\d{1,4}", value)]
    if not numbers or len(numbers[0]) < 3:
        return values[0]
    year, *rest = numbers
    months = [calendar.month_name[int(month)] for month in rest[:1] if 1 <= int(month) <= 12]
    words = [str(int(day)) for day in rest[1:]] + months
    return " ".join([*words, year])


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
    "langx": lambda values, _: _in_language(values[0], values[1] if len(values) > 1 else ""),
    "ship": lambda values, _: " ".join(filter(None, values[:2])),
    "sclass": lambda values, _: f"{values[0]}-class {' '.join(values[1:2])}".strip(),
    "rws": lambda values, _: f"{values[0]} railway station",
    "sortname": lambda values, _: " ".join(values[:2]),
    "flatlist": lambda values, _: values[0],
    "hlist": lambda values, _: ", ".join(values),
    "ubl": lambda values, _: ", ".join(values),
    "unbulleted list": lambda values, _: ", ".join(values),
}
