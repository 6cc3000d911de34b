"""A house with everybody in it and one thing in every state that matters, for the access matrix."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from allauth.mfa.models import Authenticator
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client, override_settings
from django.utils import timezone

from moderation.appeals import appeal_file, appeal_file_by_reporter
from moderation.decisions import decision_make
from moderation.downloads import download_link
from moderation.external import external_account
from moderation.holds import holds_place
from moderation.inquiries import inquiry_send
from moderation.intake import version_withdraw
from moderation.likeness import likeness_request
from moderation.models import (
    Account,
    Appeal,
    AppealFile,
    AuditItem,
    Case,
    ChildSafetyRecord,
    Decision,
    FileReference,
    Finding,
    ModelVersion,
    Notice,
    Report,
    ReportEvidence,
    ReportingMeasure,
    ReviewItem,
    Rule,
    SavedFilter,
    Upload,
    Webhook,
)
from moderation.queue import case_claim, case_escalate
from moderation.reports import report_file
from moderation.states import Action, NoticeState, Role, Scope
from moderation.tokens import token_create, token_revoke
from tests import factories

FACTS = "The first preview shows a red star."

# Made by a browser with a virtual device, for localhost.
PASSKEY = {
    "type": "public-key",
    "id": "Q5_mdIh-2W073GQE0LKaGPcnb_HCRxB_aFWlBjDVsmY",
    "rawId": "Q5_mdIh-2W073GQE0LKaGPcnb_HCRxB_aFWlBjDVsmY",
    "response": {
        "clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIiwiY2hhbGxlbmdlIjoiRjg2MDg3ckQxbVZLUlVk"
        "a2dHV211Rm96akdtWGdfRmpxX293VVpsUW9LayIsIm9yaWdpbiI6Imh0dHA6Ly9sb2NhbGhvc3QiLCJjcm9zc09yaW"
        "dpbiI6ZmFsc2V9",
        "attestationObject": "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YVikSZYN5YgOjGh0NBcPZHZgW4_krrmih"
        "j"
        "LHmVzzuoMdl2NFAAAAAQECAwQFBgcIAQIDBAUGBwgAIEOf5nSIftltO9xkBNCymhj3J2_xwkcQf2hVpQYw1bJmpQEC"
        "AyYgASFYIDolH00TQfHuhYMEuTiQhBz6FtQFg1TKJBbdKBZf3ClfIlggE9pkEv-7pUQfBtoAjf7rDxGMVxsPraCLeh"
        "MMc36usSs",
    },
    "clientExtensionResults": {"credProps": {"rk": True}},
}


@dataclass
class World:
    """Who there is, how they ask, and what stands in an address for each state."""

    cookies: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)


def world_build() -> World:
    """Make the house. Everybody's session has just shown who they are, by what they have."""
    world = World()
    cast: dict[str, tuple[Role, bool]] = {
        "uma": (Role.CREATOR, False),
        "nobody": (Role.CREATOR, False),
        "rui": (Role.CREATOR, False),
        "sid": (Role.CREATOR, False),
        "mo": (Role.MODERATOR, True),
        "wim": (Role.MODERATOR, True),
        "bo": (Role.MODERATOR, False),
        "ada": (Role.SENIOR_MODERATOR, True),
        "pia": (Role.POLICY_LEAD, True),
        "chris": (Role.CHILD_SAFETY, True),
        "adam": (Role.ADMIN, True),
    }
    people = {name: factories.account(name, role=role) for name, (role, _) in cast.items()}
    Account.objects.filter(pk=people["sid"].pk).update(suspended_at=timezone.now())
    Account.objects.filter(pk=people["adam"].pk).update(is_staff=True, is_superuser=True)
    for name, (_, has_factor) in cast.items():
        world.cookies[name] = _session(people[name], has_factor=has_factor)
    world.cookies["visitor"] = ""
    _of_creators(world, people)
    _of_moderators(world, people)
    _of_people(world, people)
    _of_marketplaces(world)
    return world


