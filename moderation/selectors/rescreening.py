"""What weighing again reads: versions page by page, with what is known of their previews."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import Exists, OuterRef, QuerySet

from moderation.models import Embedding, Finding, ModelVersion, Policy, PreviewImage, TriageJob
from moderation.states import REACHABLE, UNFINISHED_JOBS, Concern, JobState, Visibility

_PAGE = 500  # versions, some thousands of previews: about 10 MB of vectors


@dataclass(frozen=True, slots=True)
class Weighed:
    """A version weighed before. ``vectors`` lacks the previews that nothing is remembered of.

    ``concerns`` are those that the newest job of its previews left, by rule and preview.
    """

    pk: int
    code: str
    previews: list[int]
    vectors: dict[int, bytes]
    concerns: dict[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """How many versions are weighed again, and how many are left alone and why."""

    to_weigh: int
    already_weighed: int  # under this very policy, by this encoder and these heads
    being_weighed: int  # a worker has them, or will


def policy_named(written: str) -> Policy | None:
    """Return the policy written NAME:VERSION, or the one in force for an empty text."""
    if not written:
        return Policy.objects.filter(is_active=True).first()
    name, _, version = written.partition(":")
    if not version.isdecimal():
        return None
    return Policy.objects.filter(name=name, version=int(version)).first()


def standing(policy: Policy, scorer: str) -> Standing:
    """Return how many versions there are of each kind; ``scorer`` names encoder and heads."""
    running = _versions().filter(_under_way())
    done = _versions().exclude(_under_way()).filter(_weighed(policy, scorer))
    return Standing(_to_weigh(policy, scorer).count(), done.count(), running.count())


def versions_weighed(
    *, policy: Policy, scorer: str, encoder: str, revision: str
) -> Iterator[Weighed]:
    """Yield the versions that others weighed last, in pages, with their vectors."""
    last = 0
    to_weigh = _to_weigh(policy, scorer).order_by("pk").values_list("pk", "code")
    while page := list(to_weigh.filter(pk__gt=last)[:_PAGE]):
        last = page[-1][0]
        yield from _filled(page, encoder, revision)


def _versions() -> QuerySet[ModelVersion]:
    return ModelVersion.objects.filter(
        Exists(PreviewImage.objects.filter(version=OuterRef("pk"))),
        visibility__in=REACHABLE | {Visibility.QUARANTINED},
        triaged_at__isnull=False,
    )


def _jobs() -> QuerySet[TriageJob]:
    return TriageJob.objects.filter(version=OuterRef("pk"), stage=TriageJob.Stage.PREVIEWS)


def _under_way() -> Exists:
    return Exists(_jobs().filter(state__in=UNFINISHED_JOBS))


def _weighed(policy: Policy, scorer: str) -> Exists:
    """Say that the newest job was theirs. An older one is not enough: others spoke since."""
    later = TriageJob.objects.filter(
        version=OuterRef("version"), stage=TriageJob.Stage.PREVIEWS, pk__gt=OuterRef("pk")
    )
    return Exists(_jobs().filter(policy=policy, scorer=scorer).exclude(Exists(later)))


def _to_weigh(policy: Policy, scorer: str) -> QuerySet[ModelVersion]:
    return _versions().exclude(_weighed(policy, scorer)).exclude(_under_way())


def _filled(page: list[tuple[int, str]], encoder: str, revision: str) -> Iterator[Weighed]:
    pks = [pk for pk, _ in page]
    previews = PreviewImage.objects.filter(version__in=pks).order_by("position", "pk")
    remembered = {
        sha256: bytes(vector)
        for sha256, vector in Embedding.objects.filter(
            kind=Embedding.Kind.PICTURE,
            encoder=encoder,
            revision=revision,
            sha256__in=previews.order_by().values("sha256"),
        ).values_list("sha256", "vector")
    }
    rows = {pk: Weighed(pk, code, [], {}) for pk, code in page}
    for pk, preview, sha256 in previews.values_list("version_id", "pk", "sha256"):
        rows[pk].previews.append(preview)
        if sha256 in remembered:
            rows[pk].vectors[preview] = remembered[sha256]
    newest: dict[int, int] = dict(
        TriageJob.objects.filter(
            version__in=pks, stage=TriageJob.Stage.PREVIEWS, state=JobState.DONE
        )
        .order_by("pk")
        .values_list("version_id", "pk")
    )
    raised = Finding.objects.filter(
        job__in=newest.values(), probe="previews", preview__isnull=False, rule__isnull=False
    ).exclude(concern=Concern.NONE)
    for pk, slug, preview, concern in raised.values_list(
        "version_id", "rule__slug", "preview_id", "concern"
    ):
        rows[pk].concerns[slug, preview] = concern
    yield from rows.values()
