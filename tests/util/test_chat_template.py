"""Chat templates render as in transformers, and cannot reach beyond the conversation."""

from __future__ import annotations

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from ragx.errors import ModelError
from ragx.util.chat_template import compile_template, render

CHAT = [{"role": "system", "content": 'Say "é" & <b>.'}, {"role": "user", "content": "a\n"}]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def rendered(template: str) -> str:
    return render(compile_template(template), CHAT, SPECIAL)


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}{% for each in messages %}{{ each['role'] }}: {{ each.content }}{{ eos_token }}{% endfor %}",
        "{%- for each in messages %}\n {%- if loop.first %}\n{% continue %}\n{% endif %}\n {{ each }}\n{% endfor %}",
        "{% for each in messages %}{% if loop.index0 %}{% break %}{% endif %}{{ each | tojson }}{% endfor %}",
        "{{ messages | tojson(indent=2, sort_keys=true) }}{{ messages | tojson(ensure_ascii=true) }}",
        "{% set ns = namespace(found=false) %}{% for each in messages %}{% set ns.found = each.role == 'user' %}"
        "{% endfor %}{{ ns.found }}",
        "{{ dict(a=1) }}{{ dict.fromkeys(['a', 'b'], 1) }}{{ dict([('a', 1)]).items() | list }}",
        "{% for each in messages %}{% generation %}{{ each.content }}{% endgeneration %}{% endfor %}",
        "{{ strftime_now('%Y') }}{{ tools }}{{ documents is none }}{{ add_generation_prompt }}{{ other is defined }}",
        "{{ 'system' in messages[0].role and messages[1].content.strip() }}{{ messages[0].content.split('&') }}",
    ],
)
def test_templates_render_as_in_transformers(template: str) -> None:
    ((expected,), _) = render_jinja_template([CHAT], chat_template=template, add_generation_prompt=True, **SPECIAL)
    assert rendered(template) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ strftime_now.__globals__.x }}",
        "{{ dict.__init__.x }}",
        "{{ dict.update(messages[0], {'content': ''}) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'content': ''}) }}",
        "{{ namespace(__call__=1) }}",
        "{{ namespace({'_x': 1}) }}",
        "{% set ns = namespace() %}{% set ns.__call__ = 1 %}",
        "{{ '{0.__class__.x}'.format(messages) }}",
        "{{ range(10**9) }}",
        "{% include 'other' %}",
    ],
)
def test_templates_cannot_leave_the_sandbox(template: str) -> None:
    before = [dict(each) for each in CHAT]
    with pytest.raises(ModelError, match="chat template"):
        rendered(template)
    assert before == CHAT
