"""The e-mail of a notice: sent once, tried again with a reason, and never bent by a stranger."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from smtplib import SMTPException
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.locmem import EmailBackend as LocalBackend
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from moderation.intake import model_create
from moderation.models import Account, Notice
from moderation.notices import notice_issue, notices_withdraw
from moderation.outbox import ATTEMPTS, notice_send, notices_resend
from moderation.reports import report_file
from tests import factories

Browser = Callable[[Account | None], Client]
Callbacks = Any
REPORT = "My neighbour showed me this one."


class DeadServer(BaseEmailBackend):
    """A mail server that refuses everything."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        raise SMTPException("421 The mail server sleeps.")


class LostWorker(BaseEmailBackend):
    """A worker that is killed while it talks to the mail server."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        raise SystemExit


class SecondMessage(LocalBackend):
    """A mail server so slow that a second message for the same notice arrives meanwhile."""

    notice_id = 0

    def send_messages(self, messages: Sequence[EmailMessage]) -> int:
        assert not notice_send(notice_id=self.notice_id)
        return super().send_messages(messages)


def _issued(account: Account, *, title: str = "Ink wash") -> Notice:
    version = model_create(title=title, actor=account)
    notice = notice_issue(kind="published", version=version, account=account)
    assert notice is not None
    return notice


def test_the_email_is_sent_on_commit_as_text_and_as_html(
    uma: Account,
    mailoutbox: list[EmailMultiAlternatives],
    django_capture_on_commit_callbacks: Callbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        notice = _issued(uma)
        assert mailoutbox == []
    (letter,) = mailoutbox
    assert (letter.to, letter.subject) == (["uma@example.org"], notice.subject)
    assert letter.body.split() == notice.text.split()
    assert [(body, kind) for body, kind in letter.alternatives] == [(notice.html, "text/html")]
    parts = [part.get_content_type() for part in letter.message().walk()]
    assert parts == ["multipart/alternative", "text/plain", "text/html"]
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, notice.error) == ("sent", 1, "")
    assert notice.sent_at is not None


def test_a_mail_server_that_refuses_leaves_the_notice_queued_with_the_reason(
    uma: Account, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "tests.test_notice_delivery.DeadServer"
    notice = _issued(uma)
    assert not notice_send(notice_id=notice.pk)
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, notice.sent_at) == ("queued", 1, None)
    assert notice.error == "421 The mail server sleeps."
    assert notice.not_before > timezone.now()


def _make_due(notice: Notice) -> None:
    past = timezone.now() - timedelta(minutes=5)
    Notice.objects.filter(pk=notice.pk).update(not_before=past, woken_at=None)


def test_five_failures_make_a_notice_dead_and_nobody_tries_again(
    uma: Account, settings: Any, django_capture_on_commit_callbacks: Callbacks
) -> None:
    settings.EMAIL_BACKEND = "tests.test_notice_delivery.DeadServer"
    notice = _issued(uma)
    pauses = []
    for attempt in range(1, ATTEMPTS + 1):
        _make_due(notice)
        with django_capture_on_commit_callbacks(execute=True):
            assert notices_resend() == 1
        notice.refresh_from_db()
        assert notice.attempts == attempt
        assert notice.state == ("dead" if attempt == 5 else "queued")
        pauses.append(round((notice.not_before - timezone.now()).total_seconds() / 60))
    assert pauses == [1, 2, 4, 8, 16]
    assert notice.error == "421 The mail server sleeps."
    _make_due(notice)
    assert notices_resend() == 0
    assert not notice_send(notice_id=notice.pk)


def test_a_notice_is_sent_once_the_mail_server_is_back(
    uma: Account,
    settings: Any,
    mailoutbox: list[EmailMultiAlternatives],
    django_capture_on_commit_callbacks: Callbacks,
) -> None:
    working, settings.EMAIL_BACKEND = (
        settings.EMAIL_BACKEND,
        "tests.test_notice_delivery.DeadServer",
    )
    notice = _issued(uma)
    notice_send(notice_id=notice.pk)
    settings.EMAIL_BACKEND = working
    assert not notice_send(notice_id=notice.pk), "the pause after a failure is kept"
    assert notices_resend() == 0
    _make_due(notice)
    with django_capture_on_commit_callbacks(execute=True):
        assert notices_resend() == 1
    notice.refresh_from_db()
    assert (notice.state, notice.attempts, notice.error) == ("sent", 2, "")
    assert len(mailoutbox) == 1


def test_a_second_message_for_a_sent_notice_sends_nothing(
    uma: Account, mailoutbox: list[EmailMultiAlternatives]
) -> None:
    notice = _issued(uma)
    assert notice_send(notice_id=notice.pk)
    _make_due(notice)
    assert not notice_send(notice_id=notice.pk)
    assert notices_resend() == 0
    assert len(mailoutbox) == 1


def test_a_second_message_while_the_first_is_being_sent_sends_nothing(
    uma: Account,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    mailoutbox: list[EmailMultiAlternatives],
) -> None:
    notice = _issued(uma)
    monkeypatch.setattr(SecondMessage, "notice_id", notice.pk)
    settings.EMAIL_BACKEND = "tests.test_notice_delivery.SecondMessage"
    assert notice_send(notice_id=notice.pk)
    assert len(mailoutbox) == 1


def test_a_worker_lost_while_sending_is_followed_by_another_and_five_by_a_reason(
    uma: Account, settings: Any
) -> None:
    settings.EMAIL_BACKEND = "tests.test_notice_delivery.LostWorker"
    notice = _issued(uma)
    for _ in range(ATTEMPTS):
        _make_due(notice)
        assert notices_resend() == 1
        with pytest.raises(SystemExit):
            notice_send(notice_id=notice.pk)
    _make_due(notice)
    assert notices_resend() == 0
    notice.refresh_from_db()
    assert (notice.state, notice.attempts) == ("dead", ATTEMPTS)
    assert "worker was lost" in notice.error


def test_an_address_that_no_mail_server_could_take_fails_with_a_reason(
    policy: None, uma: Account, mailoutbox: list[EmailMultiAlternatives]
) -> None:
    """Django's validator lets this domain pass, and the encoding of the letter does not."""
    version = factories.published(uma)
    report_file(version=version, text=REPORT, email=f"a@{62 * 'ü'}.example", actor=None)
    notice = Notice.objects.get(kind="report_received")
    assert not notice_send(notice_id=notice.pk)
    notice.refresh_from_db()
    assert (notice.state, notice.attempts) == ("queued", 1)
    assert "idna" in notice.error
    assert mailoutbox == []


