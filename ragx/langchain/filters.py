"""Metadata filters with the operators of Chroma, Pinecone and LangChain's PGVector, as conditions on fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from ragx.errors import ConfigError
from ragx.retrieval.filters.conditions import Condition, all_of, any_of, field_test, has_field, negated
from ragx.retrieval.filters.values import equals, ordered

ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
OPERATORS = ("$eq", "$ne", *ORDER, "$in", "$nin", "$exists", "$and", "$or", "$not")


def metadata_condition(filter: object) -> Condition:
    """The condition of a filter: `{"year": {"$gte": 2020}, "language": "en"}` requires both.

    A field is compared with a value, or by `$eq`, `$ne`, `$gt`, `$gte`, `$lt`, `$lte`, `$in`, `$nin`, `$exists` and
    `$not`; `$and` and `$or` combine filters, `$not` negates one. Values compare as in expressions (`docs/filters.md`);
    `$ne`, `$nin` and `$not` hold where the field is absent, which no other operator does.

    Raises:
        ConfigError: an operator is unknown or its operand is of the wrong type.
    """
    if not isinstance(filter, Mapping):
        raise ConfigError(f"a filter must be a mapping or a function of a document, got {filter!r}")
    always = negated(field_test("", lambda _: False))
    return all_of([_entry(name, value) for name, value in filter.items()] or [always])


def _entry(name: object, value: Any) -> Condition:
    if name in ("$and", "$or"):
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(f"{name} must be a list of filters, got {value!r}")
        parts = [metadata_condition(each) for each in value]
        return all_of(parts) if name == "$and" else any_of(parts)
    if name == "$not":
        return negated(metadata_condition(value))
    if not isinstance(name, str):
        raise ConfigError(f"a filter's fields must be strings, got {name!r}")
    if name.startswith("$"):
        _check_known(name)
        raise ConfigError(f'{name} must be below a field, as in {{"year": {{"{name}": …}}}}')
    return _condition(name, value)


def _condition(field: str, condition: Any) -> Condition:
    if not isinstance(condition, Mapping) or not any(str(key).startswith("$") for key in condition):
        return field_test(field, equals(condition))
    return all_of([_operation(field, str(key), operand) for key, operand in condition.items()])


def _operation(field: str, name: str, operand: Any) -> Condition:
    _check_known(name)
    if name in ("$eq", "$ne"):
        equal = field_test(field, equals(operand))
        return equal if name == "$eq" else negated(equal)
    if name in ORDER:
        if not isinstance(operand, int | float | str | date) or isinstance(operand, bool):
            raise ConfigError(f"{name} must be a number, a string or a date, got {operand!r}")
        return field_test(field, ordered(ORDER[name], operand))
    if name in ("$in", "$nin"):
        if not isinstance(operand, list | tuple | set | frozenset):
            raise ConfigError(f"{name} must be a list of values, got {operand!r}")
        one = field_test(field, equals(*operand))
        return one if name == "$in" else negated(one)
    if name == "$exists":
        if not isinstance(operand, bool):
            raise ConfigError(f"$exists must be true or false, got {operand!r}")
        return has_field(field) if operand else negated(has_field(field))
    if name == "$not":
        return negated(_condition(field, operand))
    raise ConfigError(f"{name} must not be below a field: it combines filters")


def _check_known(name: str) -> None:
    if name not in OPERATORS:
        raise ConfigError(f"unknown filter operator {name!r}: use {', '.join(OPERATORS)}")
