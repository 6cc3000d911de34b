"""A prepared query answers as the query set that it was made from."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models import QuerySet
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from moderation.models import Account
from moderation.prepared import Prepared
from tests import factories

pytestmark = pytest.mark.django_db


def _named(*names: str, joined_before: object, number: int) -> QuerySet[Account]:
    return (
        Account.objects.select_related("console_preference")
        .filter(username__in=names, date_joined__lt=joined_before, pk__gte=number)
        .order_by("username")
    )


def test_it_answers_with_the_values_and_the_shape_of_each_call() -> None:
    ada, bob, eve = (factories.account(name) for name in ("ada", "bob", "eve"))
    named = Prepared(_named, joined_before=datetime, number=int)
    now = timezone.now()

    def found(*names: str, before: object = now, number: int = 0) -> list[Account]:
        return named.rows(*names, joined_before=before, number=number)

    for _ in range(2):
        assert found("eve", "ada") == [ada, eve]
        assert found("bob") == [bob]
        assert found("eve", "ada", number=eve.pk) == [eve]
        assert found("eve", "ada", before=now - timedelta(days=1)) == []
    assert named.first("bob", "eve", joined_before=now, number=0) == bob
    assert named.first("zoe", joined_before=now, number=0) is None


def test_what_it_reads_along_needs_no_further_query(django_assert_num_queries: Any) -> None:
    ada = factories.account("ada")
    named = Prepared(_named, joined_before=datetime, number=int)
    with django_assert_num_queries(1):
        found = named.first("ada", joined_before=timezone.now(), number=0)
        assert found == ada
        assert not hasattr(found, "console_preference")


def test_a_value_that_the_query_leaves_out_is_a_mistake() -> None:
    forgetful = Prepared(lambda number: Account.objects.all(), number=int)
    with pytest.raises(ValueError, match="asks for no number"):
        forgetful.rows(number=1)


@pytest.mark.django_db(transaction=True)
def test_a_lock_needs_a_transaction_each_time() -> None:
    locked = Prepared(
        lambda number: Account.objects.select_for_update().filter(pk=number), number=int
    )
    ada = factories.account("ada")
    with transaction.atomic():
        assert locked.rows(number=ada.pk) == [ada]
    with pytest.raises(TransactionManagementError):
        locked.rows(number=ada.pk)
