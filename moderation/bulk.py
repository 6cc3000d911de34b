"""Many cases decided together: only what the moderator was shown, each with its own decision.

Every member is claimed and decided in a transaction of its own: one that fails is named, and
undoes none of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.core import signing

from moderation.authz import require_moderator
from moderation.decisions import decision_make
from moderation.errors import Conflict, Invalid, Refusal
from moderation.models import Account, Case
from moderation.models.codes import new_code
from moderation.queue import case_claim, case_release
from moderation.reasons import Terms
from moderation.states import Action

_SALT = "moderation.bulk"
# A page older than that is read again before it decides anything.
SHOWN_SECONDS = 60 * 60


@dataclass(frozen=True)
class Outcome:
    """What became of one member; ``sentence`` is empty where it was decided."""

    case: Case
    sentence: str


def shown_sign(*, members: Sequence[tuple[str, int]], account: Account) -> str:
    """Return a signed list of what a person is shown: codes of cases, and reports on each."""
    return signing.dumps({"by": account.pk, "members": list(members)}, salt=_SALT, compress=True)


def cases_decide(
    *,
    shown: str,
    chosen: Sequence[str],
    action: Action,
    rules: Sequence[str],
    facts: str,
    private_note: str = "",
    actor: Account,
) -> list[Outcome]:
    """Decide the chosen cases alike; return what became of each.

    Raises NotAllowed to all but moderators, Invalid if nothing was chosen or something that was not
    shown, Conflict if the page is older than an hour.
    """
    require_moderator(actor)
    try:
        page = signing.loads(shown, salt=_SALT, max_age=SHOWN_SECONDS)
    except signing.BadSignature as error:
        raise Conflict(
            "This page is too old, or was changed. Open it again and look once more.",
            code="not_shown",
        ) from error
    reports = dict(page["members"])
    if page["by"] != actor.pk or not set(chosen) <= set(reports):
        raise Invalid("Only what you were shown can be decided.", code="not_shown")
    if not chosen:
        raise Invalid("Tick at least one case.", code="nothing_chosen", field="members")
    outcomes: list[Outcome] = []
    # Who confirms one decision of a stroke took part in all of them.
    stroke = Terms(bulk=new_code())
    for case in Case.objects.filter(code__in=list(chosen)).order_by("pk"):
        held_before = case.claimed_by_id == actor.pk
        try:
            held = case_claim(case=case, actor=actor)
            decision_make(
                case=held,
                action=action,
                rules=rules,
                facts=facts,
                private_note=private_note,
                terms=stroke,
                reports_seen=reports[case.code],
                actor=actor,
            )
        except Refusal as refusal:
            _let_go(case, actor, held_before)
            if refusal.field and not outcomes:
                # What was filled in is wrong, for all of them alike.
                raise
            outcomes.append(Outcome(case, refusal.sentence))
        else:
            outcomes.append(Outcome(case, ""))
    return outcomes


def _let_go(case: Case, actor: Account, held_before: bool) -> None:
    case.refresh_from_db()
    if not held_before and case.claimed_by_id == actor.pk:
        case_release(case=case, actor=actor)
