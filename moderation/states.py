"""States, actions and their named subsets, and which state may follow which. Data only.

Stored values are never reused for another meaning.
"""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

from django.db.models import TextChoices


class Role(TextChoices):
    """What an account is trusted with."""

    CREATOR = "creator", "Creator"
    MODERATOR = "moderator", "Moderator"
    SENIOR_MODERATOR = "senior_moderator", "Senior moderator"
    POLICY_LEAD = "policy_lead", "Policy lead"
    CHILD_SAFETY = "child_safety", "Child-safety specialist"
    ADMIN = "admin", "Admin"


MODERATING = frozenset({Role.MODERATOR, Role.SENIOR_MODERATOR, Role.CHILD_SAFETY, Role.ADMIN})
POLICY_LEADING = frozenset({Role.POLICY_LEAD, Role.ADMIN})
STAFF = MODERATING | {Role.POLICY_LEAD}
# Who may enter the place apart. Not admins: they may give the role, which is on record.
CHILD_SAFETY_TEAM = frozenset({Role.CHILD_SAFETY})
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
    WITHDRAWN = "withdrawn", "Taken down by its creator"


# Anybody with the address may open these; LISTED ones also appear in the catalogue.
REACHABLE = frozenset({Visibility.PUBLISHED, Visibility.AGE_RESTRICTED, Visibility.LIMITED})
LISTED = frozenset({Visibility.PUBLISHED, Visibility.AGE_RESTRICTED})


class JobState(TextChoices):
    """Where a triage job stands."""

    QUEUED = "queued", "Waiting for a worker"
    RUNNING = "running", "With a worker"
    DONE = "done", "Done"
    DEAD = "dead", "Given up after three attempts"


UNFINISHED_JOBS = (JobState.QUEUED, JobState.RUNNING)


class CaseState(TextChoices):
    """Where a case stands."""

    QUEUED = "queued", "Waiting for a moderator"
    CLAIMED = "claimed", "With a moderator"
    ASKED = "asked", "Waiting for the creator"
    ESCALATED = "escalated", "Waiting for a senior moderator"
    CONFIRM = "confirm", "Decided, waiting for a second person"
    DECIDED = "decided", "Decided"
    APPEALED = "appealed", "Appealed, waiting for another moderator"
    HEARING = "hearing", "Appeal with a moderator"
    RECONFIRM = "reconfirm", "Appeal answered, waiting for a second person"
    CLOSED = "closed", "Closed"


OPEN_CASES = frozenset(
    {
        CaseState.QUEUED,
        CaseState.CLAIMED,
        CaseState.ASKED,
        CaseState.ESCALATED,
        # A report that comes in now joins the case, and whoever confirms has to read it.
        CaseState.CONFIRM,
    }
)
HELD_CASES = frozenset({CaseState.CLAIMED, CaseState.HEARING})
# What a person has yet to take; ESCALATED only by a senior one.
WAITING_CASES = frozenset({CaseState.QUEUED, CaseState.ESCALATED, CaseState.APPEALED})
# What the queue shows: everything that somebody has yet to end.
LISTED_CASES = OPEN_CASES | {CaseState.APPEALED, CaseState.HEARING, CaseState.RECONFIRM}
# What waits for a second, different person.
UNCONFIRMED_CASES = frozenset({CaseState.CONFIRM, CaseState.RECONFIRM})


class ReportState(TextChoices):
    """Where a report stands."""

    OPEN = "open", "Being looked at"
    ACTED = "acted", "Action was taken"
    NO_ACTION = "no_action", "No action was taken"
    WITHDRAWN = "withdrawn", "Withdrawn by who sent it"


ANSWERED_REPORTS = frozenset({ReportState.ACTED, ReportState.NO_ACTION})


class Track(TextChoices):
    """On which track a report runs: what it must hold, and how fast it is looked at."""

    RULE = "rule", "Breaks a rule"
    ILLEGAL = "illegal", "Illegal content"
    LIKENESS = "likeness", "This is me"
    COPY = "copy", "My work was copied"
    FLAGGER = "flagger", "From a trusted flagger"


# Hours to look at a report of this track, where its rule does not allow fewer. DSA Art. 22(1):
# trusted flaggers first. A likeness request carries a deadline of its own, to the minute.
TRACK_HOURS: Mapping[str, int] = {Track.FLAGGER: 24, Track.ILLEGAL: 24, Track.COPY: 72}
# DSA Art. 16(2): these must hold a location, a name, an address and a declaration of good faith.
NOTICES_OF_ILLEGALITY = frozenset({Track.ILLEGAL, Track.FLAGGER})
# TAKE IT DOWN Act, sec. 3(a)(3): within 48 hours of the receipt of a valid request.
LIKENESS_HOURS = 48
# The clock holds what nobody has decided this long before the deadline.
HOLD_BEFORE = timedelta(hours=2)


