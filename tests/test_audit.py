"""The record: append-only in the database itself, and every tampering is found."""

import json
from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from moderation.audit import event_record
from moderation.models import Account, Event
from tests import factories

pytestmark = pytest.mark.usefixtures("policy", "asleep")


@pytest.fixture
def untriggered(transactional_db: None) -> Callable[[str], None]:
    """Return a way to run SQL as somebody who got past the triggers."""

    def run(sql: str) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("DROP TRIGGER IF EXISTS moderation_event_no_update")
                cursor.execute("DROP TRIGGER IF EXISTS moderation_event_no_delete")
            else:
                cursor.execute("ALTER TABLE moderation_event DISABLE TRIGGER USER")
            cursor.execute(sql)

    return run


def _verify(**options: str) -> str:
    out = StringIO()
    call_command("audit_verify", stdout=out, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE moderation_event SET action = 'nothing happened' WHERE sequence = 2",
        "DELETE FROM moderation_event WHERE sequence = 2",
    ],
)
def test_the_database_refuses_to_change_the_record(sql: str, uma: Account) -> None:
    factories.published(uma)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        connection.cursor().execute(sql)
    assert "events hold" in _verify()


def test_the_database_refuses_to_change_a_decision(uma: Account, mo: Account) -> None:
    decision = factories.decided(uma, mo)
    for change in (
        "UPDATE moderation_decision SET facts = 'other'",
        "DELETE FROM moderation_decision",
    ):
        with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
            connection.cursor().execute(change)
    decision.refresh_from_db()
    assert decision.facts != "other"


def test_an_event_outside_of_a_transaction_is_refused(transactional_db: None) -> None:
    with pytest.raises(transaction.TransactionManagementError):
        event_record(action="test", actor=None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("sql", "row", "reason"),
    [
        ("UPDATE moderation_event SET action = 'x' WHERE sequence = 3", 3, "does not match"),
        ("UPDATE moderation_event SET data = '{}' WHERE sequence = 4", 4, "does not match"),
        ("DELETE FROM moderation_event WHERE sequence = 2", 2, "missing"),
    ],
)
def test_verify_names_the_first_bad_row(
    sql: str, row: int, reason: str, uma: Account, untriggered: Callable[[str], None]
) -> None:
    factories.published(uma)
    untriggered(sql)
    with pytest.raises(CommandError, match=f"Event {row} does not hold.*{reason}"):
        _verify()


@pytest.mark.django_db(transaction=True)
def test_a_chain_cut_at_its_end_is_found_by_a_head_noted_earlier(
    uma: Account, untriggered: Callable[[str], None]
) -> None:
    factories.published(uma)
    head = Event.objects.latest("sequence")
    assert "events hold" in _verify(head=head.digest)
    untriggered(f"DELETE FROM moderation_event WHERE sequence = {head.sequence}")
    assert "events hold" in _verify()
    with pytest.raises(CommandError, match="gone"):
        _verify(head=head.digest)


def test_verify_prints_json_that_a_program_can_read(uma: Account) -> None:
    factories.published(uma)
    out = StringIO()
    call_command("audit_verify", "--json", stdout=out)
    found = json.loads(out.getvalue())
    assert found["bad_sequence"] is None
    assert found["events"] == Event.objects.count()
