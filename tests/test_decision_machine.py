"""Report, decide, undo, confirm, appeal, take back and take down, in any order, on one target.

Some hundreds of steps here, the same ones each time; ten thousand of chance's own with
``MACHINE_STEPS=10000 pytest tests/test_decision_machine.py``.
"""

import os
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from moderation.appeals import appeal_file, appeal_file_by_reporter
from moderation.decisions import (
    decision_cancel,
    decision_confirm,
    decision_make,
    decision_reverse,
    decision_undo,
)
from moderation.effects import restrictions_standing
from moderation.enforcement import decisions_enforce_due
from moderation.errors import Refusal
from moderation.hearings import appeal_answer
from moderation.holds import holds_place
from moderation.intake import version_withdraw
from moderation.likeness import likeness_confirm, likeness_request
from moderation.models import (
    Account,
    Appeal,
    Case,
    Decision,
    Effect,
    Hold,
    LikenessRequest,
    ModelVersion,
    Notice,
    Report,
    StatementOfReasons,
)
from moderation.policy import policy_import, policy_read
from moderation.queue import case_claim
from moderation.report_changes import likeness_withdraw
from moderation.reports import report_file
from moderation.states import (
    ANSWERED_REPORTS,
    CAME_INTO_FORCE,
    COUNTED,
    OPEN_CASES,
    REACHABLE,
    RESTRICTIONS,
    Action,
    AppealState,
    CaseState,
    EffectState,
    Role,
)
from tests import factories

ACTIONS = st.sampled_from(
    [
        Action.APPROVE,
        Action.LIMIT,
        Action.REMOVE,
        Action.STRIKE,
        Action.LAW,
        Action.DISMISS,
    ]
)
# What lets people see what waited in quarantine, now or once it is taken back.
MOVING = [Action.APPROVE, Action.LIMIT, Action.REMOVE]
TEAM = ("mo", "ada", "sam", "kim")
PEOPLE = st.sampled_from(TEAM)
OUTCOMES = st.sampled_from(
    [AppealState.UPHELD, AppealState.OVERTURNED, AppealState.MODIFIED, AppealState.REMANDED]
)


def _when(**filters: Any) -> Any:
    """Try a rule only where a decision like this is there."""
    return precondition(lambda self: Decision.objects.filter(**filters).exists())


