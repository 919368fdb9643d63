"""Manual pages: the text without its macros and fonts, with its sections as headings (groff_man(7), groff_mdoc(7))."""

from __future__ import annotations

import re
from pathlib import Path

from ragx.corpus.extract.parsed import Parsed, TextBuilder
from ragx.corpus.extract.source import read_source

_MACRO = re.compile(r"[.'][ \t]*+([A-Za-z]{1,3})\b[ \t]*+(.*)")
_HEADINGS = {"SH": 1, "Sh": 1, "SS": 2, "Ss": 2}
_PARAGRAPHS = {"PP", "P", "LP", "TP", "IP", "Pp", "It", "sp", "RS", "RE", "Bl", "El", "Bd", "Ed", "TQ", "HP"}
_DROPPED = {"TH", "Dd", "Dt", "Os", "ad", "br", "de", "ds", "el", "fi", "ft", "hy", "ie", "if", "ig", "in", "ll", "na"}
_DROPPED |= {"ne", "nf", "nh", "nr", "ns", "rm", "rr", "so", "ta", "ti", "tr", "bp", "fam", "mso", "PD", "DT", "Sm"}
_DROPPED |= {"EX", "EE"}
_ALTERNATING = {"BI", "BR", "IB", "IR", "RB", "RI"}
"""Their arguments follow one another without spaces."""
_INLINE = re.compile(
    "A[cdnopqrt]|B[ckoqx]|Br[coq]|Bsx|C[dm]|D[1cloqv]|E[cfkmnorsv]|F[acdnortx]|I[cn]|L[bikp]|M[st]|N[dmosx]|O[copx]|"
    "P[acfoq]|Q[cloq]|Rv|S[coqtxy]|T[an]|Ux|V[at]|X[cor]"
)
"""Macros of mdoc that mark words, also in the arguments of others."""
_ARGUMENT = re.compile(r'"([^"]*)"?|([^ \t"]\S*)')
_ESCAPE = re.compile(
    r"\\(?:f(?:\[[^\]]*\]|\(..|.)|s[-+]?\d|m\[[^\]]*\]|[&|^/,:%)c]|\*?(?:\((..)|\[([^\]]*)\])|(.))", re.DOTALL
)
_NAMED = {"aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "bu": "•", "em": "—", "en": "–", "hy": "-"}
_NAMED |= {"ti": "~", "ha": "^", "rs": "\\", "ga": "`", "co": "©", "rg": "®", "mu": "×", "la": "<", "ra": ">"}


def parse(path: Path) -> Parsed:
    """The text. The title is the name of the page with its section, as in "ls(1)"."""
    source, missing = read_source(path)
    text = TextBuilder()
    title = name = separator = ""
    is_mdoc = False
    for line in source.replace("\\\n", "").split("\n"):
        line = re.sub(r'\\["#].*', "", line)
        if not line.startswith((".", "'")):
            text.add(_plain(line), separator or "\n") if line.strip() else None
            separator = "" if line.strip() else "\n\n"
            continue
        if not (macro := _MACRO.match(line)):
            continue
        word, rest = macro[1], macro[2]
        arguments = [_plain(quoted or bare) for quoted, bare in _ARGUMENT.findall(rest)]
        is_mdoc = is_mdoc or word == "Dd"
        if word in ("TH", "Dt") and arguments:
            title = f"{arguments[0].lower()}({arguments[1]})" if len(arguments) > 1 else arguments[0].lower()
        elif word in _HEADINGS:
            text.heading(" ".join(arguments), _HEADINGS[word])
        elif word not in _DROPPED:
            if word in _PARAGRAPHS:
                separator = "\n\n"
                if word in ("Bl", "Bd"):
                    arguments = []
            elif word == "Nm":
                name = name or " ".join(arguments[:1])
                arguments = arguments or [name]
            if is_mdoc:
                arguments = _unmarked([word, *arguments])
            if block := ("" if word in _ALTERNATING else " ").join(arguments):
                text.add(block, separator or "\n")
                separator = ""
            continue
        separator = "\n"
    return Parsed(text.text, title, text.headings, missing=missing)


def _unmarked(words: list[str]) -> list[str]:
    """The words of a line of mdoc without its macros; `Fl` marks an option."""
    options = [f"-{word}" if before == "Fl" else word for before, word in zip(["", *words], words, strict=False)]
    options = options[words[0] in _PARAGRAPHS :]
    return [word for word in options if word and word.lstrip("-") != "Fl" and not _INLINE.fullmatch(word)]


def _plain(text: str) -> str:
    """`text` without escape sequences (groff(7))."""

    def character(escape: re.Match[str]) -> str:
        if escape[3]:
            return {"e": "\\", "-": "-", " ": " ", "~": " ", "0": " ", "'": "'", "`": "`"}.get(escape[3], escape[3])
        name = escape[1] or escape[2] or ""
        return _NAMED.get(name, "" if not name.startswith("u") else _code_point(name))

    return _ESCAPE.sub(character, text)


def _code_point(name: str) -> str:
    point = re.fullmatch(r"u([0-9A-F]{4,6})", name)
    return chr(int(point[1], 16)) if point and int(point[1], 16) < 0x110000 else ""
