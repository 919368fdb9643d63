"""Equations of Microsoft's formats (ECMA-376 part 1, chapter 22.1) as linear text, such as x_i^2 or (a+b)/2."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from ragx.corpus.extract.office.package import attribute, child, local

_PLAIN = re.compile(r"[\w.,∞′]*|\([^()]*\)|√\w")
_STYLED = re.compile("[\U0001d400-\U0001d7ff\u2100-\u214f]+")
"""Letters in mathematical styles, which are plain letters for a search."""
_ACCENTS = {"~": "\u0303", "^": "\u0302", "¯": "\u0304", "→": "\u20d7", "˙": "\u0307"}


def equation_text(element: Any) -> str:
    """The text of an `m:oMath`, or of an `m:oMathPara`, which holds several."""
    if local(element) == "oMathPara":
        return "\n".join(map(equation_text, element.iterfind("{*}oMath")))
    return _STYLED.sub(lambda match: unicodedata.normalize("NFKC", match[0]), _all(element)).strip()


def _all(element: Any) -> str:
    return "" if element is None else "".join(map(_one, element))


def _one(element: Any) -> str:
    def part(name: str) -> str:
        return _all(child(element, name))

    def property(name: str, default: str) -> str:
        found = child(element, f"{local(element)}Pr", name)
        return default if found is None else attribute(found, "val")

    match local(element):
        case "t":
            return element.text or ""
        case "br":
            return "\n"
        case "f":
            return f"{_group(part('num'))}/{_group(part('den'))}"
        case "sSup":
            return f"{_group(part('e'))}^{_group(part('sup'))}"
        case "sSub":
            return f"{_group(part('e'))}_{_group(part('sub'))}"
        case "sSubSup":
            return f"{_group(part('e'))}_{_group(part('sub'))}^{_group(part('sup'))}"
        case "sPre":
            return f"_{_group(part('sub'))}^{_group(part('sup'))}{_group(part('e'))}"
        case "rad":
            return f"{part('deg')}√{_group(part('e'))}"
        case "nary":
            limits = (f"{mark}{_group(limit)}" for mark, name in (("_", "sub"), ("^", "sup")) if (limit := part(name)))
            return f"{property('chr', '∫')}{''.join(limits)} {part('e')}"
        case "d":
            parts = [_all(part) for part in element.iterfind("{*}e")]
            return property("begChr", "(") + property("sepChr", "|").join(parts) + property("endChr", ")")
        case "m":
            rows = (", ".join(map(_all, row.iterfind("{*}e"))) for row in element.iterfind("{*}mr"))
            return f"[{'; '.join(rows)}]"
        case "eqArr":
            return "; ".join(map(_all, element.iterfind("{*}e")))
        case "func":
            return f"{part('fName')} {_group(part('e'))}"
        case "limLow":
            return f"{part('e')}_{_group(part('lim'))}"
        case "limUpp":
            return f"{part('e')}^{_group(part('lim'))}"
        case "acc":
            accent = property("chr", "\u0302")
            return part("e") + _ACCENTS.get(accent, accent)
        case "del" | "moveFrom":
            return ""
        case name if name.endswith("Pr"):
            return ""
    return _all(element)


def _group(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else f"({text})"
