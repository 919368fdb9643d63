"""Whatever fits the server's own OpenAPI document, or just about not, never makes it fail."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from served import Server

schema = schemathesis.pytest.from_fixture("document")


@pytest.fixture
def document(server: Server) -> object:
    return schemathesis.openapi.from_asgi("/openapi.json", server.app)


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_makes_the_server_fail(case: schemathesis.Case, server: Server) -> None:
    if isinstance(case.body, dict):  # so that it ends soon; whether given or not is no matter
        case.body["max_tokens"] = 2
    response = case.call(base_url=server.url)
    case.validate_response(response, checks=[not_a_server_error, response_schema_conformance, status_code_conformance])
