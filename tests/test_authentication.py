"""Logging in: names, passwords, throttles on guesses, and letters that let people back in."""

import logging
import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.template.loader import get_template
from django.test import Client

from moderation.logs import PrivateLinksFilter
from moderation.models import Account, Event
from tests import factories
from tests.logging_in import LOG_IN, OTHER_MACHINE, confirm, link_in, log_in

# --- Names, passwords, throttles ------------------------------------------------------------


@pytest.mark.parametrize("name", ["uma", "uma@example.org", "UMA@example.org"])
def test_one_logs_in_by_name_or_by_address(name: str, uma: Account) -> None:
    client, answer = log_in(name)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/studio/").status_code == 200


def test_a_wrong_name_and_a_wrong_password_are_told_apart_by_nobody(uma: Account) -> None:
    pages = [log_in("uma", "wrong")[1], log_in("nobody-here", "wrong")[1]]
    said = [re.findall(r'role="alert".*?</div>', page.content.decode(), re.S) for page in pages]
    assert said[0] == said[1]
    assert "do not belong together" in said[0][0]


@pytest.mark.parametrize("door", [LOG_IN, "/admin/login/?next=/admin/"])
def test_the_eleventh_wrong_password_in_a_minute_is_refused(door: str, uma: Account) -> None:
    client = Client()
    opened = client.get(door, follow=True)
    # The admin's door is the house's own.
    address = opened.request["PATH_INFO"]
    assert address == LOG_IN
    for number in range(10):
        _, answer = log_in("uma", f"wrong {number}", client=client)
        assert answer.status_code == 200
    _, refused = log_in("uma", "wrong again", client=client)
    assert refused.status_code == 429
    assert "tried too often in a short time. Wait a minute" in refused.content.decode()
    # Not even the right one is heard from here, until a minute is over ...
    assert log_in("uma")[1].status_code == 429
    # ... and what one machine does keeps nobody out anywhere else.
    assert log_in("uma", REMOTE_ADDR=OTHER_MACHINE)[1].status_code == 302


def test_a_form_that_is_posted_to_the_admins_own_door_opens_nothing(uma: Account) -> None:
    Account.objects.filter(pk=uma.pk).update(is_staff=True, is_superuser=True)
    client = Client()
    typed = {"username": "uma", "password": factories.PASSWORD, "next": "/admin/"}
    assert client.post("/admin/login/", typed)["Location"].startswith(LOG_IN)
    assert client.get("/admin/").status_code == 302
    uma.refresh_from_db()
    client.force_login(uma)
    assert client.post("/admin/password_change/", {})["Location"] == "/account/password/"


def test_right_passwords_use_nothing_up(uma: Account) -> None:
    for _ in range(12):
        assert log_in("uma")[1].status_code == 302


def test_an_account_that_is_tried_from_everywhere_opens_by_letter(uma: Account) -> None:
    _guessed_from_everywhere("uma")
    assert log_in("uma", REMOTE_ADDR=OTHER_MACHINE)[1].status_code == 429
    client = Client(REMOTE_ADDR=OTHER_MACHINE)
    client.post("/log-in/forgotten/", {"email": "uma@example.org"})
    _new_password(client, "four plain words here")
    assert client.get("/studio/").status_code == 200


def _guessed_from_everywhere(name: str) -> None:
    """Let strangers empty the bucket of an account, as they can go on doing."""
    for number in range(100):
        log_in(name, "wrong", REMOTE_ADDR=f"203.0.113.{number}")


