"""Weighs versions again that were weighed before, as after a change of policy, encoder or heads.

Writes triage jobs and, through ``cases``, cases. Neither publishes nor restricts anything: a
machine that looks again may only bring a version before a person.
"""

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q

from moderation.audit import event_record
from moderation.cases import case_open_weighed
from moderation.errors import Conflict
from moderation.jobs import job_add
from moderation.models import Account, Case, ModelVersion, Policy, TriageJob
from moderation.states import OPEN_CASES, REACHABLE, Concern, JobState, Visibility

# What is removed stays removed until an appeal, and a draft was never weighed.
RESCREENED = REACHABLE | {Visibility.QUARANTINED}
_LEVEL = {Concern.NONE: 0, Concern.REVIEW: 1, Concern.HOLD: 2}


def is_raised(before: str, after: str) -> bool:
    """Return whether the second concern asks for more than the first."""
    return _LEVEL[Concern(after)] > _LEVEL[Concern(before)]


@transaction.atomic
def version_rescreen(
    *, version: ModelVersion, policy: Policy, scorer: str, actor: Account | None
) -> bool:
    """Queue a job that weighs a version's previews under the policy in force.

    ``scorer`` names the encoder and the heads in place. Returns False where there is nothing to
    do: they weighed it last, a worker has it, or it is not one that is weighed again. Raises
    Conflict if the policy is not in force.
    """
    version = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
    if not Policy.objects.filter(pk=policy.pk, is_active=True).exists():
        raise Conflict(
            f"{policy} is not in force, so nobody can decide under it. Put it in force first; "
            "until then only --dry-run makes sense.",
            code="policy_not_in_force",
        )
    if version.triaged_at is None or version.visibility not in RESCREENED:
        return False
    stage = TriageJob.Stage.PREVIEWS
    if job_add(version=version, policy=policy, stage=stage, scorer=scorer) is None:
        return False
    event_record(
        action="triage.rescreened",
        actor=actor,
        version=version,
        data={"policy": str(policy), "scorer": scorer},
    )
    return True


def version_reconsider(*, job: TriageJob) -> Case | None:
    """Bring a version before a person if a later job asks for more than the one before it did.

    Called with the findings just stored; for each rule and each thing it was about, what the
    newest earlier job of the stage found is the measure, so what a person has seen comes once.
    """
    before = _concerns(
        TriageJob.objects.filter(
            version=job.version_id, stage=job.stage, state=JobState.DONE, pk__lt=job.pk
        )
        .order_by("-pk")
        .first()
    )
    after = _concerns(job)
    if not any(is_raised(before.get(key, Concern.NONE), after[key]) for key in after):
        return None
    return case_open_weighed(version=job.version, source=Case.Source.TRIAGE)


def _concerns(job: TriageJob | None) -> dict[tuple[str | None, int | None, int | None], str]:
    found: dict[tuple[str | None, int | None, int | None], str] = {}
    if job is None:
        return found
    rows = job.findings.values_list("rule__slug", "preview_id", "file_id", "concern")
    for slug, preview, file, concern in rows:
        key = (slug, preview, file)
        if is_raised(found.get(key, Concern.NONE), concern):
            found[key] = concern
    return found


def rescreenings_settle() -> int:
    """Open a case where weighing again died, since nobody knows what it would have found."""
    later = Case.objects.filter(version=OuterRef("version"))
    dead = TriageJob.objects.filter(
        state=JobState.DEAD,
        created_at__gt=F("version__triaged_at"),
        version__visibility__in=RESCREENED,
    ).exclude(
        Exists(later.filter(Q(state__in=OPEN_CASES) | Q(opened_at__gte=OuterRef("finished_at"))))
    )
    jobs = list(dead.select_related("version"))
    for job in jobs:
        with transaction.atomic():
            case_open_weighed(version=job.version, source=Case.Source.TRIAGE)
    return len(jobs)
