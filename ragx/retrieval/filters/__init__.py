"""Filters: which passages a search considers, by what their documents say of themselves (`docs/filters.md`).

grammar.py     an expression such as `year>=2020 and folder=="contracts"` -> a condition
conditions.py  conditions on fields and their combinations
values.py      how a value compares with one that a filter names: numbers, dates, texts
fields.py      the fields of an index's passages, by column
"""
