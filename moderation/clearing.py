"""Content that a person has found to keep a rule: machines do not hold it against anybody again.

Writes ``ClearedDigest`` when a decision is taken back; read when triage draws its conclusion.
"""

import hashlib
import json
from collections.abc import Iterable

from moderation.effects import restrictions_standing
from moderation.models import ClearedDigest, Decision, Finding, ModelVersion
from moderation.states import Outcome


def texts_digest(version: ModelVersion) -> str:
    """Return the SHA-256 of what the page of a version says."""
    page = version.uploaded_model
    said = [page.title, page.description, page.tags, page.base_model, version.trigger_words]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()


def content_clear(*, overridden: Decision, by: Decision) -> int:
    """Pin the content of a version as keeping the rules it was wrongly restricted under.

    It holds for the version of the policy that the person judged by, and no longer. A rule under
    which something about the version is restricted still is not kept.
    """
    version = overridden.version
    broken = {
        clause["slug"] for decision in restrictions_standing(version) for clause in decision.clauses
    }
    kinds = ClearedDigest.Kind
    digests = [
        *((kinds.FILE, file.sha256) for file in version.files.all()),
        *((kinds.PREVIEW, preview.sha256) for preview in version.previews.all()),
        (kinds.TEXTS, texts_digest(version)),
    ]
    pinned = 0
    for kind, sha256 in digests:
        for clause in overridden.clauses:
            if clause["slug"] in broken:
                continue
            _, created = ClearedDigest.objects.get_or_create(
                kind=kind,
                sha256=sha256,
                policy=overridden.policy,
                rule=clause["slug"],
                defaults={"decision": by},
            )
            pinned += created
    return pinned


def not_cleared(*, version: ModelVersion, findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings about content that no person has cleared of their rule.

    A finding that failed is never cleared. One about the page or the version as a whole is, only
    if all of its files, previews and texts are.
    """
    findings = list(findings.select_related("job", "rule", "file", "preview"))  # type: ignore[attr-defined]
    files = {file.sha256 for file in version.files.all()}
    previews = {preview.sha256 for preview in version.previews.all()}
    texts = texts_digest(version)
    cleared = set(
        ClearedDigest.objects.filter(sha256__in=files | previews | {texts}).values_list(
            "sha256", "policy", "rule"
        )
    )

    def is_cleared(finding: Finding) -> bool:
        if finding.rule is None or finding.outcome != Outcome.SCORED:
            return False
        if finding.file:
            about = {finding.file.sha256}
        elif finding.preview:
            about = {finding.preview.sha256}
        else:
            about = files | previews | {texts}
        return all(
            (digest, finding.job.policy_id, finding.rule.slug) in cleared for digest in about
        )

    return [finding for finding in findings if not is_cleared(finding)]
