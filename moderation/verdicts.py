"""Verdicts: a person says whether a finding is right. Writes ``Verdict``; learning reads them."""

from django.db import transaction
from django.utils import timezone

from moderation.audit import event_record
from moderation.authz import require_impartial
from moderation.errors import Invalid
from moderation.models import Account, Finding, Verdict
from moderation.states import Outcome, VerdictAnswer, VerdictSource


@transaction.atomic
def verdict_give(
    *,
    finding: Finding,
    answer: str,
    actor: Account,
    source: VerdictSource = VerdictSource.CASE,
) -> Verdict:
    """Note what a moderator says about a finding; a later verdict of theirs replaces it.

    Raises NotAllowed for a conflict of interest, Invalid for an answer that is none or a finding
    that scored nothing.
    """
    require_impartial(actor, finding.version)
    if answer not in VerdictAnswer.values:
        raise Invalid("Say right, wrong or unsure.", field="answer", code="bad_answer")
    if finding.outcome != Outcome.SCORED:
        raise Invalid(
            "This finding scored nothing, so there is nothing to be right or wrong about.",
            code="nothing_scored",
        )
    verdict = Verdict.objects.create(
        finding=finding,
        answer=answer,
        source=source,
        given_by=actor,
        given_at=timezone.now(),
    )
    event_record(
        action="finding.judged",
        actor=actor,
        version=finding.version,
        data={"finding": finding.pk, "answer": answer, "source": source},
    )
    return verdict