def test_strangers_who_guess_do_not_keep_an_owner_out_of_a_browser_that_is_known(
    uma: Account,
) -> None:
    browser, _ = log_in("uma")
    cookie = browser.cookies["known_browser"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"
    assert int(cookie["max-age"]) >= 180 * 86_400
    browser.post("/log-out/")
    _guessed_from_everywhere("uma")
    assert log_in("uma", REMOTE_ADDR=OTHER_MACHINE)[1].status_code == 429
    for name in ("uma", "uma@example.org"):
        assert log_in(name, client=browser)[1].status_code == 302
        # ... nor from what matters in there.
        confirm(browser)
        browser.post("/log-out/")
    # What is guessed in this browser is counted all the same.
    for number in range(10):
        assert log_in("uma", f"wrong {number}", client=browser)[1].status_code == 200
    assert log_in("uma", client=browser)[1].status_code == 429


def test_a_browser_is_known_to_the_accounts_it_was_logged_in_with_and_no_other(
    uma: Account, rui: Account
) -> None:
    browser, _ = log_in("rui")
    browser.post("/log-out/")
    _guessed_from_everywhere("uma")
    _guessed_from_everywhere("rui")
    assert log_in("uma", client=browser)[1].status_code == 429
    # Nor by writing another's number over one's own.
    mark = browser.cookies["known_browser"].value
    forged = Client()
    forged.cookies["known_browser"] = mark.replace(f"{rui.pk}:", f"{uma.pk}:", 1)
    assert log_in("uma", client=forged)[1].status_code == 429
    assert log_in("rui", client=browser)[1].status_code == 302


def test_a_browser_that_was_shared_knows_the_last_five(uma: Account) -> None:
    people = ["uma", *(factories.account(f"p{number}").username for number in range(5))]
    browser = Client()
    for name in people:
        log_in(name, client=browser)
        browser.post("/log-out/")
    for name in (people[0], people[1]):
        _guessed_from_everywhere(name)
    assert log_in(people[1], client=browser)[1].status_code == 302
    browser.post("/log-out/")
    assert log_in(people[0], client=browser)[1].status_code == 429


def test_a_new_password_makes_every_other_browser_unknown(uma: Account) -> None:
    owner, _ = log_in("uma")
    thief, _ = log_in("uma")
    new = {"password1": "four plain words here", "password2": "four plain words here"}
    changed = owner.post("/account/password/", {"oldpassword": factories.PASSWORD, **new})
    assert changed["Location"] == "/account/"
    owner.post("/log-out/")
    _guessed_from_everywhere("uma")
    assert log_in("uma", "four plain words here", client=thief)[1].status_code == 429
    assert log_in("uma", "four plain words here", client=owner)[1].status_code == 302


def test_an_address_that_waits_in_ones_own_account_opens_no_way_around_the_count(
    uma: Account,
) -> None:
    rui = factories.account("rui")
    EmailAddress.objects.create(user=rui, email=uma.email)
    browser, _ = log_in("rui")
    browser.post("/log-out/")
    _guessed_from_everywhere("uma")
    assert log_in(uma.email, client=browser)[1].status_code == 429


def test_an_account_is_guessed_no_more_often_by_its_name_and_its_address_together(
    uma: Account,
) -> None:
    for number in range(100):
        typed = ("uma", "uma@example.org", "UMA@Example.org")[number % 3]
        log_in(typed, "wrong", REMOTE_ADDR=f"203.0.113.{number}")
    for typed in ("uma", "uma@example.org"):
        assert log_in(typed, REMOTE_ADDR=OTHER_MACHINE)[1].status_code == 429


LONG_ADDRESS = f"{'a' * 60}@{'b' * 39}.example.org"


def test_a_long_address_signs_up_logs_in_and_gets_its_letters(db: None) -> None:
    assert len(LONG_ADDRESS) > 100
    typed = {"username": "zoe", "email": LONG_ADDRESS, "password": "four plain words"}
    assert log_in(LONG_ADDRESS)[1].status_code == 200, "nobody has it yet"
    assert log_in("n" * 300)[1].status_code == 200
    assert Client().post("/sign-up/", typed).status_code == 302
    assert log_in(LONG_ADDRESS, "four plain words")[1].status_code == 302
    assert Client().post("/log-in/forgotten/", {"email": LONG_ADDRESS}).status_code == 302
    assert [letter.to for letter in mail.outbox] == [[LONG_ADDRESS]] * 2


def test_old_passwords_are_guessed_no_faster_on_the_page_that_changes_them(uma: Account) -> None:
    client, _ = log_in("uma")
    typed = {"oldpassword": "wrong", "password1": "four plain words", "password2": "x"}
    for _ in range(10):
        assert client.post("/account/password/", typed).status_code == 200
    assert client.post("/account/password/", typed).status_code == 429


def test_accounts_are_not_made_by_the_hundred(db: None) -> None:
    def sign_up(number: int) -> int:
        typed = {"username": f"u{number}", "email": f"u{number}@example.org"}
        return Client().post("/sign-up/", {**typed, "password": "four plain words"}).status_code

    assert [sign_up(number) for number in range(21)] == [302] * 20 + [429]


# --- Letters --------------------------------------------------------------------------------


def _new_password(client: Client, password: str) -> Any:
    form = client.get(link_in(mail.outbox[-1]), follow=True)
    assert form.status_code == 200
    typed = {"password1": password, "password2": password}
    return client.post(form.context["action_url"], typed)


@pytest.mark.parametrize(
    ("language", "subject"), [("en", "A new password"), ("de", "Ein neues Passwort")]
)
def test_a_forgotten_password_is_replaced_by_letter_once(
    language: str, subject: str, uma: Account
) -> None:
    Account.objects.filter(pk=uma.pk).update(language=language)
    elsewhere, _ = log_in("uma")
    client = Client()
    # Whatever host is named, the link leads to the site.
    answer = client.post("/log-in/forgotten/", {"email": "Uma@example.org"}, HTTP_HOST="localhost")
    assert answer["Location"] == "/log-in/forgotten/sent/"
    letter = mail.outbox[-1]
    assert (letter.to, letter.subject) == (["uma@example.org"], subject)
    assert _new_password(client, "four plain words here").status_code == 302
    assert client.get("/studio/").status_code == 200
    assert mail.outbox[-1].subject in {"Your account was changed", "Ihr Konto wurde geändert"}
    # The thief's session has ended, and so has the link.
    assert elsewhere.get("/studio/").status_code == 302
    assert "does not work any more" in Client().get(link_in(letter), follow=True).content.decode()
    assert Event.objects.filter(action="account.password_changed", actor=uma).count() == 1


def test_asking_for_an_address_without_an_account_looks_the_same(uma: Account) -> None:
    answers = [
        Client().post("/log-in/forgotten/", {"email": address})
        for address in ("uma@example.org", "stranger@example.org")
    ]
    assert answers[0]["Location"] == answers[1]["Location"]
    assert [letter.to for letter in mail.outbox] == [["uma@example.org"], ["stranger@example.org"]]


def _forgotten(address: str, **where: str) -> Any:
    return Client(**where).post("/log-in/forgotten/", {"email": address})  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["uma@example.org", "stranger@example.org"])