class OneTarget(RuleBasedStateMachine):
    """What anybody may do to one version, public or in quarantine, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.all = transaction.atomic()
        self.all.__enter__()
        self.now = timezone.now()

    @initialize(is_held=st.booleans(), is_quarantined=st.sampled_from([False, False, True]))
    def begin(self, is_held: bool, is_quarantined: bool) -> None:
        """Publish the version, or not; a second person is asked for overturning, or for nothing."""
        self.clock = mock.patch("django.utils.timezone.now", lambda: self.now)
        self.clock.start()
        settings.SECOND_PERSON_FOR = ["overturn", "popular"] if is_held else []
        settings.POPULAR_DOWNLOADS = -1
        policy_import(
            content=policy_read(settings.BASE_DIR / "moderation" / "policies" / "demo.yaml"),
            activate=True,
            actor=None,
        )
        self.people = {
            name: factories.account(name, role=Role.SENIOR_MODERATOR) for name in TEAM
        } | {name: factories.account(name) for name in ("uma", "rui")}
        self.refused = 0
        self.is_quarantined = is_quarantined
        if is_quarantined:
            self.version = factories.held(self.people["uma"]).version
        else:
            self.version = factories.published(self.people["uma"])
            report_file(version=self.version, text="Look.", actor=self.people["rui"])

    def teardown(self) -> None:
        """Let the clock run again, and forget everything."""
        if hasattr(self, "clock"):
            self.clock.stop()
        transaction.set_rollback(True)
        self.all.__exit__(None, None, None)

    def _try(self, deed: Any, **given: Any) -> None:
        """Do it, or be refused with a sentence; nothing else may happen."""
        # So that of two deeds one is the earlier.
        self.now += timedelta(milliseconds=1)
        try:
            with transaction.atomic():
                deed(**given)
        except Refusal as refusal:
            assert refusal.sentence
            self.refused += 1

    def _decisions(self, **filters: Any) -> list[Decision]:
        return list(Decision.objects.filter(**filters).select_related("effect").order_by("pk"))

    # --- What people do -------------------------------------------------------------------

    @rule(who=st.sampled_from(["rui", "mo", "", ""]))
    def report(self, who: str) -> None:
        """Somebody reports it."""
        self.version.refresh_from_db()
        person = self.people.get(who)
        self._try(report_file, version=self.version, text="Look.", actor=person)

    @precondition(lambda self: Case.objects.filter(state__in=OPEN_CASES).exists())
    @rule(who=PEOPLE, action=ACTIONS)
    def decide(self, who: str, action: Action) -> None:
        """A moderator takes the open case and decides it."""
        case = Case.objects.filter(state__in=OPEN_CASES).first()
        if case is None:
            return
        person = self.people[who]
        self._try(case_claim, case=case, actor=person)
        case.refresh_from_db()
        rules = ["red-star"] if action in RESTRICTIONS else []
        self._try(decision_make, case=case, action=action, rules=rules, facts="Seen.", actor=person)

    @_when(effect__state=EffectState.DUE)
    @rule(who=PEOPLE)
    def undo(self, who: str) -> None:
        """Somebody undoes the last decision."""
        for decision in self._decisions(effect__state=EffectState.DUE)[-1:]:
            self._try(decision_undo, decision=decision, actor=self.people[who])

    @_when(effect__state=EffectState.HELD)
    @rule(who=PEOPLE, confirms=st.booleans())
    def second_person(self, who: str, confirms: bool) -> None:
        """Somebody confirms or withdraws what is held."""
        for decision in self._decisions(effect__state=EffectState.HELD)[:1]:
            deed = decision_confirm if confirms else decision_cancel
            self._try(deed, decision=decision, actor=self.people[who])

    @precondition(lambda self: Effect.objects.filter(state__in=["due", "in_force"]).exists())
    @rule(seconds=st.sampled_from([11, 11, 11, 3, 86_400 * 100]))
    def wait(self, seconds: int) -> None:
        """Time goes by, and the sweeper comes."""
        self.now += timedelta(seconds=seconds)
        decisions_enforce_due()

    @_when(action__in=RESTRICTIONS, effect__state=EffectState.IN_FORCE)
    @rule(latest=st.booleans())
    def appeal(self, latest: bool) -> None:
        """The creator appeals a restriction."""
        found = self._decisions(action__in=RESTRICTIONS)
        if found:
            decision = found[-1 if latest else 0]
            self._try(appeal_file, decision=decision, text="No.", actor=self.people["uma"])

    @precondition(lambda self: Report.objects.exclude(state="open").exists())
    @rule(which=st.integers(0, 2))
    def appeal_as_reporter(self, which: int) -> None:
        """A reporter appeals that nothing was done."""
        for report in Report.objects.order_by("-pk")[which : which + 1]:
            self._try(appeal_file_by_reporter, report=report, text="Yes.", actor=report.reporter)

    @precondition(lambda self: Appeal.objects.filter(state=AppealState.OPEN).exists())
    @rule(who=PEOPLE, outcome=OUTCOMES, granted=st.sampled_from([Action.REMOVE, Action.LIMIT]))
    def answer(self, who: str, outcome: AppealState, granted: Action) -> None:
        """A moderator takes an appeal and answers it."""
        appeal = Appeal.objects.filter(state=AppealState.OPEN).first()
        if appeal is None:
            return
        person = self.people[who]
        self._try(case_claim, case=appeal.case, actor=person)
        instead = granted if appeal.side == "reporter" else Action.LIMIT
        self._try(
            appeal_answer,
            appeal=appeal,
            outcome=outcome,
            answer="Because.",
            action=instead,
            rules=["red-star"],
            actor=person,
        )

    @_when(action__in=RESTRICTIONS, effect__state=EffectState.IN_FORCE)
    @rule(who=PEOPLE)
    def take_back(self, who: str) -> None:
        """A moderator takes a restriction back."""
        for decision in self._decisions(action__in=RESTRICTIONS)[-1:]:
            self._try(decision_reverse, decision=decision, facts="Wrong.", actor=self.people[who])

    @rule()
    def ask_for_removal(self) -> None:
        """A depicted person asks that it be taken down, and confirms the letter."""
        asked = {"email": "dana@example.org", "signature": "Dana", "text": "Me.", "agrees": True}
        self._try(likeness_request, models=self.version.code, **asked)
        for request in LikenessRequest.objects.filter(valid_at=None):
            likeness_confirm(request=request)

    @precondition(lambda self: ModelVersion.objects.filter(hidden_from__isnull=False).exists())
    @rule(withdraws=st.sampled_from([False, False, True]))
    def clock(self, withdraws: bool) -> None:
        """The 48 hours come to their end, unless the person has taken the request back."""
        if withdraws:
            for request in LikenessRequest.objects.filter(withdrawn_at=None):
                self._try(likeness_withdraw, request=request)
        self.now += timedelta(hours=47)
        holds_place()

    @rule(really=st.sampled_from([False] * 9 + [True]))
    def take_down(self, really: bool) -> None:
        """The creator takes it down."""
        if really:
            self._try(version_withdraw, version=self.version, actor=self.people["uma"])

    # --- What holds at every moment --------------------------------------------------------

    @invariant()
    def no_report_is_lost(self) -> None:
        """Every report is answered, or waits on a case that somebody has yet to end."""
        if not hasattr(self, "version"):
            return
        for report in Report.objects.select_related("case"):
            moving = report.case.decisions.filter(
                effect__state__in=[EffectState.HELD, EffectState.DUE]
            ).exists()
            waits = report.case.state in OPEN_CASES or moving
            assert report.state != "open" or waits, report.case.state
            told = Notice.objects.filter(
                report=report, kind__in=["report_acted", "report_no_action"]
            ).count()
            reachable = report.reporter_id is not None or bool(report.email)
            assert told == (report.state in ANSWERED_REPORTS and reachable)

    @invariant()
    def every_restriction_in_force_has_one_statement_and_one_notice(self) -> None:
        """And what is not in force, or was undone, has none."""
        for decision in Decision.objects.filter(action__in=RESTRICTIONS).select_related("effect"):
            in_force = decision.effect.state == EffectState.IN_FORCE
            assert StatementOfReasons.objects.filter(decision=decision).count() == in_force
            told = Notice.objects.filter(decision=decision, kind__startswith="decision_").exclude(
                kind="decision_reverse"
            )
            assert told.count() == in_force

    @invariant()
    def every_hold_has_one_statement_and_one_notice_and_ends_with_what_it_waits_for(self) -> None:
        """Whatever people do before and after it."""
        for hold in Hold.objects.select_related("version"):
            assert StatementOfReasons.objects.filter(hold=hold).count() == 1
            asked_for = hold.version.reports.filter(state="open", due_at__isnull=False)
            assert hold.ended_at is not None or asked_for.exists()
        assert Notice.objects.filter(kind="held_by_clock").count() == Hold.objects.count()

    @invariant()
    def nobody_judges_their_own(self) -> None:
        """Nor what they reported before, nor the appeal against what they took part in."""
        if not hasattr(self, "version"):
            return
        reports = list(Report.objects.filter(reporter__isnull=False))

        def had_reported(person: int | None, moment: Any) -> bool:
            filed = [each.created_at for each in reports if each.reporter_id == person]
            return any(at < moment for at in filed)

        for effect in Effect.objects.select_related("decision"):
            assert effect.second_person_id != effect.decided_by_id
            assert self.people["uma"].pk not in {effect.decided_by_id, effect.second_person_id}
            assert not had_reported(effect.decided_by_id, effect.decision.decided_at)
            assert not had_reported(effect.second_person_id, effect.confirmed_at)
        for appeal in Appeal.objects.exclude(answered_by=None).select_related("decision"):
            beside = Decision.objects.filter(case=appeal.decision.case_id).exclude(appeal=appeal)
            before = beside.filter(decided_at__lte=appeal.filed_at)
            took_part = set(before.values_list("decided_by", flat=True)) | set(
                before.values_list("effect__second_person", flat=True)
            )
            assert appeal.answered_by_id not in took_part
            granting = appeal.outcomes.filter(decided_by=appeal.answered_by_id).first()
            answered = granting.decided_at if granting else appeal.answered_at
            assert not had_reported(appeal.answered_by_id, answered)

    @invariant()
    def the_clock_of_an_open_request_runs(self) -> None:
        """Whatever was decided about other reports in the meantime."""
        asked = Report.objects.filter(
            state="open", due_at__isnull=False, version__visibility__in=REACHABLE
        )
        assert not asked.filter(version__hidden_from__isnull=True).exists()

    @invariant()
    def no_appeal_waits_for_what_was_done(self) -> None:
        """Once a restriction stands in the place of what it is against, it is settled."""
        done = Decision.objects.filter(
            overrides=OuterRef("decision"),
            appeal__isnull=False,
            action__in=RESTRICTIONS,
            effect__state__in=CAME_INTO_FORCE,
        )
        assert not Appeal.objects.filter(Exists(done), state=AppealState.OPEN).exists()

    @invariant()
    def what_is_public_follows_from_what_stands(self) -> None:
        """A removal that stands hides it; nothing that stands leaves it as it was."""
        if not hasattr(self, "version"):
            return
        version = ModelVersion.objects.get(pk=self.version.pk)
        standing = [
            each.action
            for each in restrictions_standing(version)
            if each.action in {Action.LIMIT, Action.REMOVE}
        ]
        if version.withdrawn_at:
            assert version.visibility not in REACHABLE
        elif not standing:
            decided = Decision.objects.filter(
                action__in=MOVING, effect__state__in=CAME_INTO_FORCE
            ).exists()
            waits = self.is_quarantined and not decided
            assert version.visibility == ("quarantined" if waits else "published")
        elif standing[-1] == Action.REMOVE:
            assert version.visibility == "removed"
        else:
            assert version.visibility == "limited"

    @invariant()
    def a_case_under_appeal_has_an_open_appeal(self) -> None:
        """And no appeal is open on a case that has ended."""
        appealed = {CaseState.APPEALED, CaseState.HEARING, CaseState.RECONFIRM}
        for case in Case.objects.prefetch_related("appeals"):
            waiting = [each for each in case.appeals.all() if each.state == AppealState.OPEN]
            granted = any(
                each.outcomes.filter(effect__state__in=COUNTED).exists() for each in waiting
            )
            if case.state in appealed:
                assert waiting, case.state
            elif waiting:
                # Answered, and still to be undone.
                assert granted, case.state


STEPS = int(os.environ.get("MACHINE_STEPS", "300"))
STEPS_OF_ONE_RUN = 25


@pytest.mark.django_db
def test_in_whatever_order_nothing_is_lost_and_nobody_judges_their_own(settings: Any) -> None:
    settings.UNDO_SECONDS = 10
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OneTarget,
        settings=hypothesis_settings(
            max_examples=STEPS // STEPS_OF_ONE_RUN,
            stateful_step_count=STEPS_OF_ONE_RUN,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=STEPS <= 300,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            print_blob=True,
        ),
    )


@pytest.mark.django_db
def test_the_record_of_the_machine_cannot_be_rewritten(
    policy: Any, uma: Account, mo: Account
) -> None:
    """The statements it counts are immutable, so that counting them proves something."""
    factories.decided(uma, mo)
    with pytest.raises(IntegrityError), transaction.atomic():
        StatementOfReasons.objects.update(issued_at=timezone.now())