def _session(account: Account, *, has_factor: bool) -> str:
    method = "password"
    if has_factor:
        Authenticator.objects.create(user=account, type="totp", data={"secret": "A" * 32})
        method = "mfa"
    client = Client()
    client.force_login(account)
    session = client.session
    shown = {"method": method, "at": time.time(), "reauthenticated": True}
    session["account_authentication_methods"] = [shown]
    session["account_authentication_methods_user"] = str(account.pk)
    session.save()
    return str(session.session_key)


def _stored() -> str:
    return default_storage.save(f"access/{uuid.uuid4().hex}", ContentFile(b"kept"))


def _version(version: ModelVersion) -> dict[str, Any]:
    file, preview = version.files.get(), version.previews.get()
    finding = version.findings.first()
    return {
        "version": version.code,
        "file": file.code,
        "item": preview.code,
        "preview": preview.code,
        "signed": download_link(file).split("/")[2],
        "finding": finding.pk if finding else 0,
    }


def _case(case: Case, **more: Any) -> dict[str, Any]:
    return {**_version(case.version), "case": case.code, **more}


def _of_creators(world: World, people: Mapping[str, Account]) -> None:
    uma, states = people["uma"], world.states
    for name, creator in (("draft", uma), ("draft of sid", people["sid"])):
        draft = factories.draft(creator)
        upload = Upload.objects.create(
            version=draft,
            creator=creator,
            name="more.safetensors",
            size=10,
            part_size=10,
            key=f"access/{uuid.uuid4().hex}",
            touched_at=timezone.now(),
        )
        states[name] = {**_version(draft), "upload": upload.code}
    states["quarantined"] = _version(factories.submitted(uma))
    published = factories.published(uma)
    Finding.objects.filter(version=published).update(
        preview=published.previews.get(),
        rule=Rule.objects.get(slug="red-star"),
        evidence={"deciding": {"concept": "red-star"}},
    )
    states["published"] = _version(published)
    AuditItem.objects.create(preview=published.previews.get(), drawn_at=timezone.now())
    withdrawn = factories.published(uma)
    version_withdraw(version=withdrawn, actor=uma)
    states["withdrawn"] = _version(withdrawn)
    states["hidden by clock"] = _version(_hidden_by_clock(factories.published(uma)))


def _hidden_by_clock(version: ModelVersion) -> ModelVersion:
    """Let the 48 hours of a depicted person run out without a decision."""
    report = report_file(version=version, text="This is me.", actor=None)
    now = timezone.now()
    Report.objects.filter(pk=report.pk).update(due_at=now)
    ModelVersion.objects.filter(pk=version.pk).update(hidden_from=now)
    holds_place()
    return version


