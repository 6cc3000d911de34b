"""States, actions and their named subsets, and which state may follow which. Data only.

Stored values are never reused for another meaning.
"""

from collections.abc import Mapping
from datetime import timedelta

from django.db.models import TextChoices


class Role(TextChoices):
    """What an account is trusted with."""

    CREATOR = "creator", "Creator"
    MODERATOR = "moderator", "Moderator"
    SENIOR_MODERATOR = "senior_moderator", "Senior moderator"
    POLICY_LEAD = "policy_lead", "Policy lead"
    ADMIN = "admin", "Admin"


MODERATING = frozenset({Role.MODERATOR, Role.SENIOR_MODERATOR, Role.ADMIN})
STAFF = MODERATING | {Role.POLICY_LEAD}
# Whom an escalated case waits for.
SENIOR = frozenset({Role.SENIOR_MODERATOR, Role.ADMIN})


class Language(TextChoices):
    """In which languages people are told things. Each has every notice: a test holds it."""

    ENGLISH = "en", "English"
    GERMAN = "de", "Deutsch"


class Visibility(TextChoices):
    """Who can see a model version."""

    DRAFT = "draft", "Draft"
    QUARANTINED = "quarantined", "Quarantined"
    PUBLISHED = "published", "Published"
    AGE_RESTRICTED = "age_restricted", "Age-restricted"
    LIMITED = "limited", "Limited"
    REMOVED = "removed", "Removed"


# Anybody with the address may open these; LISTED ones also appear in the catalogue.
REACHABLE = frozenset({Visibility.PUBLISHED, Visibility.AGE_RESTRICTED, Visibility.LIMITED})
LISTED = frozenset({Visibility.PUBLISHED, Visibility.AGE_RESTRICTED})


class JobState(TextChoices):
    """Where a triage job stands."""

    QUEUED = "queued", "Waiting for a worker"
    RUNNING = "running", "With a worker"
    DONE = "done", "Done"
    DEAD = "dead", "Given up after three attempts"


class CaseState(TextChoices):
    """Where a case stands."""

    QUEUED = "queued", "Waiting for a moderator"
    CLAIMED = "claimed", "With a moderator"
    ASKED = "asked", "Waiting for the creator"
    ESCALATED = "escalated", "Waiting for a senior moderator"
    DECIDED = "decided", "Decided"
    APPEALED = "appealed", "Appealed, waiting for another moderator"
    HEARING = "hearing", "Appeal with a moderator"
    CLOSED = "closed", "Closed"


OPEN_CASES = frozenset({CaseState.QUEUED, CaseState.CLAIMED, CaseState.ASKED, CaseState.ESCALATED})
HELD_CASES = frozenset({CaseState.CLAIMED, CaseState.HEARING})
# What a person has yet to take; ESCALATED only by a senior one.
WAITING_CASES = frozenset({CaseState.QUEUED, CaseState.ESCALATED, CaseState.APPEALED})
# What the queue shows: everything that somebody has yet to end.
LISTED_CASES = OPEN_CASES | {CaseState.APPEALED, CaseState.HEARING}


class ReportState(TextChoices):
    """Where a report stands."""

    OPEN = "open", "Being looked at"
    ACTED = "acted", "Action was taken"
    NO_ACTION = "no_action", "No action was taken"


class AppealState(TextChoices):
    """Where an appeal stands."""

    OPEN = "open", "Waiting for another moderator"
    UPHELD = "upheld", "Decision upheld"
    OVERTURNED = "overturned", "Decision overturned"


class NoticeState(TextChoices):
    """Where the e-mail of a notice stands."""

    QUEUED = "queued", "Waiting to be sent"
    SENT = "sent", "Sent"
    DEAD = "dead", "Could not be sent"


class DeliveryState(TextChoices):
    """Where something stands that is sent to, or fetched from, another server."""

    QUEUED = "queued", "Waiting"
    DONE = "done", "Done"
    DEAD = "dead", "Given up"


class UploadState(TextChoices):
    """Where a resumable upload stands."""

    OPEN = "open", "Parts are coming in"
    JOINING = "joining", "Being put together"
    DONE = "done", "In the draft"
    REFUSED = "refused", "Refused at the door"
    ABANDONED = "abandoned", "Given up"