def test_no_letter_box_is_flooded_and_nobody_learns_what_is_in_it(
    address: str, uma: Account
) -> None:
    answers = [_forgotten(address, REMOTE_ADDR=f"203.0.113.{number}") for number in range(8)]
    assert {answer["Location"] for answer in answers} == {"/log-in/forgotten/sent/"}
    assert [letter.to for letter in mail.outbox] == [[address]] * 5


def test_an_owner_gets_in_by_the_letters_that_strangers_ask_for(uma: Account) -> None:
    for number in range(8):
        _forgotten("uma@example.org", REMOTE_ADDR=f"203.0.113.{number}")
    owner = Client(REMOTE_ADDR=OTHER_MACHINE)
    said = owner.post("/log-in/forgotten/", {"email": "uma@example.org"}, follow=True)
    assert said.status_code == 200
    assert "sent within the last hour" in said.content.decode()
    _new_password(owner, "four plain words here")
    assert owner.get("/studio/").status_code == 200


def test_asking_again_and_again_is_refused_to_whoever_does_it(uma: Account) -> None:
    answers = [_forgotten("uma@example.org").status_code for _ in range(4)]
    assert answers == [302, 302, 302, 429]
    assert _forgotten("stranger@example.org").status_code == 302
    assert _forgotten("uma@example.org", REMOTE_ADDR=OTHER_MACHINE).status_code == 302


def test_letters_of_one_kind_use_up_none_of_another(uma: Account) -> None:
    for number in range(8):
        _forgotten("uma@example.org", REMOTE_ADDR=f"203.0.113.{number}")
    client, _ = log_in("uma", REMOTE_ADDR=OTHER_MACHINE)
    client.get("/account/e-mail/")
    typed = {"email": "uma@example.org", "action_send": ""}
    client.post("/account/e-mail/", typed, REMOTE_ADDR=OTHER_MACHINE)
    assert mail.outbox[-1].subject == "Confirm your e-mail address"


def test_an_address_that_only_waits_opens_no_account_and_gives_way_to_its_owner(
    rui: Account,
) -> None:
    client, _ = log_in("rui")
    link = _asks_to_move(client, "zoe@example.org")
    # Whoever owns the letter box is nobody here yet.
    _forgotten("zoe@example.org")
    assert mail.outbox[-1].subject == "There is no account with this address"
    assert link_in(mail.outbox[-1]) == "/sign-up/"
    typed = {"username": "zoe", "email": "zoe@example.org", "password": "four plain words"}
    assert Client().post("/sign-up/", typed).status_code == 302
    asked = len(mail.outbox)
    client.post("/account/e-mail/", {"email": "zoe@example.org", "action_send": ""})
    assert len(mail.outbox) == asked
    assert "does not work any more" in Client().get(link).content.decode()


