"""Requests that fit, or barely miss, the server's OpenAPI document never make it fail."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.helpers.served import MODEL, Server

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]

MODELS: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"model": MODEL, "max_completion_tokens": 2},
    "/v1/completions": {"model": MODEL, "max_tokens": 2},
    "/v1/responses": {"model": MODEL, "max_output_tokens": 2},
    "/v1/embeddings": {"model": "all-minilm-l6-v2"},
    "/v1/search": {"model": MODEL},
}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_makes_the_server_fail(server: Server, mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    tried = set()
    for found in document.get_all_operations():
        operation = found.ok()
        if mode.is_negative and not len(operation.body):
            continue  # there is nothing to get wrong

        @settings(max_examples=15, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def attack(case: Case) -> None:
            if mode.is_positive and isinstance(case.body, dict):  # so that it is answered, and soon
                case.body |= MODELS.get(case.path, {})
            case.call_and_validate(base_url=server.url, checks=CHECKS)
            tried.add(case.path)

        attack()
    assert tried >= {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/search"}
