"""Metadata filters with the operators of Chroma, Pinecone and LangChain's PGVector."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from ragx.errors import ConfigError

Metadata = Mapping[str, Any]
Test = Callable[[Metadata], bool]
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
OPERATORS = ("$eq", "$ne", *ORDER, "$in", "$nin", "$exists", "$and", "$or", "$not")
_ABSENT = object()


def metadata_test(filter: object) -> Test:
    """The test of a filter: `{"year": {"$gte": 2020}, "language": "en"}` requires both.

    A field is compared with a value, or by `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`, `$in`, `$nin`, `$exists` and
    `$not`; `$and` and `$or` combine filters, `$not` negates one. As in MongoDB, a list equals each of its items too,
    values of different types have no order, and `$ne`, `$nin` and `$not` hold where the field is absent.

    Raises:
        ConfigError: an operator is unknown or its operand is of the wrong type.
    """
    if not isinstance(filter, Mapping):
        raise ConfigError(f"a filter must be a mapping or a function of a document, got {filter!r}")
    return _all([_entry(name, value) for name, value in filter.items()])


def _entry(name: object, value: Any) -> Test:
    if name in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(f"{name} must be a list of filters, got {value!r}")
        tests = [metadata_test(each) for each in value]
        return _all(tests) if name == "$and" else lambda metadata: any(test(metadata) for test in tests)
    if name == "$not":
        test = metadata_test(value)
        return lambda metadata: not test(metadata)
    if not isinstance(name, str):
        raise ConfigError(f"a filter's fields must be strings, got {name!r}")
    if name.startswith("$"):
        _check_known(name)
        raise ConfigError(f'{name} must be below a field, as in {{"year": {{"{name}": …}}}}')
    holds = _condition(value)
    return lambda metadata: holds(metadata.get(name, _ABSENT))


def _condition(condition: Any) -> Callable[[Any], bool]:
    """The test of one field's value, which may be `_ABSENT`."""
    if not isinstance(condition, Mapping) or not any(str(key).startswith("$") for key in condition):
        return lambda value: _equals(value, condition)
    tests = [_operation(str(key), operand) for key, operand in condition.items()]
    return lambda value: all(test(value) for test in tests)


def _operation(name: str, operand: Any) -> Callable[[Any], bool]:
    _check_known(name)
    if name == "$eq":
        return lambda value: _equals(value, operand)
    if name == "$ne":
        return lambda value: not _equals(value, operand)
    if name in ORDER:
        if not isinstance(operand, int | float | str) or isinstance(operand, bool):
            raise ConfigError(f"{name} must be a number or a string, got {operand!r}")
        return lambda value: _same_type(value, operand) and ORDER[name](value, operand)
    if name in ("$in", "$nin"):
        if not isinstance(operand, list | tuple | set | frozenset):
            raise ConfigError(f"{name} must be a list of values, got {operand!r}")
        return lambda value: any(_equals(value, each) for each in operand) == (name == "$in")
    if name == "$exists":
        if not isinstance(operand, bool):
            raise ConfigError(f"$exists must be true or false, got {operand!r}")
        return lambda value: (value is not _ABSENT) == operand
    if name == "$not":
        test = _condition(operand)
        return lambda value: not test(value)
    raise ConfigError(f"{name} must not be below a field: it combines filters")


def _check_known(name: str) -> None:
    if name not in OPERATORS:
        raise ConfigError(f"unknown filter operator {name!r}: use {', '.join(OPERATORS)}")


def _all(tests: list[Test]) -> Test:
    return lambda metadata: all(test(metadata) for test in tests)


def _equals(value: Any, wanted: Any) -> bool:
    if isinstance(value, list) and not isinstance(wanted, list | tuple):
        return any(_equals(item, wanted) for item in value)
    if isinstance(wanted, tuple):
        wanted = list(wanted)
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _same_type(value: Any, wanted: float | str) -> bool:
    if isinstance(wanted, str):
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool)
