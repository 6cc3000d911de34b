"""Second factors: apps, recovery codes, and who must show one."""

import json
import re
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core import mail
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from moderation.models import Account, Event
from moderation.states import Role
from tests import factories
from tests.logging_in import (
    LOG_IN,
    SECOND,
    app_set_up,
    code_of,
    committed,
    confirm,
    link_in,
    log_in,
)


@committed
def test_a_password_alone_opens_nothing_once_an_app_is_set_up(uma: Account) -> None:
    factories.address_confirmed(uma)
    first, _ = log_in("uma")
    secret = app_set_up(first)
    assert "An app that shows codes was set up" in mail.outbox[-1].body
    client, answer = log_in("uma")
    assert answer["Location"].startswith("/log-in/second-factor/")
    assert "known_browser" not in client.cookies, "it is not the owner's yet"
    assert client.get("/studio/").status_code == 302
    assert client.post("/log-in/second-factor/", {"code": "000000"}).status_code == 200
    assert client.get("/studio/").status_code == 302
    code = code_of(secret)
    assert client.post("/log-in/second-factor/", {"code": code}).status_code == 302
    assert client.get("/studio/").status_code == 200
    assert "known_browser" in client.cookies
    # Whoever looked over the shoulder has a code that is used, however it is typed.
    thief, _ = log_in("uma")
    for typed in (code, f"{code[:3]} {code[3:]}", f"{code[:3]}-{code[3:]}"):
        # allauth remembers used codes in the cache, of which each process has its own.
        cache.clear()
        again = thief.post("/log-in/second-factor/", {"code": typed})
        assert "was used already" in again.content.decode()
    assert list(
        Event.objects.filter(action="account.second_factor_added").values_list(
            "data__kind", flat=True
        )
    ) == ["totp", "recovery_codes"]


def test_a_recovery_code_opens_once(uma: Account) -> None:
    factories.address_confirmed(uma)
    first, _ = log_in("uma")
    app_set_up(first)
    code = first.get(SECOND + "recovery-codes/").context["unused_codes"][0]
    for expected in (302, 200):
        client, _ = log_in("uma")
        assert client.post("/log-in/second-factor/", {"code": code}).status_code == expected


def test_codes_are_not_tried_out(uma: Account) -> None:
    factories.address_confirmed(uma)
    first, _ = log_in("uma")
    secret = app_set_up(first)
    client, _ = log_in("uma")
    for number in range(10):
        assert client.post("/log-in/second-factor/", {"code": f"{number:06}"}).status_code == 200
    answer = client.post("/log-in/second-factor/", {"code": code_of(secret)})
    assert answer.status_code == 429
    assert "Wait 10 minutes" in answer.content.decode()


def test_the_picture_for_the_app_is_a_file_of_our_own_and_its_owners_alone(uma: Account) -> None:
    factories.address_confirmed(uma)
    client, _ = log_in("uma")
    assert client.get(SECOND + "app/code.svg").status_code == 404
    confirm(client)
    page = client.get(SECOND + "app/").content.decode()
    assert 'src="/account/second-factor/app/code.svg"' in page
    assert "data:image" not in page
    drawing = client.get(SECOND + "app/code.svg")
    assert drawing["Content-Type"] == "image/svg+xml"
    assert drawing.content.count(b"<svg") == 1
    assert b"style=" not in drawing.content
    assert "no-store" in drawing["Cache-Control"]


@pytest.fixture
def in_production(settings: Any) -> None:
    settings.REQUIRE_MFA = True


SQUATTED = {"username": "squatter", "email": "zoe@example.org", "password": "four plain words"}
SET_UP = [SECOND + "app/", SECOND + "passkeys/add/"]


def _squat() -> Client:
    """Sign up with an address of somebody else."""
    client = Client()
    assert client.post("/sign-up/", SQUATTED).status_code == 302
    return client


def _owner_resets() -> tuple[Client, Any]:
    """Let the owner of the letter box ask for a new password, and choose it."""
    client = Client()
    client.post("/log-in/forgotten/", {"email": "zoe@example.org"})
    letter = next(each for each in reversed(mail.outbox) if "forgotten" in each.body)
    form = client.get(link_in(letter), follow=True)
    typed = {"password1": "a word of my own", "password2": "a word of my own"}
    return client, client.post(form.context["action_url"], typed)