def _of_moderators(world: World, people: Mapping[str, Account]) -> None:
    uma, rui, mo, states = people["uma"], people["rui"], people["mo"], world.states

    def of_decision(decision: Decision, **more: Any) -> dict[str, Any]:
        item = ReviewItem.objects.filter(decision=decision).first()
        return _case(
            decision.case,
            decision=decision.code,
            review=item.code if item else "AAAAAAAAAA",
            **more,
        )

    heart = case_claim(case=factories.held(uma), actor=mo)
    decision = decision_make(
        case=heart,
        action=Action.AGE_RESTRICT,
        rules=["purple-heart"],
        facts="A purple heart.",
        actor=mo,
    )
    states["age-restricted"] = of_decision(decision)
    states["held"] = _case(factories.held(uma, rule="red-star"))
    states["held, of wim"] = _case(factories.held(people["wim"]))
    claimed = case_claim(case=factories.held(uma), actor=mo)
    states["claimed by mo"] = _case(claimed)
    asked = case_claim(case=factories.held(uma), actor=mo)
    inquiry = inquiry_send(case=asked, text="Whose face is it?", actor=mo)
    states["asked"] = _case(asked, inquiry=inquiry.code)
    escalated = case_claim(case=factories.held(uma), actor=mo)
    case_escalate(case=escalated, note="Hard to say.", actor=mo)
    states["escalated"] = _case(escalated)
    with override_settings(SECOND_REVIEW_SHARE=1.0):
        removed = factories.decided(uma, mo)
        states["removed"] = of_decision(removed)
        approved = factories.decided(uma, mo, action=Action.APPROVE)
        states["approved"] = of_decision(approved)
        states["removed, of wim"] = of_decision(factories.decided(people["wim"], mo))
    with override_settings(SECOND_PERSON_FOR=["popular"], POPULAR_DOWNLOADS=-1):
        states["needs a second person"] = of_decision(factories.decided(uma, mo))
    with override_settings(UNDO_SECONDS=600):
        states["can be undone"] = of_decision(factories.decided(uma, mo))
    appealed = factories.decided(uma, mo)
    appeal = appeal_file(decision=appealed, text="It is a leaf.", actor=uma)
    states["appealed"] = of_decision(appealed, appeal=appeal.code, appeal_file=_appeal_file(appeal))
    apart = case_claim(case=factories.held(uma, rule="red-star"), actor=mo)
    decision = decision_make(
        case=apart, action=Action.CHILD_SAFETY, rules=["red-star"], facts=FACTS, actor=mo
    )
    record = ChildSafetyRecord.objects.get().code
    states["held apart"] = of_decision(decision, record=record)
    with override_settings(SECOND_PERSON_FOR=["child_safety"]):
        unconfirmed = factories.decided(uma, mo, action=Action.CHILD_SAFETY)
    states["held apart, unconfirmed"] = of_decision(unconfirmed)
    hearable = factories.decided(uma, mo, action=Action.CHILD_SAFETY)
    appeal = appeal_file(decision=hearable, text="It is a doll.", actor=uma)
    record = ChildSafetyRecord.objects.get(version=hearable.version).code
    states["held apart, appealed"] = of_decision(hearable, record=record, appeal=appeal.code)

    reported = factories.published(uma)
    report = report_file(version=reported, text="A star.", actor=rui)
    evidence = ReportEvidence.objects.create(report=report, name="seen.png", content=_stored())
    assert report.case is not None
    states["reported by rui"] = _case(
        report.case, report=report.code, token=report.token, evidence=evidence.code
    )
    left = factories.published(uma)
    report = report_file(version=left, text="A star.", actor=rui)
    assert report.case is not None
    case_claim(case=report.case, actor=mo)
    decision = decision_make(
        case=report.case, action=Action.APPROVE, rules=[], facts="A leaf.", actor=mo
    )
    report = Report.objects.get(pk=report.pk)
    states["left standing"] = of_decision(decision, token=report.token)
    other = factories.published(uma)
    report = report_file(version=other, text="A star.", actor=rui)
    assert report.case is not None
    case_claim(case=report.case, actor=mo)
    decision = decision_make(
        case=report.case, action=Action.APPROVE, rules=[], facts="A leaf.", actor=mo
    )
    report = Report.objects.get(pk=report.pk)
    appeal = appeal_file_by_reporter(report=report, text="Look again.", actor=rui)
    states["appealed by rui"] = of_decision(
        decision, token=report.token, appeal_file=_appeal_file(appeal)
    )


def _appeal_file(appeal: Appeal) -> str:
    made = AppealFile.objects.create(
        appeal=appeal, name="proof.txt", content=_stored(), kind="text", size=4, sha256="a" * 64
    )
    return made.code


