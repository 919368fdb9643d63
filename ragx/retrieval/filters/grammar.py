"""Expressions such as `year>=2020 and folder=="contracts"`; Lark parses them without recursion."""

from __future__ import annotations

import re
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError

from ragx.errors import ConfigError
from ragx.retrieval.filters.conditions import Condition, all_of, any_of, field_test, negated
from ragx.retrieval.filters.values import Period, contains, equals, matches, ordered, period

MAX_CHARS = 10_000

GRAMMAR = r"""
?start: any_of
?any_of: all_of (_OR all_of)*
?all_of: factor (_AND factor)*
?factor: comparison | "(" any_of ")" | _NOT factor -> negated
?comparison: name COMPARISON value -> compared
    | name EQUAL value             -> equal
    | name UNEQUAL value           -> unequal
    | name EQUAL _NULL             -> absent
    | name UNEQUAL _NULL           -> present
    | name _IN values              -> one_of
    | name _NOT _IN values         -> none_of
    | name _LIKE text              -> like
    | name _NOT _LIKE text         -> unlike
    | value _IN name               -> within
    | value _NOT _IN name          -> without
values: "[" value ("," value)* ","? "]" | "(" value ("," value)* ","? ")"
?value: text
    | NUMBER -> number
    | DATE   -> date
    | _TRUE  -> true
    | _FALSE -> false
name: NAME | QUOTED_NAME
text: TEXT

COMPARISON: "<=" | ">=" | "<" | ">"
EQUAL: "==" | "="
UNEQUAL: "!="
_OR.2: /or(?![\w.:-])/i
_AND.2: /and(?![\w.:-])/i
_NOT.2: /not(?![\w.:-])/i
_IN.2: /in(?![\w.:-])/i
_LIKE.2: /like(?![\w.:-])/i
_NULL.2: /null(?![\w.:-])/i
_TRUE.2: /true(?![\w.:-])/i
_FALSE.2: /false(?![\w.:-])/i
NAME: /[^\W\d][\w.:-]*/
QUOTED_NAME: /`[^`]+`/
TEXT: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/s
DATE.2: /\d{4}-\d\d(-\d\d(T\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?)?(?![\w.:-])/
NUMBER: /[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?(?![\w.:-])/
%ignore /\s+/
"""
EXAMPLE = """year >= 2020 and folder in ["contracts", "leases"]"""
_HINTS = {'"': "a quote is not closed", "'": "a quote is not closed", "&": "write and", "|": "write or"}


def parse_filter(text: str) -> Condition:
    """The condition that an expression states.

    Raises:
        ConfigError: it is not one, or too long or too deep; one line.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(f"where: an expression has at most {MAX_CHARS:,} characters, got {len(text):,}")
    try:
        condition: Condition = _PARSER.parse(text)  # type: ignore[assignment]  # the transformer's result
    except VisitError as error:
        raise error.orig_exc from None
    except UnexpectedInput as error:
        at = error.pos_in_stream or 0
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            at = len(text)
        raise ConfigError(_mistake(text, at)) from None
    return condition


def _mistake(text: str, at: int) -> str:
    """What is wrong with an expression that cannot be read from a character on."""
    rest = text[at:].split(maxsplit=1)
    if not rest:
        return f"where: {_cut(text)} is incomplete; an example: {EXAMPLE}"
    word = rest[0]
    hint = next((hint for start, hint in _HINTS.items() if word.startswith(start)), f"texts stand in quotes: {EXAMPLE}")
    return f"where: cannot read {_cut(word)} at character {at + 1}; {hint}"


def _cut(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


@v_args(inline=True)
class _Conditions(Transformer[Token, Any]):
    """Makes conditions of an expression's parts."""

    def any_of(self, *parts: Condition) -> Condition:
        return any_of(parts)

    def all_of(self, *parts: Condition) -> Condition:
        return all_of(parts)

    def negated(self, part: Condition) -> Condition:
        return negated(part)

    def compared(self, name: str, comparison: Token, value: Any) -> Condition:
        if isinstance(value, bool):
            raise ConfigError(f"where: true and false have no order: use == with {name}")
        return field_test(name, ordered(comparison, value))

    def equal(self, name: str, _: Token, value: Any) -> Condition:
        return field_test(name, equals(value))

    def unequal(self, name: str, _: Token, value: Any) -> Condition:
        return negated(field_test(name, equals(value)))

    def absent(self, name: str, _: Token) -> Condition:
        return negated(self.present(name, _))

    def present(self, name: str, _: Token) -> Condition:
        return field_test(name, lambda value: value is not None)

    def one_of(self, name: str, values: list[Any]) -> Condition:
        return field_test(name, equals(*values))

    def none_of(self, name: str, values: list[Any]) -> Condition:
        return negated(self.one_of(name, values))

    def like(self, name: str, glob: str) -> Condition:
        return field_test(name, matches(glob))

    def unlike(self, name: str, glob: str) -> Condition:
        return negated(self.like(name, glob))

    def within(self, value: Any, name: str) -> Condition:
        return field_test(name, contains(value))

    def without(self, value: Any, name: str) -> Condition:
        return negated(self.within(value, name))

    def values(self, *values: Any) -> list[Any]:
        return [*values]

    def name(self, token: Token) -> str:
        return token.strip("`")

    def text(self, token: Token) -> str:
        return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)

    def number(self, token: Token) -> float:
        return float(token) if set(token) & set(".eE") else int(token)

    def date(self, token: Token) -> Period:
        if (found := period(str(token))) is None:
            raise ConfigError(f"where: {token} is not a date")
        return found

    def true(self) -> bool:
        return True

    def false(self) -> bool:
        return False


_PARSER = Lark(GRAMMAR, parser="lalr", transformer=_Conditions())
