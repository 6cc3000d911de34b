"""What the workers read: plain data, no rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage
from django.db.models import Count, Max, Prefetch

from moderation.models import (
    Account,
    Appeal,
    BankEntry,
    Consent,
    Decision,
    Embedding,
    ModelFile,
    ModelVersion,
    Person,
    Policy,
    TriageJob,
    WeightSketch,
)
from moderation.selectors.learning import learnt_live
from moderation.selectors.policies import stored_rules
from moderation.states import (
    REACHABLE,
    Action,
    AppealState,
    Visibility,
)
from moderation.stored import is_on_this_machine, local_head, local_path


def triage_sample(*, job_id: int) -> dict[str, Any]:
    """Return the plain data of the version a triage job is about.

    Raises FileNotFoundError if a stored file is gone.
    """
    job = TriageJob.objects.select_related("version__uploaded_model__creator", "policy").get(
        pk=job_id
    )
    version, page = job.version, job.version.uploaded_model
    previews = list(version.previews.all())
    return {
        "key": version.code,
        "title": page.title,
        "description": page.description,
        "base_model": page.base_model,
        "tags": page.tags,
        "trigger_words": version.trigger_words,
        "files": [
            {
                "key": row.code,
                "name": row.name,
                "path": str(_weights_path(row, job.stage)),
                "size": row.size,
                "sha256": row.sha256,
            }
            for row in version.files.all()
        ],
        "previews": [
            {
                "key": row.code,
                "name": row.name,
                # A copy of the one that people see, made of it in the sandbox at the door.
                "path": str(local_path(row.weighed)),
                "sha256": row.sha256,
                "prompt": row.prompt,
                "uploaded": row.uploaded,
            }
            for row in previews
        ],
        "embeddings": list(
            embeddings_of(
                [row.sha256 for row in previews],
                kinds=(Embedding.Kind.PICTURE, Embedding.Kind.PDQ),
            )
        ),
        "creator": page.creator.username,
        "people": _people(page.creator),
        "policy": policy_data(job.policy),
    }


def _weights_path(file: ModelFile, stage: str) -> Path:
    """Return where a file of weights can be read, as far as the probes of a stage read it.

    Beside the previews they look for a picture in its header alone, and a card need not fetch
    gigabytes for that.
    """
    if stage == TriageJob.Stage.PREVIEWS and file.format == "safetensors":
        return local_head(file.content.name, size=file.size)
    return local_path(file.content.name)


def embeddings_of(
    digests: Iterable[str], *, kinds: Sequence[Embedding.Kind]
) -> Iterator[dict[str, Any]]:
    """Yield what any encoder ever made of these contents, by the SHA-256 of their bytes."""
    rows = Embedding.objects.filter(kind__in=kinds, sha256__in=list(digests))
    for row in rows.values("kind", "sha256", "encoder", "revision", "vector"):
        yield {**row, "vector": bytes(row["vector"])}


def _people(creator: Account) -> list[dict[str, Any]]:
    """Return the people list, each with the consents they gave to this creator."""
    consents = Consent.objects.filter(creator=creator)
    people = Person.objects.prefetch_related(Prefetch("consents", queryset=consents))
    return [
        {
            "name": person.name,
            "aliases": person.aliases,
            "consents": [
                {
                    "creator": creator.username,
                    "rules": consent.rules,
                    "until": consent.until,
                    "withdrawn": consent.withdrawn_at is not None,
                }
                for consent in person.consents.all()
            ],
        }
        for person in people.order_by("name")
    ]


@dataclass(frozen=True)
class KnownStamp:
    """Changes whenever the models that uploads are compared with have changed."""

    sketches: int
    removed: int
    visible: int
    decisions: int
    overturned: int
    moved: int


def known_stamp() -> KnownStamp:
    """Return the stamp, from six counts.

    The last ones tell apart what leaves the others as they were: one version that is removed while
    another one is restored.
    """
    visible = WeightSketch.objects.filter(file__version__visibility__in=REACHABLE)
    removed = WeightSketch.objects.filter(file__version__visibility=Visibility.REMOVED)
    return KnownStamp(
        sketches=WeightSketch.objects.count(),
        removed=removed.count(),
        visible=visible.count(),
        decisions=Decision.objects.count(),
        overturned=Appeal.objects.filter(state=AppealState.OVERTURNED).count(),
        moved=ModelVersion.objects.filter(files_published_at__isnull=False).count(),
    )


def entries_stamp() -> dict[str, int | None]:
    """Return what changes whenever an entry is added to a bank or taken out of one."""
    return BankEntry.objects.aggregate(number=Count("pk"), last=Max("pk"))


def known_models() -> Iterator[dict[str, Any]]:
    """Yield the removed and published files of weights that lineage compares with."""
    rows = WeightSketch.objects.filter(
        file__version__visibility__in=REACHABLE | {Visibility.REMOVED}
    ).select_related("file__version__uploaded_model__creator")
    under: dict[int, str] = {
        decision.version_id: decision.clauses[0]["slug"]
        for decision in Decision.objects.filter(action=Action.REMOVE).order_by("decided_at")
    }
    for row in rows.iterator(2000):
        version = row.file.version
        removed = version.visibility == Visibility.REMOVED
        yield {
            "key": row.file.code,
            "version": version.code,
            # What is held apart is recognised when it comes back, and named nowhere.
            "title": str(version) if version.isolated_at is None else "material held apart",
            "creator": version.uploaded_model.creator.username,
            "state": "removed" if removed else "published",
            "sketch": bytes(row.sketch),
            "rule": under.get(version.pk, "") if removed else "",
            "path": _path_here(row.file.content.name or ""),
            "digests": (row.file.sha256, row.data_sha256),
        }


def _path_here(name: str) -> str | None:
    """Return the path of a file that lies on this machine: nothing is fetched for a comparison."""
    return default_storage.path(name) if is_on_this_machine() else None


def known_entries() -> Iterator[dict[str, str]]:
    """Yield the entries of every bank."""
    for entry in BankEntry.objects.select_related("bank").iterator(2000):
        yield {
            "kind": entry.kind,
            "value": entry.value,
            "bank": entry.bank.name,
            "rule": entry.bank.rule,
        }


def policy_data(policy: Policy) -> dict[str, Any]:
    """Return the plain data of a policy, with what was learnt of each of its concepts."""
    learnt = learnt_live(policy)
    return {
        "name": policy.name,
        "version": policy.version,
        "neutral": policy.neutral_prompts,
        "templates": policy.templates,
        "rules": [
            rule
            | {
                "concepts": [
                    concept | learnt.get((rule["slug"], concept["slug"]), {})
                    for concept in rule["concepts"]
                ]
            }
            for rule in stored_rules(policy).rules
        ],
    }
