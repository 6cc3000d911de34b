"""Schemathesis asks the API everything that its document admits, as every kind of key.

Half of what it asks is about things that are there.
"""

from typing import Any

import pytest
import schemathesis
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from config.wsgi import application
from moderation.appeals import appeal_file
from moderation.external import external_account
from moderation.models import Account, FileReference, Policy
from moderation.reports import report_file
from moderation.webhooks import webhook_create
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
def test_nothing_that_the_document_admits_breaks_the_api(
    role: str, policy: Policy, mo: Account, asleep: None
) -> None:
    shop = factories.account("shop")
    headers = {}
    if role != "nobody":
        scopes = ALL if role == "all" else [role]
        headers = {"Authorization": f"Bearer {Marketplace(shop, *scopes).key}"}
    codes = _codes(shop, mo)
    document = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)
    asked = 0
    found: set[tuple[str, str, int]] = set()
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
            # A code out of the air is nobody's; every other request asks about what is there.
            if asked % 2 and "code" in (case.path_parameters or {}):
                case.path_parameters["code"] = codes[case.path.split("/")[3]]
            response = case.call(headers=headers)
            found.add((case.method, case.path, response.status_code))
            asked += 1
            case.validate_response(response, checks=CHECKS)

        ask()
    assert asked >= 15 * EXAMPLES
    if role == "all":
        answered = {path for _, path, status in found if status < 300 and "{code}" in path}
        assert {path.split("/")[3] for path in answered} >= set(codes)


def _codes(shop: Account, mo: Account) -> dict[str, str]:
    """Return the code of one thing of each kind that the marketplace has, by its address."""
    decision = factories.decided(shop, mo)
    published = factories.published(shop)
    with external_account(marketplace=shop, external_id="user-1") as reporter:
        report = report_file(version=published, text="No good.", actor=reporter)
    return {
        "versions": factories.draft(shop).code,
        "decisions": decision.code,
        "appeals": appeal_file(decision=decision, text="They are flowers.", actor=shop).code,
        "reports": report.code,
        "references": FileReference.objects.create(
            version=factories.draft(shop),
            kind="file",
            url="https://files.example.org/b",
            name="b",
            sha256="b" * 64,
            state="dead",
            not_before=timezone.now(),
        ).code,
        "webhooks": webhook_create(account=shop, url="https://example.org/hook").code,
    }


def test_the_document_is_served(client: Client) -> None:
    assert client.get("/api/v1/openapi.json").json()["openapi"].startswith("3.1")
