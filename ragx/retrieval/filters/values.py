"""How a field's value compares with a value that a filter names.

Numbers compare as numbers, also where one of the two is a text written as a number, as all are in CSV files. A date
compares with texts that are dates, and is a period: the day 2024-01-31, the month 2024-01 or the year 2024. Other
texts compare character by character. A list compares as each of its items does.
"""

from __future__ import annotations

import operator
import re
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import translate
from typing import Any, TypeAlias

Holds: TypeAlias = Callable[[Any], bool]
"""A test of a field's value, which is a JSON value."""

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NUMBER = re.compile(r"\s*[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?\s*", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """What a date names: all times from `start` to before `end`."""

    start: datetime
    end: datetime


def period(value: object) -> Period | None:
    """The period that a date names; None if it is none. Times without an offset are UTC."""
    if isinstance(value, date):  # and datetime
        value = value.isoformat()
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        if len(value) == len("2024-01"):
            start = _utc(f"{value}-01")
            return Period(start, start + timedelta(days=monthrange(start.year, start.month)[1]))
        start = _utc(value)
        seconds = value.count(":", 0, len("2024-01-31T10:20:30")) == 2
        unit = {"days": 1} if len(value) == len("2024-01-31") else {"seconds": 1} if seconds else {"minutes": 1}
        return Period(start, start + timedelta(**({"microseconds": 1} if "." in value else unit)))
    except (ValueError, OverflowError):  # 2024-02-31, or beyond the year 9999
        return None


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def equals(*wanted: Any) -> Holds:
    """Whether a value equals one of these: numbers, texts, dates, booleans, lists or mappings."""
    exact = {(_kind(each), each) for each in wanted if isinstance(each, str | int | float)}
    numbers = {number for each in wanted if (number := _number(each)) is not None}
    typed = {number for each in wanted if not isinstance(each, str) and (number := _number(each)) is not None}
    periods = [found for each in wanted if (found := _period(each)) is not None]
    truths = {each for each in wanted if isinstance(each, bool)}
    nested = [
        list(each) if isinstance(each, tuple) else each for each in wanted if isinstance(each, list | tuple | dict)
    ]
    empty = any(each is None for each in wanted)

    def scalar(value: Any) -> bool:
        if (_kind(value), value) in exact:
            return True
        if isinstance(value, bool):
            return False
        if isinstance(value, str):
            if typed and _number(value) in typed:
                return True
            if truths and {"true": True, "false": False}.get(value.strip().lower()) in truths:
                return True
            found = period(value) if periods else None
            return found is not None and any(each.start <= found.start < each.end for each in periods)
        return value in numbers

    def holds(value: Any) -> bool:
        if isinstance(value, list | dict):
            return value in nested or (isinstance(value, list) and any(map(holds, value)))
        return empty if value is None else scalar(value)

    return holds


def ordered(name: str, wanted: str | float | date | Period) -> Holds:
    """Whether a value is `<`, `<=`, `>` or `>=` another. Of a period, `<=` includes it all and `>` none of it."""
    compare = ORDER[name]
    number, span = _number(wanted), _period(wanted)

    def scalar(value: Any) -> bool:
        if number is not None and not (isinstance(wanted, str) and isinstance(value, str)):
            found = _number(value)
            if found is not None:
                return compare(found, number)
        if span is not None:
            time = period(value)
            if time is None:
                return False
            return (time.start < (span.start if name in ("<", ">=") else span.end)) == (name in ("<", "<="))
        return isinstance(value, str) and isinstance(wanted, str) and compare(value, wanted)

    return _of_items(scalar)


def contains(wanted: Any) -> Holds:
    """Whether a text contains a text, or a list an item."""
    has_item = equals(wanted)

    def holds(value: Any) -> bool:
        if isinstance(value, str):
            return isinstance(wanted, str) and wanted in value
        return isinstance(value, list) and has_item(value)

    return holds


def matches(glob: str) -> Holds:
    """Whether a text matches a glob of `*` (anything, also "/"), `?` and `[…]`; upper and lower case differ."""
    pattern = re.compile(translate(glob))
    return _of_items(lambda value: isinstance(value, str) and pattern.match(value) is not None)


def _of_items(scalar: Holds) -> Holds:
    return lambda value: any(map(scalar, value)) if isinstance(value, list) else scalar(value)


def _kind(value: object) -> type:
    """Tells true from 1."""
    return bool if isinstance(value, bool) else str if isinstance(value, str) else float


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return None
    return int(value) if value.strip().lstrip("+-").isdigit() else float(value)


def _period(wanted: object) -> Period | None:
    """The period that a filter's value names: a date, or a year that is written as a number."""
    if isinstance(wanted, Period):
        return wanted
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 1000 <= wanted < 9999:
        return Period(datetime(wanted, 1, 1, tzinfo=UTC), datetime(wanted + 1, 1, 1, tzinfo=UTC))
    return period(wanted)
