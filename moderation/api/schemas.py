"""What goes in and what comes out. Nothing private is in any of these."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import Field, StringConstraints

from moderation.models import (
    Appeal,
    Decision,
    FileReference,
    Finding,
    Hold,
    ModelVersion,
    Report,
    StatementOfReasons,
)
from moderation.models.catalog import DESCRIPTION_LENGTH, TITLE_LENGTH

# PostgreSQL stores no null character, and nobody types one.
WRITTEN = "^[^\\x00]*$"
Text = Annotated[str, StringConstraints(max_length=5000, pattern=WRITTEN)]
Short = Annotated[str, StringConstraints(max_length=300, pattern=WRITTEN)]
Prompt = Annotated[str, StringConstraints(max_length=2000, pattern=WRITTEN)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=WRITTEN)]
OnBehalfOf = Annotated[
    str,
    Field(
        default="",
        max_length=100,
        pattern=WRITTEN,
        description="Your own id of the user you act for; without it you act for yourself.",
    ),
]


class ModelIn(Schema):
    """A model with the texts of its page."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=TITLE_LENGTH, pattern=WRITTEN)]
    description: Annotated[
        str, StringConstraints(max_length=DESCRIPTION_LENGTH, pattern=WRITTEN)
    ] = ""
    tags: list[Short] = Field(default_factory=list, max_length=30)
    trigger_words: list[Short] = Field(default_factory=list, max_length=30)
    base_model: Short = ""
    licence: Short = ""
    on_behalf_of: OnBehalfOf


class ReferenceIn(Schema):
    """A file that you keep: it is fetched, and its digest has to be the one given."""

    kind: Literal["file", "preview"]
    url: Address
    name: Short
    sha256: str
    prompt: Prompt = ""


class ReportIn(Schema):
    """A report on a published version, for one of your users."""

    version: Short
    text: Text
    rule: Short = ""
    on_behalf_of: OnBehalfOf


class AppealIn(Schema):
    """An appeal against a decision, for the creator."""

    text: Text


class WebhookIn(Schema):
    """Where to be told."""

    url: Address


class FileOut(Schema):
    """A file of weights, or a preview."""

    code: str
    name: str
    sha256: str


class ReferenceOut(Schema):
    """A file that is to be fetched, and how that went."""

    code: str
    kind: str
    name: str
    sha256: str
    state: str
    error: str

    @staticmethod
    def of(reference: FileReference) -> "ReferenceOut":
        """Describe a reference."""
        return ReferenceOut.from_orm(reference)


class ClauseOut(Schema):
    """A rule in the words that were valid on the day."""

    slug: str
    title: str
    text: str


class HeldOut(Schema):
    """Why the clock of a request hides a version until a person decides."""

    since: datetime
    effect: str
    facts: str
    clauses: list[ClauseOut]
    policy: str
    legal_ground: str
    detection: str
    automated_detection: bool
    objected_at: datetime | None

    @staticmethod
    def of(hold: Hold) -> "HeldOut":
        """Describe a hold by its statement of reasons, as sent."""
        said = hold.statement.content
        given = ("effect", "facts", "policy", "legal_ground", "detection", "automated_detection")
        return HeldOut(
            since=hold.held_at,
            clauses=[ClauseOut(**_clause(clause)) for clause in said["clauses"]],
            objected_at=hold.objected_at,
            **{name: said[name] for name in given},
        )


class VersionOut(Schema):
    """A version and where it stands. While it is ``held`` nobody may see it."""

    code: str
    model: str
    number: int
    title: str
    on_behalf_of: str
    visibility: str
    submitted_at: datetime | None
    triaged_at: datetime | None
    published_at: datetime | None
    held: HeldOut | None
    files: list[FileOut]
    previews: list[FileOut]
    references: list[ReferenceOut]

    @staticmethod
    def of(version: ModelVersion) -> "VersionOut":
        """Describe a version."""
        page = version.uploaded_model
        external = getattr(page.creator, "external", None)
        return VersionOut(
            code=version.code,
            model=page.code,
            number=version.number,
            title=page.title,
            on_behalf_of=external.external_id if external else "",
            visibility=version.visibility,
            submitted_at=version.submitted_at,
            triaged_at=version.triaged_at,
            published_at=version.published_at,
            held=next((HeldOut.of(hold) for hold in version.clock_holds.all()), None),
            files=[FileOut.from_orm(file) for file in version.files.all()],
            previews=[FileOut.from_orm(preview) for preview in version.previews.all()],
            references=[ReferenceOut.of(row) for row in version.references.all()],
        )