class Scope(TextChoices):
    """What a token of the API may be used for."""

    READ = "read", "Read models, findings, decisions and events"
    SUBMIT = "submit", "Create models and submit versions"
    REPORT = "report", "File reports"
    APPEAL = "appeal", "File appeals"
    WEBHOOK = "webhook", "Manage webhooks"


class Outcome(TextChoices):
    """How a probe ended on one subject."""

    SCORED = "scored", "Scored"
    ABSTAINED = "abstained", "Abstained"
    FAILED = "failed", "Failed"


class Concern(TextChoices):
    """What a finding asks for, by the thresholds of the policy."""

    NONE = "none", "Nothing found"
    REVIEW = "review", "Review"
    HOLD = "hold", "Hold"


class Action(TextChoices):
    """What a decision does to a version."""

    APPROVE = "approve", "Approve"
    AGE_RESTRICT = "age_restrict", "Age-restrict"
    LIMIT = "limit", "Limit"
    REMOVE = "remove", "Remove"


# From the least to the most severe.
RESTRICTIONS = (Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE)
APPEALABLE_BY_CREATOR = frozenset(RESTRICTIONS)
VISIBILITY_AFTER: Mapping[str, Visibility] = {
    Action.APPROVE: Visibility.PUBLISHED,
    Action.AGE_RESTRICT: Visibility.AGE_RESTRICTED,
    Action.LIMIT: Visibility.LIMITED,
    Action.REMOVE: Visibility.REMOVED,
}

# Six months, counted as 184 days because no six months are longer (DSA Art. 20(1)).
APPEAL_WINDOW = timedelta(days=184)

_AFTER_QUARANTINE: set[str] = {
    Visibility.PUBLISHED,
    Visibility.AGE_RESTRICTED,
    Visibility.LIMITED,
    Visibility.REMOVED,
}

TRANSITIONS: Mapping[type[TextChoices], Mapping[str, set[str]]] = {
    Visibility: {
        Visibility.DRAFT: {Visibility.QUARANTINED},
        Visibility.QUARANTINED: _AFTER_QUARANTINE,
        Visibility.PUBLISHED: _AFTER_QUARANTINE - {Visibility.PUBLISHED},
        Visibility.AGE_RESTRICTED: _AFTER_QUARANTINE - {Visibility.AGE_RESTRICTED},
        Visibility.LIMITED: _AFTER_QUARANTINE - {Visibility.LIMITED},
        # By a won appeal, or by a later decision.
        Visibility.REMOVED: _AFTER_QUARANTINE - {Visibility.REMOVED},
    },
    JobState: {
        JobState.QUEUED: {JobState.RUNNING},
        # Back to the queue when the lease ran out or the attempt failed.
        JobState.RUNNING: {JobState.QUEUED, JobState.DONE, JobState.DEAD},
        JobState.DONE: set(),
        JobState.DEAD: set(),
    },
    CaseState: {
        CaseState.QUEUED: {CaseState.CLAIMED},
        CaseState.CLAIMED: {
            CaseState.QUEUED,
            CaseState.ASKED,
            CaseState.ESCALATED,
            CaseState.DECIDED,
            CaseState.CLOSED,
        },
        # Back when the creator has answered, or did not in time; or a moderator goes on without.
        CaseState.ASKED: {CaseState.QUEUED, CaseState.ESCALATED, CaseState.CLAIMED},
        CaseState.ESCALATED: {CaseState.CLAIMED},
        CaseState.DECIDED: {CaseState.APPEALED},
        CaseState.APPEALED: {CaseState.HEARING},
        CaseState.HEARING: {CaseState.APPEALED, CaseState.CLOSED},
        CaseState.CLOSED: set(),
    },
    ReportState: {
        ReportState.OPEN: {ReportState.ACTED, ReportState.NO_ACTION},
        ReportState.ACTED: set(),
        ReportState.NO_ACTION: set(),
    },
    AppealState: {
        AppealState.OPEN: {AppealState.UPHELD, AppealState.OVERTURNED},
        AppealState.UPHELD: set(),
        AppealState.OVERTURNED: set(),
    },
    NoticeState: {
        NoticeState.QUEUED: {NoticeState.SENT, NoticeState.DEAD},
        NoticeState.SENT: set(),
        NoticeState.DEAD: {NoticeState.QUEUED},
    },
}


def may_follow(states: type[TextChoices], before: str, after: str) -> bool:
    """Return whether ``after`` may come directly after ``before``."""
    return after in TRANSITIONS[states][before]