# --- Text of strangers ----------------------------------------------------------------------


# Every character at which Python ends a line; the last ones are no ASCII.
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_title_with_line_ends_adds_no_header_and_no_paragraph(
    end: str, uma: Account, mailoutbox: list[EmailMultiAlternatives]
) -> None:
    title = f"Ink{end}Bcc: thief@example.org{end}{end}Your account is closed."
    notice = _issued(uma, title=title)
    assert notice_send(notice_id=notice.pk)
    (letter,) = mailoutbox
    flat = "Ink Bcc: thief@example.org Your account is closed."
    assert flat in letter.subject
    assert letter.message()["Bcc"] is None
    assert letter.recipients() == ["uma@example.org"]
    assert flat in notice.text


# --- Whom they reach ------------------------------------------------------------------------


def test_a_visitor_who_left_no_address_is_told_nothing_and_no_notice_is_stored(
    policy: None, uma: Account
) -> None:
    version = factories.published(uma)
    report_file(version=version, text=REPORT, actor=None)
    assert not Notice.objects.filter(kind="report_received").exists()


def test_an_account_without_an_address_reads_its_notice_on_its_page(
    uma: Account, as_: Browser, mailoutbox: list[EmailMultiAlternatives]
) -> None:
    Account.objects.filter(pk=uma.pk).update(email="")
    uma.refresh_from_db()
    notice = _issued(uma)
    assert not notice_send(notice_id=notice.pk)
    notice.refresh_from_db()
    assert (notice.state, notice.sent_at) == ("dead", None)
    assert "no e-mail address" in notice.error
    assert mailoutbox == []
    assert notice.subject in as_(uma).get(reverse("creator:notices")).content.decode()


def test_an_overdue_notice_is_not_announced_at_every_sweep(uma: Account) -> None:
    notice = _issued(uma)
    _make_due(notice)
    assert notices_resend() == 1
    assert notices_resend() == 0


def test_without_a_mail_server_the_terminal_shows_the_letter_and_no_html(
    uma: Account, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.EMAIL_BACKEND = "moderation.mail.TerminalBackend"
    notice = _issued(uma)
    assert notice_send(notice_id=notice.pk)
    printed = capsys.readouterr().out
    assert f"Letter to uma@example.org: {notice.subject}" in printed
    assert "<html" not in printed


# --- A moment in the future -----------------------------------------------------------------


def _told_later(account: Account, seconds: float) -> Notice:
    notice = notice_issue(
        kind="published",
        version=model_create(title="Ink wash", actor=account),
        account=account,
        not_before=timezone.now() + timedelta(seconds=seconds),
    )
    assert notice is not None
    return notice


def test_nobody_is_told_before_the_moment_and_the_sweeper_tells_at_it(
    uma: Account,
    as_: Browser,
    mailoutbox: list[EmailMultiAlternatives],
    django_capture_on_commit_callbacks: Callbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        notice = _told_later(uma, 10)
    assert not notice_send(notice_id=notice.pk), "a stray message sends nothing"
    assert notices_resend() == 0
    client = as_(uma)
    assert "is published" not in client.get(reverse("creator:notices")).content.decode()
    assert client.get(reverse("creator:notice", args=[notice.code])).status_code == 404
    assert mailoutbox == []

    past = timezone.now() - timedelta(seconds=1)
    Notice.objects.filter(pk=notice.pk).update(not_before=past, shown_from=past)
    with django_capture_on_commit_callbacks(execute=True):
        assert notices_resend() == 1
    assert len(mailoutbox) == 1
    assert "is published" in client.get(reverse("creator:notices")).content.decode()


def test_a_decision_undone_in_time_takes_its_unseen_notices_back(
    policy: None, uma: Account, mo: Account
) -> None:
    decision = factories.decided(uma, mo)
    (seen,) = decision.notices.all()
    later = timezone.now() + timedelta(seconds=10)
    notice_issue(
        kind="appeal_received",
        version=decision.version,
        account=uma,
        decision=decision,
        not_before=later,
    )
    assert notices_withdraw(decision=decision) == 1
    assert list(decision.notices.all()) == [seen], "what could be read stays"