@pytest.mark.parametrize("door", SET_UP)
def test_nobody_sets_one_up_before_the_address_is_confirmed(door: str, db: None) -> None:
    client = _squat()
    confirm_link = link_in(mail.outbox[-1])
    for answer in (client.get(door), client.post(door, {"code": "000000"})):
        assert answer["Location"] == "/account/e-mail/"
    said = client.get("/account/e-mail/").content.decode()
    assert "Confirm your e-mail address first" in said
    assert "Send the letter again" in said
    client.post(confirm_link)
    assert client.get(door)["Location"].startswith("/account/confirm/")


def test_who_owns_an_address_gets_the_account_that_somebody_else_made_with_it(db: None) -> None:
    squatter = _squat()
    owner, _ = _owner_resets()
    assert owner.get("/studio/").status_code == 200
    assert squatter.get("/studio/").status_code == 302
    # The letter has shown whose the address is.
    assert owner.get(SET_UP[0])["Location"].startswith("/account/confirm/")
    assert Event.objects.filter(action="account.second_factor_reset").count() == 0


def _squatter_has_an_app(settings: Any, *, role: Role) -> Account:
    """Let a squatter have had a role that needs a second factor, and then another."""
    client = _squat()
    settings.REQUIRE_MFA = True
    Account.objects.update(role=Role.MODERATOR)
    client.post("/account/confirm/", {"password": SQUATTED["password"]})
    form = client.get(SECOND + "app/").context["form"]
    client.post(SECOND + "app/", {"code": code_of(form.secret)})
    assert Authenticator.objects.filter(type="totp").exists()
    Account.objects.update(role=role)
    return Account.objects.get()


def test_a_second_factor_from_before_anybody_confirmed_the_address_gives_way(
    db: None, settings: Any
) -> None:
    _squatter_has_an_app(settings, role=Role.CREATOR)
    owner, _ = _owner_resets()
    assert owner.get("/studio/").status_code == 200
    assert not Authenticator.objects.exists()
    assert Event.objects.filter(action="account.second_factor_reset").count() == 1


@pytest.mark.parametrize("case", ["confirmed", "of the team"])
def test_a_letter_alone_opens_no_account_whose_second_factor_is_its_owners(
    case: str, db: None, settings: Any
) -> None:
    role = Role.CREATOR if case == "confirmed" else Role.MODERATOR
    account = _squatter_has_an_app(settings, role=role)
    if case == "confirmed":
        account.emailaddress_set.update(verified=True)  # type: ignore[attr-defined]
    client, answer = _owner_resets()
    assert answer["Location"].startswith("/log-in/second-factor/")
    assert client.get("/studio/").status_code == 302
    assert Authenticator.objects.filter(type="totp").exists()


TEAM = [role for role in Role if role != Role.CREATOR]


@committed
@pytest.mark.parametrize("role", TEAM)
def test_every_role_of_the_team_is_led_to_a_second_factor(
    role: Role, in_production: None, policy: Any
) -> None:
    person = factories.account("sam", role=role)
    client, _ = log_in("sam")
    for address in ("/console/", "/admin/", "/studio/", "/"):
        assert client.get(address)["Location"] == SECOND
    assert "Your role needs a second factor" in client.get(SECOND).content.decode()
    secret = app_set_up(client)
    # Whoever has just set one up need not show it again ...
    assert client.get("/console/").status_code == 200
    # ... and whoever logs in anew shows it.
    again, _ = log_in("sam")
    assert again.get("/console/").status_code == 302
    again.post("/log-in/second-factor/", {"code": code_of(secret)})
    assert again.get("/console/").status_code == 200
    # The last one stays.
    answer = client.post(SECOND + "app/remove/")
    assert "Your role needs a second factor" in answer.content.decode()
    assert Authenticator.objects.filter(user=person, type="totp").exists()


def test_creators_may_and_need_not(in_production: None, uma: Account) -> None:
    factories.address_confirmed(uma)
    client, _ = log_in("uma")
    assert client.get("/studio/").status_code == 200
    app_set_up(client)
    assert client.post(SECOND + "app/remove/").status_code == 302
    assert not Authenticator.objects.exists()


@committed
def test_whoever_may_enter_the_admin_needs_one_whatever_the_role(
    in_production: None, uma: Account
) -> None:
    Account.objects.filter(pk=uma.pk).update(is_staff=True, is_superuser=True)
    client, _ = log_in("uma")
    assert client.get("/admin/")["Location"] == SECOND
    app_set_up(client)
    assert client.get("/admin/").status_code == 200


