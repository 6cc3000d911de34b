"""Decisions: a person applies an action to a version, under named rules, with facts in words.

Writes ``Decision``, the version's visibility, the reports' outcomes and the notices, all in one
transaction. A decision is never edited afterwards.
"""

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_impartial
from moderation.cases import case_transition
from moderation.errors import Conflict, Invalid
from moderation.models import Account, Case, Decision, ModelVersion, Policy, Rule
from moderation.notices import notice_issue
from moderation.statements import statement_of
from moderation.states import (
    APPEAL_WINDOW,
    REACHABLE,
    RESTRICTIONS,
    VISIBILITY_AFTER,
    Action,
    CaseState,
    Concern,
    Outcome,
    ReportState,
    Visibility,
    may_follow,
)

FACTS_LENGTH = 5000


def decision_make(
    *,
    case: Case,
    action: Action,
    rules: Sequence[str],
    facts: str,
    private_note: str = "",
    reports_seen: int | None = None,
    actor: Account,
) -> Decision:
    """Decide a case and tell everybody concerned.

    ``rules`` are slugs of the active policy and may be empty only for an approval.
    ``reports_seen`` is how many reports were on the page: nobody is told that a person read
    their report unless one did. Raises Conflict if more have come in or the case is not in this
    moderator's hands, NotAllowed for a conflict of interest, Invalid where rule or facts are
    missing.
    """
    facts = facts.strip()
    clauses = _check_reasons(action, rules, facts)
    with transaction.atomic():
        # The version before the case, as everywhere: two orders would be a deadlock.
        version = ModelVersion.objects.select_for_update(no_key=True).get(pk=case.version_id)
        case = (
            Case.objects.select_for_update(of=("self",), no_key=True)
            .select_related("version__uploaded_model__creator")
            .get(pk=case.pk)
        )
        require_impartial(actor, case.version)
        _require_held(case, actor)
        if reports_seen is not None and case.reports.count() > reports_seen:
            raise Conflict(
                "More reports came in while you were looking. They are on this page now: read "
                "them, then decide.",
                code="new_reports",
            )
        decision = _write(case, version, action, clauses, facts, private_note.strip(), actor)
        case_transition(
            case=case,
            to=CaseState.DECIDED if action in RESTRICTIONS else CaseState.CLOSED,
            actor=actor,
            claimed_by=None,
            claimed_until=None,
            closed_at=None if action in RESTRICTIONS else timezone.now(),
        )
        _tell(decision, case)
    return decision


def _check_reasons(action: Action, slugs: Sequence[str], facts: str) -> list[Rule]:
    if not facts:
        raise Invalid("Say in words what you saw: the creator reads it.", field="facts")
    if len(facts) > FACTS_LENGTH:
        raise Invalid(
            f"The facts are {len(facts):,} characters long; {FACTS_LENGTH:,} are the most.",
            field="facts",
        )
    rules = list(
        Rule.objects.filter(policy__is_active=True, slug__in=slugs).select_related("policy")
    )
    unknown = sorted(set(slugs) - {rule.slug for rule in rules})
    if unknown:
        raise Invalid(f"The policy in force has no rule “{unknown[0]}”.", field="rules")
    if action in RESTRICTIONS and not rules:
        raise Invalid("Name at least one rule: nothing is restricted without one.", field="rules")
    for rule in rules:
        if action in RESTRICTIONS and action not in rule.actions:
            raise Invalid(
                f"The rule “{rule.title}” does not allow “{action.label}”.", field="action"
            )
    return rules


def _require_held(case: Case, actor: Account) -> None:
    if case.state == CaseState.CLAIMED and case.claimed_by_id == actor.pk:
        return
    last = case.decisions.order_by("-decided_at").first()
    if last is not None and case.state not in {CaseState.QUEUED, CaseState.CLAIMED}:
        raise Conflict(
            f"{last.decided_by.username} has decided this case already: "
            f"{last.get_action_display()}.",
            code="already_decided",
        )
    if case.claimed_by is not None:
        raise Conflict(
            f"{case.claimed_by.username} has this case. Nothing was decided.", code="claimed"
        )
    raise Conflict("Claim the case first, then decide it.", code="not_claimed")


def _write(
    case: Case,
    version: ModelVersion,
    action: Action,
    rules: list[Rule],
    facts: str,
    private_note: str,
    actor: Account,
) -> Decision:
    now = timezone.now()
    before = Visibility(version.visibility)
    after = VISIBILITY_AFTER[action]
    if action == Action.APPROVE and before != Visibility.QUARANTINED:
        # A report that was not borne out leaves everything as it is.
        after = before
    if after != before and not may_follow(Visibility, before, after):
        raise Conflict(f"A version that is “{before.label}” cannot become “{after.label}”.")
    decision = Decision.objects.create(
        case=case,
        version=version,
        action=action,
        policy=rules[0].policy if rules else Policy.objects.get(is_active=True),
        clauses=[
            {"slug": rule.slug, "title": rule.title, "text": rule.text, "advice": rule.advice}
            for rule in rules
        ],
        facts=facts,
        private_note=private_note,
        decided_by=actor,
        creator=version.uploaded_model.creator,
        automated_detection=version.findings.filter(outcome=Outcome.SCORED)
        .exclude(concern=Concern.NONE)
        .exists(),
        previous_visibility=before,
        new_visibility=after,
        appeal_until=now + APPEAL_WINDOW if action in RESTRICTIONS else None,
        decided_at=now,
    )
    decision.rules.set(rules)
    version.visibility = after
    if after in REACHABLE and version.published_at is None:
        version.published_at = now
    version.save(update_fields=["visibility", "published_at"])
    event_record(
        action="decision.made",
        actor=actor,
        version=version,
        case=case,
        data={
            "decision": decision.code,
            "action": action,
            "rules": [rule.slug for rule in rules],
            "from": before,
            "to": after,
        },
    )
    return decision


def _tell(decision: Decision, case: Case) -> None:
    """Give the creator the reasons, and every reporter the outcome."""
    notice_issue(
        kind=f"decision_{decision.action}",
        version=decision.version,
        account=decision.creator,
        decision=decision,
        extra={"statement": statement_of(decision)},
    )
    acted = decision.action in RESTRICTIONS
    outcome = ReportState.ACTED if acted else ReportState.NO_ACTION
    for report in case.reports.filter(state=ReportState.OPEN).select_related("reporter"):
        report.state = outcome
        report.answered_at = decision.decided_at
        report.save(update_fields=["state", "answered_at"])
        notice_issue(
            kind=f"report_{outcome}",
            version=decision.version,
            account=report.reporter,
            email=report.email,
            report=report,
            extra={"clauses": decision.clauses},
        )
