"""Schemathesis asks the API everything that its document admits, as every kind of key."""

from typing import Any

import pytest
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from config.wsgi import application
from tests import factories
from tests.test_api import ALL, Marketplace

# Real transactions: the application closes its connection after each request.
pytestmark = pytest.mark.django_db(transaction=True)
EXAMPLES = 6
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.mark.parametrize("role", ["nobody", *ALL, "all"])
def test_nothing_that_the_document_admits_breaks_the_api(role: str, policy: Any) -> None:
    headers = {}
    if role != "nobody":
        scopes = ALL if role == "all" else [role]
        headers = {"Authorization": f"Bearer {Marketplace(factories.account('shop'), *scopes).key}"}
    document = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)
    asked = 0
    for operation in document.get_all_operations():
        strategy = operation.ok().as_strategy()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: Any) -> None:
            nonlocal asked
            response = case.call(headers=headers)
            asked += 1
            case.validate_response(response, checks=CHECKS)

        ask()
    assert asked >= 15 * EXAMPLES


def test_the_document_is_served(client: Client) -> None:
    assert client.get("/api/v1/openapi.json").json()["openapi"].startswith("3.1")