def test_a_stolen_session_from_before_shows_the_second_factor_and_adds_none(
    in_production: None, mo: Account, policy: Any
) -> None:
    thief, _ = log_in("mo")
    owner, _ = log_in("mo")
    secret = app_set_up(owner)
    asked = thief.get("/console/?state=open")
    assert asked["Location"] == "/account/confirm/code/?next=%2Fconsole%2F%3Fstate%3Dopen"
    # With the password too, no second factor of the thief's own.
    thief.post("/account/confirm/", {"password": factories.PASSWORD})
    assert "/account/confirm/code/" in thief.get(SECOND + "passkeys/add/")["Location"]
    assert thief.post("/account/confirm/code/", {"code": "123123"}).status_code == 200
    assert thief.get("/console/").status_code == 302
    # Mo's own other browser shows it and goes on where it was.
    answer = thief.post(asked["Location"], {"code": code_of(secret)})
    assert answer["Location"] == "/console/?state=open"
    assert thief.get("/console/").status_code == 200


def test_whoever_is_given_a_role_is_asked_at_the_next_press(
    in_production: None, uma: Account
) -> None:
    client, _ = log_in("uma")
    Account.objects.filter(pk=uma.pk).update(role=Role.MODERATOR)
    assert client.get("/console/")["Location"] == SECOND


def test_an_operator_gives_a_new_start_to_whoever_lost_everything(
    in_production: None, mo: Account, ada: Account
) -> None:
    client, _ = log_in("mo")
    app_set_up(client)
    out = StringIO()
    call_command("second_factor", "list", "--json", stdout=out)
    assert json.loads(out.getvalue()) == [{"name": "ada", "role": "senior_moderator"}]
    call_command("second_factor", "reset", "mo", stdout=StringIO())
    assert client.get("/console/")["Location"] == SECOND
    assert Event.objects.filter(action="account.second_factor_reset").count() == 1


def _stored(secret: str) -> set[str]:
    """Return what the database keeps encrypted; ``secret`` must not stand in it in clear."""
    rows = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in rows
    return set(re.findall(r'"(gAAAA[^"]+)"', rows))


def _opens(code: str) -> int:
    client, _ = log_in("uma")
    return client.post("/log-in/second-factor/", {"code": code}).status_code


def test_no_secret_of_a_second_factor_stands_in_the_database(uma: Account) -> None:
    factories.address_confirmed(uma)
    client, _ = log_in("uma")
    secret = app_set_up(client)
    assert len(_stored(secret)) == 2, "the app, and the seed of the recovery codes"
    assert _opens(code_of(secret)) == 302


def test_the_key_of_stored_secrets_is_changed_while_people_log_in(
    uma: Account, settings: Any
) -> None:
    factories.address_confirmed(uma)
    client, _ = log_in("uma")
    secret = app_set_up(client)
    codes = iter(client.get(SECOND + "recovery-codes/").context["unused_codes"])
    before = _stored(secret)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key, as long and as random as the one before it"
    assert _opens(next(codes)) == 302
    out = StringIO()
    call_command("second_factor", "encrypt", stdout=out)
    assert "2 encrypted" in out.getvalue()
    assert not before & _stored(secret)
    settings.SECRET_KEY_FALLBACKS = []
    assert _opens(next(codes)) == 302
    # Without its key a secret opens nothing, and says so.
    settings.SECRET_KEY = "a key that nothing was ever stored under, for good measure"
    client, _ = log_in("uma")
    answer = client.post("/log-in/second-factor/", {"code": code_of(secret)})
    assert answer.status_code == 503
    assert "cannot be read" in answer.content.decode()
    with pytest.raises(CommandError, match="none of the keys"):
        call_command("second_factor", "encrypt", stdout=StringIO())


def test_a_secret_that_was_stored_in_clear_opens_and_is_encrypted_by_command(
    uma: Account,
) -> None:
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    Authenticator.objects.create(user=uma, type="totp", data={"secret": secret})
    assert _opens(code_of(secret, step=-1)) == 302
    call_command("second_factor", "encrypt", stdout=StringIO())
    assert len(_stored(secret)) == 1
    assert _opens(code_of(secret)) == 302


def test_no_secret_of_a_second_factor_is_shown_in_the_admin(db: None) -> None:
    adam = factories.account("adam", role=Role.ADMIN)
    Account.objects.filter(pk=adam.pk).update(is_staff=True, is_superuser=True)
    client, _ = log_in("adam")
    index = client.get("/admin/").content.decode()
    assert "/admin/moderation/account/" in index
    assert "/admin/mfa/" not in index
    assert client.get("/admin/mfa/authenticator/").status_code == 404


def test_the_demo_logs_in_simply(settings: Any) -> None:
    assert settings.REQUIRE_MFA is False
    assert reverse("account_login") == LOG_IN