class Measure(TextChoices):
    """What may follow from misuse of reporting (DSA Art. 23); the first comes first."""

    WARNING = "warning", "Warning"
    SUSPENSION = "suspension", "Reporting suspended for a time"


class MeasureState(TextChoices):
    """Where a measure against misuse of reporting stands."""

    PROPOSED = "proposed", "Proposed by the figures, for a person to decide"
    DISMISSED = "dismissed", "Dismissed"
    IN_FORCE = "in_force", "In force"
    APPEALED = "appealed", "Appealed, waiting for another moderator"
    UPHELD = "upheld", "Upheld on appeal"
    OVERTURNED = "overturned", "Overturned on appeal"


class AppealState(TextChoices):
    """Where an appeal stands."""

    OPEN = "open", "Waiting for another moderator"
    UPHELD = "upheld", "Decision upheld"
    OVERTURNED = "overturned", "Decision overturned"
    MODIFIED = "modified", "Decision replaced by a milder one"
    REMANDED = "remanded", "Sent back to be decided anew"
    MOOT = "moot", "Decision was taken back before an answer"


# What a person may answer; MOOT follows from what happened elsewhere.
APPEAL_OUTCOMES = (
    AppealState.UPHELD,
    AppealState.OVERTURNED,
    AppealState.MODIFIED,
    AppealState.REMANDED,
)


class Side(TextChoices):
    """Who appeals."""

    CREATOR = "creator", "The creator"
    REPORTER = "reporter", "A reporter"


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


class VerdictAnswer(TextChoices):
    """What a person says about a finding."""

    RIGHT = "right", "Right"
    WRONG = "wrong", "Wrong"
    UNSURE = "unsure", "Unsure"


class VerdictSource(TextChoices):
    """Where a verdict was given."""

    CASE = "case", "On the page of a case"
    DECISION = "decision", "By a decision"
    QUESTION = "question", "In a run of single questions"
    AUDIT = "audit", "In a blind audit"


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
    """What a decision does. Each name of a subset below says what follows from it."""

    APPROVE = "approve", "Approve"
    DISMISS = "dismiss", "Dismiss the reports"
    LABEL = "label", "Label"
    AGE_RESTRICT = "age_restrict", "Age-restrict"
    GEO_RESTRICT = "geo_restrict", "Restrict by country"
    DISABLE_PREVIEW = "disable_preview", "Disable a preview"
    LIMIT = "limit", "Limit"
    REMOVE = "remove", "Remove"
    REMOVE_MODEL = "remove_model", "Remove the whole model"
    STRIKE = "strike", "Strike"
    MUTE = "mute", "Mute the account"
    SUSPEND = "suspend", "Suspend the account"
    CHILD_SAFETY = "child_safety", "Escalate to child safety"
    LAW = "law", "Escalate to law enforcement"
    REVERSE = "reverse", "Take a decision back"


# From the least to the most severe.
RESTRICTIONS = (
    Action.LABEL,
    Action.AGE_RESTRICT,
    Action.GEO_RESTRICT,
    Action.DISABLE_PREVIEW,
    Action.LIMIT,
    Action.REMOVE,
    Action.REMOVE_MODEL,
    Action.STRIKE,
    Action.MUTE,
    Action.SUSPEND,
    Action.CHILD_SAFETY,
)
# What many cases can be given at once: what is about a version alone, and can be undone.
DECIDED_TOGETHER = (Action.APPROVE, Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE)
APPEALABLE_BY_CREATOR = frozenset(RESTRICTIONS)
# What leaves a report without a consequence; and what takes a consequence back.
APPEALABLE_BY_REPORTER = frozenset({Action.APPROVE, Action.DISMISS, Action.REVERSE})
REVERSIBLE = frozenset(RESTRICTIONS)


class Answer(TextChoices):
    """What two people who look at the same thing can say: coarser than the actions."""

    ALLOW = "allow", "Leave it"
    RESTRICT = "restrict", "Restrict it"
    REMOVE = "remove", "Remove it"


