"""Requests that the server's own OpenAPI allows, and others that it doesn't: never a 5xx, never a hang."""

import pytest
import schemathesis
from conftest import serving, small
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from longjing.serving.service import EngineLimits


@pytest.fixture(scope="session")
def operations(with_page):
    with serving(small(EngineLimits(rows=16, queue=500), max_position_embeddings=48)) as running:
        schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
        yield [result.ok() for result in schema.get_all_operations()]
        assert running.served.worker.failure is None


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_breaks_the_server(operations, mode):
    assert len(operations) == 7
    for operation in operations:
        body = operation.method == "post"
        if mode is GenerationMode.NEGATIVE and not body:  # it takes anything
            continue

        @settings(max_examples=25 if body else 5, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            reply = case.call(timeout=20)
            assert reply.status_code < 500, reply.content

        ask()
