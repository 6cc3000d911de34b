"""Every table: fields and constraints, no behaviour."""

from moderation.models.accounts import Account
from moderation.models.api import (
    ApiToken,
    ExternalAccount,
    FileReference,
    IdempotentAnswer,
    Webhook,
    WebhookDelivery,
)
from moderation.models.appeals import Appeal, AppealFile, AppealMessage
from moderation.models.cases import Case, Finding, Report, TriageJob
from moderation.models.catalog import ModelFile, ModelVersion, PreviewImage, UploadedModel
from moderation.models.consequences import (
    ChildSafetyRecord,
    ClearedDigest,
    CountryBlock,
    LegalHold,
    Strike,
)
from moderation.models.console import ConsolePreference, Exposure, Verdict
from moderation.models.decisions import Decision, Effect, StatementOfReasons
from moderation.models.embeddings import Embedding
from moderation.models.heat_maps import HeatMap
from moderation.models.known import Bank, BankEntry, Consent, Person, WeightSketch
from moderation.models.learning import (
    AuditItem,
    ConceptHead,
    ConceptReport,
    ConceptThreshold,
    HeadPlacement,
)
from moderation.models.lineage import LineageEdge
from moderation.models.operations import Counter, Heartbeat
from moderation.models.policy import ConceptVector, Policy, Prompt, Rule, Term
from moderation.models.queue import CaseFacet, CaseText, Inquiry, SavedFilter
from moderation.models.record import Event, Notice
from moderation.models.reports import (
    Hold,
    LikenessRequest,
    PreviewHash,
    ReportEvidence,
    ReportingMeasure,
    ThrottleBucket,
    TrustedFlagger,
)
from moderation.models.second_reviews import ReviewItem, SecondReview
from moderation.models.uploads import Upload, UploadPart

__all__ = [
    "Account",
    "ApiToken",
    "Appeal",
    "AppealFile",
    "AppealMessage",
    "AuditItem",
    "Bank",
    "BankEntry",
    "Case",
    "CaseFacet",
    "CaseText",
    "ChildSafetyRecord",
    "ClearedDigest",
    "ConceptHead",
    "ConceptReport",
    "ConceptThreshold",
    "ConceptVector",
    "Consent",
    "ConsolePreference",
    "Counter",
    "CountryBlock",
    "Decision",
    "Effect",
    "Embedding",
    "Event",
    "Exposure",
    "ExternalAccount",
    "FileReference",
    "Finding",
    "HeatMap",
    "HeadPlacement",
    "Heartbeat",
    "Hold",
    "IdempotentAnswer",
    "Inquiry",
    "LegalHold",
    "LikenessRequest",
    "LineageEdge",
    "ModelFile",
    "ModelVersion",
    "Notice",
    "Person",
    "Policy",
    "PreviewHash",
    "PreviewImage",
    "Prompt",
    "Report",
    "ReportEvidence",
    "ReportingMeasure",
    "ReviewItem",
    "Rule",
    "SavedFilter",
    "SecondReview",
    "StatementOfReasons",
    "Strike",
    "Term",
    "ThrottleBucket",
    "TriageJob",
    "Upload",
    "UploadPart",
    "TrustedFlagger",
    "UploadedModel",
    "Verdict",
    "Webhook",
    "WebhookDelivery",
    "WeightSketch",
]