# What an action says. What is missing here is no answer to the question whether it may stay.
ANSWERS: Mapping[Action, Answer] = {
    Action.APPROVE: Answer.ALLOW,
    Action.DISMISS: Answer.ALLOW,
    Action.LABEL: Answer.RESTRICT,
    Action.AGE_RESTRICT: Answer.RESTRICT,
    Action.GEO_RESTRICT: Answer.RESTRICT,
    Action.DISABLE_PREVIEW: Answer.RESTRICT,
    Action.LIMIT: Answer.RESTRICT,
    Action.REMOVE: Answer.REMOVE,
    Action.REMOVE_MODEL: Answer.REMOVE,
}
# About the account and not about what it uploaded.
ABOUT_ACCOUNTS = frozenset({Action.STRIKE, Action.MUTE, Action.SUSPEND})
ENDS_SOMETIME = frozenset(
    {Action.MUTE, Action.SUSPEND, Action.LABEL, Action.GEO_RESTRICT, Action.LIMIT}
)
# What becomes public by it, and therefore waits until it can no longer be undone.
LOOSENING = frozenset({Action.APPROVE, Action.DISMISS, Action.REVERSE})
# Applies at once although a second person has yet to confirm: it must not be seen meanwhile.
PROTECTS_WHILE_HELD = frozenset({Action.CHILD_SAFETY})
# What the creator is told about, and when. An escalation is no business of the person concerned.
TOLD_TO_CREATOR = frozenset(Action) - {Action.LAW, Action.DISMISS}
# A rule allows what it names, and what is named here beside one of these.
ALLOWED_BY: Mapping[Action, frozenset[Action]] = {
    Action.LABEL: frozenset({Action.AGE_RESTRICT, Action.LIMIT, Action.REMOVE}),
    Action.GEO_RESTRICT: frozenset({Action.LIMIT, Action.REMOVE}),
    Action.DISABLE_PREVIEW: frozenset({Action.LIMIT, Action.REMOVE}),
    Action.REMOVE_MODEL: frozenset({Action.REMOVE}),
    Action.STRIKE: frozenset({Action.LIMIT, Action.REMOVE}),
    Action.MUTE: frozenset({Action.LIMIT, Action.REMOVE}),
    Action.SUSPEND: frozenset({Action.REMOVE}),
    Action.CHILD_SAFETY: frozenset({Action.REMOVE}),
}
VISIBILITY_AFTER: Mapping[str, Visibility] = {
    Action.APPROVE: Visibility.PUBLISHED,
    Action.AGE_RESTRICT: Visibility.AGE_RESTRICTED,
    Action.LIMIT: Visibility.LIMITED,
    Action.REMOVE: Visibility.REMOVED,
    Action.REMOVE_MODEL: Visibility.REMOVED,
    Action.CHILD_SAFETY: Visibility.REMOVED,
}


# What proxies say where they do not know; ISO 3166 leaves it to its users.
UNKNOWN_COUNTRY = "XX"


class Source(TextChoices):
    """Where a decision came from (DSA Art. 17(3)(b) and (c))."""

    PERSON = "person", "A person"
    CONFIRMED = "confirmed", "A machine's proposal, confirmed by a person"
    ORDER = "order", "A legal order"


# What a clock does by itself, beside the actions and sources of decisions: it hides until people
# decide.
CLOCK = "clock"


class Ground(TextChoices):
    """What a restriction rests on (DSA Art. 17(3)(d) and (e))."""

    POLICY = "policy", "The house's policy"
    LAW = "law", "The law"


class EffectState(TextChoices):
    """How far a decision has come. Only IN_FORCE has been told to anybody."""

    HELD = "held", "Waits for a second person"
    DUE = "due", "Can still be undone"
    IN_FORCE = "in_force", "In force"
    ENDED = "ended", "Its time is over"
    UNDONE = "undone", "Undone before anybody was told"
    CANCELLED = "cancelled", "Withdrawn before a second person confirmed it"


# What counts. A loosening counts only once it is in force.
COUNTED = frozenset({EffectState.DUE, EffectState.IN_FORCE})
CAME_INTO_FORCE = frozenset({EffectState.IN_FORCE, EffectState.ENDED})


class Step(NamedTuple):
    """One step of the ladder: from how many points on, what is proposed, for how long."""

    points: Decimal
    name: str
    action: str
    days: int | None


# What a person is proposed to do at how many points; nothing of it happens by itself.
LADDER = (
    Step(Decimal(1), "a warning", "", None),
    Step(Decimal(2), "muted for three days", Action.MUTE, 3),
    Step(Decimal(4), "suspended for thirty days", Action.SUSPEND, 30),
    Step(Decimal(6), "a person looks at the whole account", Action.SUSPEND, None),
)
# Where the rule of the policy says nothing else.
STRIKE_POINTS: Mapping[str, Decimal] = {
    Action.DISABLE_PREVIEW: Decimal("0.5"),
    Action.LIMIT: Decimal("0.5"),
    Action.REMOVE: Decimal(1),
    Action.REMOVE_MODEL: Decimal(2),
    Action.STRIKE: Decimal(2),
}
# A strike counts half after this many days, and nothing after the second number.
STRIKE_HALF_LIFE_DAYS = 30
STRIKE_LIFE_DAYS = 90
# A first offence counts half, unless the rule is about harm as grave as this.
FIRST_OFFENCE = Decimal("0.5")
GRAVE_HARM = 5