def test_a_mail_server_that_is_away_is_said_and_loses_no_account(db: None, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    client = Client()
    typed = {"username": "zoe", "email": "zoe@example.org", "password": "four plain words"}
    assert client.post("/sign-up/", typed).status_code == 302
    assert client.get("/studio/").status_code == 200
    answer = client.post("/log-in/forgotten/", {"email": "zoe@example.org"})
    assert answer.status_code == 503
    assert "could not be sent just now" in answer.content.decode()


def test_an_address_changes_when_the_new_one_is_confirmed(uma: Account) -> None:
    client, _ = log_in("uma")
    new = {"email": "uma@new.example.org", "action_add": ""}
    # Not without the password once more.
    assert client.post("/account/e-mail/", new)["Location"].startswith("/account/confirm/")
    assert not mail.outbox
    confirm(client)
    client.post("/account/e-mail/", new)
    uma.refresh_from_db()
    assert uma.email == "uma@example.org"
    letter = next(each for each in mail.outbox if each.to == ["uma@new.example.org"])
    assert "uma@new.example.org" in client.get(link_in(letter)).content.decode()
    client.post(link_in(letter))
    uma.refresh_from_db()
    assert uma.email == "uma@new.example.org"
    assert mail.outbox[-1].to == ["uma@example.org"]
    assert Event.objects.filter(action="account.email_changed", actor=uma).count() == 1


def _asks_to_move(client: Client, address: str) -> str:
    """Ask to move an account to another address; return the link that would confirm it."""
    confirm(client)
    client.post("/account/e-mail/", {"email": address, "action_add": ""})
    return link_in(next(letter for letter in mail.outbox if letter.to == [address]))


@pytest.mark.parametrize("door", ["forgotten", "change"])
def test_a_new_password_ends_a_change_of_address_that_waits(door: str, uma: Account) -> None:
    thief, _ = log_in("uma")
    link = _asks_to_move(thief, "thief@example.org")
    if door == "forgotten":
        Client().post("/log-in/forgotten/", {"email": "uma@example.org"})
        assert _new_password(Client(), "four plain words here").status_code == 302
    else:
        new = {"password1": "four plain words here", "password2": "four plain words here"}
        typed = {"oldpassword": factories.PASSWORD, **new}
        assert log_in("uma")[0].post("/account/password/", typed).status_code == 302
    assert "does not work any more" in Client().get(link).content.decode()
    Client().post(link)
    uma.refresh_from_db()
    assert uma.email == "uma@example.org"
    addresses = uma.emailaddress_set.values_list("email", flat=True)  # type: ignore[attr-defined]
    assert list(addresses) == ["uma@example.org"]


def test_no_link_of_a_letter_stands_in_a_log(uma: Account) -> None:
    client, _ = log_in("uma")
    link = _asks_to_move(client, "uma@new.example.org")
    assert link.count(":") == 2
    Client().post("/log-in/forgotten/", {"email": "uma@example.org"})
    for secret in (link, link.replace(":", "%3A"), link_in(mail.outbox[-1])):
        line = logging.LogRecord("x", logging.WARNING, "", 1, "CSRF: %s", (secret,), None)
        assert PrivateLinksFilter().filter(line)
        assert re.fullmatch(r"CSRF: /[a-z/-]+/…/", line.getMessage()), line.getMessage()


def test_an_account_is_never_left_without_an_address_or_with_somebody_elses(
    uma: Account, rui: Account
) -> None:
    client, _ = log_in("uma")
    confirm(client)
    client.get("/account/e-mail/")
    client.post("/account/e-mail/", {"email": "uma@example.org", "action_remove": ""})
    taken = client.post("/account/e-mail/", {"email": "rui@example.org", "action_add": ""})
    assert "already registered" in taken.content.decode()
    client.post("/account/e-mail/", {"email": "both@example.org", "action_add": ""})
    letter = mail.outbox[-1]
    Account.objects.filter(pk=rui.pk).update(email="both@example.org")
    assert client.post(link_in(letter)).status_code == 409
    uma.refresh_from_db()
    assert uma.email == "uma@example.org"


def test_signing_up_asks_to_confirm_the_address(db: None) -> None:
    typed = {"username": "zoe", "email": "zoe@example.org", "password": "four plain words"}
    client = Client(HTTP_ACCEPT_LANGUAGE="de-AT")
    client.post("/sign-up/", typed)
    (letter,) = mail.outbox
    assert letter.to == ["zoe@example.org"]
    client.post(link_in(letter))
    zoe = Account.objects.get()
    assert zoe.emailaddress_set.get().verified  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "letter", ["confirm_email", "password_reset", "no_account", "have_account", "changed"]
)
def test_every_letter_is_there_in_german(letter: str) -> None:
    for part in ("subject.txt", "body.txt", "body.html"):
        assert get_template(f"letters/{letter}/{part}")
        assert get_template(f"de/letters/{letter}/{part}")
