"""Chat templates: Jinja programs of model folders, which are not trusted, rendered as transformers renders them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from ragx.errors import ModelError
from ragx.util.text import first_line


def compile_template(source: str) -> Template:
    """Compile a chat template for `render`.

    Raises:
        ModelError: it is not a template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_now, dict=_Dict(), namespace=_CheckedNamespace
    )
    try:
        return environment.from_string(source)
    except Exception as error:  # a template can make Jinja's compiler raise almost anything
        raise ModelError(f"the chat template cannot be read: {first_line(error)}") from None


def render(template: Template, messages: Sequence[Mapping[str, str]], special_tokens: Mapping[str, str]) -> str:
    """The text of a conversation, up to where the answer starts.

    Args:
        template: from `compile_template`.
        messages: dicts with `role` and `content`; plain strings, whose methods the sandbox knows.
        special_tokens: names that the template may use, such as `bos_token`, and the tokens.

    Raises:
        ModelError: the template fails or refuses the conversation.
    """
    try:
        return template.render(
            special_tokens, messages=messages, tools=None, documents=None, add_generation_prompt=True
        )
    except Exception as error:  # it is a program
        raise ModelError(f"the model's chat template fails: {first_line(error)}") from None


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote, for training; here it has no effect."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Dict:
    """What templates use of `dict`, without its methods that change the dicts passed to them."""

    fromkeys = staticmethod(dict.fromkeys)

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _CheckedNamespace(Namespace):
    """Refuses names like `__call__`: Jinja would call what they hold without asking its sandbox."""

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        names = dict(*args, **kwargs)
        for name in names:
            _check_name(name)
        super().__init__(names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike Jinja's own filter, does not escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)