# Six months, counted as 184 days because no six months are longer (DSA Art. 20(1)).
APPEAL_WINDOW = timedelta(days=184)

_AFTER_QUARANTINE: set[str] = {
    Visibility.PUBLISHED,
    Visibility.AGE_RESTRICTED,
    Visibility.LIMITED,
    Visibility.REMOVED,
}
# Undo leads back into quarantine; a creator may take anything down.
_ANYWHERE: set[str] = _AFTER_QUARANTINE | {Visibility.QUARANTINED, Visibility.WITHDRAWN}

TRANSITIONS: Mapping[type[TextChoices], Mapping[str, set[str]]] = {
    Visibility: {
        Visibility.DRAFT: {Visibility.QUARANTINED},
        Visibility.QUARANTINED: _AFTER_QUARANTINE | {Visibility.WITHDRAWN},
        Visibility.PUBLISHED: _ANYWHERE - {Visibility.PUBLISHED},
        Visibility.AGE_RESTRICTED: _ANYWHERE - {Visibility.AGE_RESTRICTED},
        Visibility.LIMITED: _ANYWHERE - {Visibility.LIMITED},
        # By a won appeal, by a later decision; by undo also into quarantine.
        Visibility.REMOVED: _ANYWHERE - {Visibility.REMOVED},
        Visibility.WITHDRAWN: {Visibility.REMOVED},
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
            CaseState.CONFIRM,
            CaseState.DECIDED,
            CaseState.CLOSED,
        },
        # Back when the creator has answered, or did not in time; or a moderator goes on without.
        CaseState.ASKED: {CaseState.QUEUED, CaseState.ESCALATED, CaseState.CLAIMED},
        CaseState.ESCALATED: {CaseState.CLAIMED},
        # Confirmed, or withdrawn without a verdict.
        CaseState.CONFIRM: {
            CaseState.DECIDED,
            CaseState.CLOSED,
            CaseState.QUEUED,
            CaseState.ESCALATED,
        },
        # Claimed again by undo.
        CaseState.DECIDED: {CaseState.APPEALED, CaseState.CLAIMED},
        # Closed without an answer where the decision was taken back meanwhile.
        CaseState.APPEALED: {CaseState.HEARING, CaseState.CLOSED},
        CaseState.HEARING: {
            CaseState.APPEALED,
            CaseState.RECONFIRM,
            CaseState.CLOSED,
        },
        CaseState.RECONFIRM: {CaseState.CLOSED, CaseState.APPEALED},
        # By a reporter's appeal, or by undo.
        CaseState.CLOSED: {CaseState.APPEALED, CaseState.CLAIMED, CaseState.HEARING},
    },
    ReportState: {
        ReportState.OPEN: {ReportState.ACTED, ReportState.NO_ACTION, ReportState.WITHDRAWN},
        ReportState.ACTED: set(),
        ReportState.NO_ACTION: set(),
        ReportState.WITHDRAWN: set(),
    },
    MeasureState: {
        MeasureState.PROPOSED: {MeasureState.DISMISSED, MeasureState.IN_FORCE},
        MeasureState.DISMISSED: set(),
        MeasureState.IN_FORCE: {MeasureState.APPEALED},
        MeasureState.APPEALED: {MeasureState.UPHELD, MeasureState.OVERTURNED},
        MeasureState.UPHELD: set(),
        MeasureState.OVERTURNED: set(),
    },
    AppealState: {
        AppealState.OPEN: {*APPEAL_OUTCOMES, AppealState.MOOT},
        AppealState.UPHELD: set(),
        AppealState.OVERTURNED: set(),
        AppealState.MODIFIED: set(),
        AppealState.REMANDED: set(),
        AppealState.MOOT: set(),
    },
    EffectState: {
        EffectState.HELD: {EffectState.DUE, EffectState.CANCELLED},
        EffectState.DUE: {EffectState.IN_FORCE, EffectState.UNDONE},
        EffectState.IN_FORCE: {EffectState.ENDED},
        EffectState.ENDED: set(),
        EffectState.UNDONE: set(),
        EffectState.CANCELLED: set(),
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