def _of_people(world: World, people: Mapping[str, Account]) -> None:
    states, rui, now = world.states, people["rui"], timezone.now()
    measure = ReportingMeasure.objects.create(
        account=rui,
        measure="warning",
        state="in_force",
        proposed_at=now,
        figures={"unfounded": 10, "answered": 12, "share": 0.8, "gravity": 3},
        reason="Ten without any ground.",
        decided_by=people["mo"],
        decided_at=now,
        appeal_until=now + timedelta(days=184),
    )
    states["measure against rui"] = {"measure": measure.code}
    proposed = ReportingMeasure.objects.create(
        account=people["nobody"],
        measure="warning",
        proposed_at=now,
        figures={"unfounded": 10, "answered": 12, "share": 0.8, "gravity": 3},
    )
    states["proposed against nobody"] = {"measure": proposed.code}
    letter = Notice.objects.filter(recipient=people["uma"], email__gt="").first()
    assert letter is not None
    states["letter to uma"] = {"notice": letter.code}
    dead = Notice.objects.filter(recipient=people["uma"], email__gt="").exclude(pk=letter.pk)
    lost = dead.first()
    assert lost is not None
    Notice.objects.filter(pk=lost.pk).update(state=NoticeState.DEAD)
    states["dead letter"] = {"notice": lost.code}
    saved = SavedFilter.objects.create(account=people["mo"], name="mine", query="state=open")
    states["view of mo"] = {"saved": saved.pk}
    shown = ModelVersion.objects.get(code=states["published"]["version"])
    request = likeness_request(
        models=f"/models/{shown.code}/",
        email="dora@example.org",
        signature="Dora",
        text="It is me.",
        agrees=True,
    )
    states["private link"] = {"likeness": request.token}
    address = EmailAddress.objects.create(user=people["uma"], email="uma@example.org")
    states["letter's link"] = {
        "confirmation": EmailConfirmationHMAC(address).key,
        "uidb36": "1",
        "reset": "made-up",
    }
    passkey = Authenticator.objects.create(
        user=people["nobody"], type="webauthn", data={"name": "laptop", "credential": PASSKEY}
    )
    states["passkey of nobody"] = {"passkey": passkey.pk}
    states["concept"] = {"rule": "red-star", "concept": "red-star", "table": "rules"}


def _not_fetched(draft: ModelVersion) -> FileReference:
    return FileReference.objects.create(
        version=draft,
        kind="file",
        url="https://files.example.org/b.safetensors",
        name="b.safetensors",
        sha256="b" * 64,
        state="dead",
        error="It answered 404.",
        not_before=timezone.now(),
    )


def _of_marketplaces(world: World) -> None:
    shop, other = factories.account("shop"), factories.account("other-shop")
    closed = factories.account("closed-shop")
    scopes: dict[str, tuple[Account, list[str]]] = {
        "all": (shop, list(Scope.values)),
        "other": (other, list(Scope.values)),
        "revoked": (shop, list(Scope.values)),
        "closed": (closed, list(Scope.values)),
        **{scope: (shop, [scope]) for scope in Scope.values},
    }
    world.keys["none"] = ""
    for name, (account, wanted) in scopes.items():
        token, world.keys[name] = token_create(
            account=account, name=name, scopes=wanted, actor=None
        )
        if name == "revoked":
            token_revoke(token=token, actor=None)
    Account.objects.filter(pk=closed.pk).update(is_active=False)
    with external_account(marketplace=shop, external_id="42") as user:
        pass
    mo = Account.objects.get(username="mo")
    webhook = Webhook.objects.create(account=shop, url="https://shop.example.org/", secret="x")
    states = world.states
    states["api draft"] = {"code": factories.draft(user).code}
    published = factories.published(user)
    states["api published"] = {"code": published.code}
    removed = factories.decided(user, mo)
    states["api removed"] = {"code": removed.version.code}
    states["api decision"] = {"code": removed.code}
    appealed = factories.decided(user, mo)
    appeal = appeal_file(decision=appealed, text="A leaf.", actor=user)
    states["api appeal"] = {"code": appeal.code}
    with external_account(marketplace=shop, external_id="7") as reporter:
        report = report_file(version=published, text="A star.", actor=reporter)
    states["api report"] = {"code": report.code, "version": published.code}
    left = factories.published(user)
    answered = report_file(version=left, text="A star.", actor=reporter)
    assert answered.case is not None
    case_claim(case=answered.case, actor=mo)
    decision_make(case=answered.case, action=Action.APPROVE, rules=[], facts="A leaf.", actor=mo)
    states["api answered report"] = {"code": answered.code}
    hidden = _hidden_by_clock(factories.published(user))
    states["api hidden by clock"] = {"code": hidden.code}
    states["api reference"] = {"code": _not_fetched(factories.draft(user)).code}
    states["api webhook"] = {"code": webhook.code}