class FindingOut(Schema):
    """What one probe said."""

    probe: str
    rule: str | None
    subject: str | None
    outcome: str
    concern: str
    code: str
    reason: str
    score: float | None
    review: float | None
    hold: float | None
    versions: dict[str, Any]

    @staticmethod
    def of(finding: Finding) -> "FindingOut":
        """Describe a finding."""
        subject = finding.file or finding.preview
        return FindingOut(
            probe=finding.probe,
            rule=finding.rule.slug if finding.rule else None,
            subject=subject.code if subject else None,
            outcome=finding.outcome,
            concern=finding.concern,
            code=finding.code,
            reason=finding.reason,
            score=finding.score,
            review=finding.review,
            hold=finding.hold,
            versions=finding.versions,
        )


class StatementOut(Schema):
    """The statement of reasons as the creator was sent it (DSA Art. 17), without who decided."""

    language: str
    what: str
    effect: str
    territory: str
    until: datetime | None
    facts: str
    message: str
    clauses: list[ClauseOut]
    policy: str
    ground: str
    legal_ground: str
    detection: str
    automated_detection: bool
    automated_decision: str
    notice: str
    appeal_until: datetime | None
    elsewhere: str
    change: list[str]

    @staticmethod
    def of(statement: StatementOfReasons) -> "StatementOut":
        """Describe a statement, as sent."""
        said = statement.content
        given = {name: said[name] for name in StatementOut.model_fields if name in said}
        return StatementOut(
            **given | {"clauses": [ClauseOut(**_clause(clause)) for clause in said["clauses"]]}
        )


class DecisionOut(Schema):
    """A decision with its statement of reasons, which restrictions have. Who decided is unnamed."""

    code: str
    version: str
    action: str
    visibility_before: str
    visibility_after: str
    policy: str
    clauses: list[ClauseOut]
    facts: str
    automated_detection: bool
    decided_at: datetime
    appeal_until: datetime | None
    statement: StatementOut | None

    @staticmethod
    def of(decision: Decision) -> "DecisionOut":
        """Describe a decision."""
        statement = getattr(decision, "statement", None)
        return DecisionOut(
            code=decision.code,
            version=decision.version.code,
            action=decision.action,
            visibility_before=decision.previous_visibility,
            visibility_after=decision.new_visibility,
            policy=str(decision.policy),
            clauses=[ClauseOut(**_clause(clause)) for clause in decision.clauses],
            facts=decision.facts,
            automated_detection=decision.automated_detection,
            decided_at=decision.decided_at,
            appeal_until=decision.appeal_ends_at,
            statement=StatementOut.of(statement) if statement else None,
        )


def _clause(clause: dict[str, Any]) -> dict[str, str]:
    return {name: str(clause.get(name, "")) for name in ("slug", "title", "text")}


class ReportOut(Schema):
    """A report and what became of it."""

    code: str
    version: str
    state: str
    created_at: datetime
    answered_at: datetime | None

    @staticmethod
    def of(report: Report) -> "ReportOut":
        """Describe a report."""
        return ReportOut(
            code=report.code,
            version=report.version.code,
            state=report.state,
            created_at=report.created_at,
            answered_at=report.answered_at,
        )


class AppealOut(Schema):
    """An appeal and its answer."""

    code: str
    decision: str
    state: str
    answer: str
    filed_at: datetime
    answered_at: datetime | None

    @staticmethod
    def of(appeal: Appeal) -> "AppealOut":
        """Describe an appeal."""
        return AppealOut(
            code=appeal.code,
            decision=appeal.decision.code,
            state=appeal.state,
            answer=appeal.answer,
            filed_at=appeal.filed_at,
            answered_at=appeal.answered_at,
        )


class EventOut(Schema):
    """Something that happened to one of your models."""

    id: int
    type: str
    timestamp: datetime
    data: dict[str, Any]


class WebhookOut(Schema):
    """A webhook. Its secret is shown when it is made, and not again."""

    code: str
    url: str
    is_active: bool
    failing_since: datetime | None


class WebhookMade(WebhookOut):
    """A new webhook with the secret that its messages are signed with."""

    secret: str


class VersionPage(Schema):
    """A page of versions; ``next`` is the cursor of the next page."""

    items: list[VersionOut]
    next: str | None


class DecisionPage(Schema):
    """A page of decisions."""

    items: list[DecisionOut]
    next: str | None


class EventPage(Schema):
    """A page of events. ``next`` is always there: ask again with it later."""

    items: list[EventOut]
    next: str


class RuleOut(Schema):
    """A clause of the policy in force."""

    slug: str
    title: str
    text: str


class PolicyOut(Schema):
    """The policy in force."""

    name: str
    version: int
    rules: list[RuleOut]
