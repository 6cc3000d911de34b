"""What a second person is shown of a decision, and what their answers say together."""

from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q
from django.http import Http404

from moderation.agreement import Agreement, agreement
from moderation.authz import (
    conflict_of_interest,
    knows_answer,
    require_moderator,
    require_policy_lead,
)
from moderation.models import (
    Account,
    Case,
    Decision,
    Finding,
    ModelVersion,
    PreviewImage,
    Report,
    ReviewItem,
    Rule,
    SecondReview,
)
from moderation.selectors.cases import Concerned, by_rule
from moderation.states import Concern
from moderation.wellbeing import preference_of

# Of what could be asked next; the first that fits is. More would only be read for nothing.
LOOKED_THROUGH = 50


@dataclass(frozen=True)
class ReviewFile:
    """The evidence of a decision without the decision."""

    item: ReviewItem
    case: Case
    version: ModelVersion
    previews: list[PreviewImage]
    concerns: list[Concerned]
    reports: list[Report]
    rules: list[Rule]
    rules_concerned: list[Rule]


def next_review(account: Account) -> ReviewItem | None:
    """Return what this person is asked next, or None. Raises NotAllowed for all but moderators.

    Never what they decided or confirmed, their own model or report; nothing under a rule they do
    not want to see. The order says nothing about who decided what.
    """
    require_moderator(account)
    answered = SecondReview.objects.filter(item=OuterRef("pk")).filter(
        Q(kind=ReviewItem.Kind.DRAWN) | Q(reviewer=account)
    )
    reported = Report.objects.filter(
        reporter=account, version__uploaded_model=OuterRef("decision__version__uploaded_model")
    )
    # Not before the case has come to rest: an appeal may be under way, or somebody's mind.
    asked = (
        ReviewItem.objects.filter(ended_at__isnull=True)
        .exclude(Exists(answered))
        .exclude(Exists(reported))
        .exclude(decision__decided_by=account)
        .exclude(decision__effect__second_person=account)
        .exclude(given_by=account)
        .exclude(decision__version__uploaded_model__creator=account)
        .filter(decision__version__isolated_at__isnull=True)
        .select_related("decision__version", "decision__policy")
        .order_by("code")
    )
    unwanted = set(preference_of(account).opted_out)
    return next(
        (item for item in asked[:LOOKED_THROUGH] if not unwanted & set(item.at_stake)), None
    )


def review_item_for(account: Account, code: str) -> ReviewItem:
    """Return what a moderator is asked. Raises NotAllowed or Http404 otherwise."""
    require_moderator(account)
    item = (
        ReviewItem.objects.filter(code=code, decision__version__isolated_at__isnull=True)
        .select_related(
            "decision__version__uploaded_model__creator",
            "decision__policy",
            "decision__case",
            "decision__decided_by",
            "decision__effect",
        )
        .first()
    )
    if item is None:
        raise Http404
    # Whoever decided, confirmed, made or reported it would not be answering blind.
    if knows_answer(account, item.decision) or conflict_of_interest(account, item.decision.version):
        raise Http404
    return item


def review_file(item: ReviewItem) -> ReviewFile:
    """Gather what was known when it was decided; nothing of what was decided, or came after."""
    version = item.decision.version
    findings = list(
        Finding.objects.filter(version=version, created_at__lte=item.decision.decided_at)
        .exclude(concern=Concern.NONE)
        .select_related("rule", "file", "preview")
        .order_by("-score", "pk")
    )
    # What people reported by then, without who they are.
    known = item.decision.case.reports.filter(created_at__lte=item.decision.decided_at)
    rules = list(item.decision.policy.rules.order_by("position"))
    return ReviewFile(
        item=item,
        case=item.decision.case,
        version=version,
        previews=list(version.previews.all()),
        concerns=by_rule(findings),
        reports=list(known.select_related("rule").order_by("created_at")),
        rules=rules,
        rules_concerned=[rule for rule in rules if rule.slug in item.at_stake],
    )


@dataclass(frozen=True)
class OwnReviews:
    """How a person's answers stand: theirs to see before anybody's."""

    known: int
    known_right: int
    drawn: int
    drawn_agreeing: int
    missed: list[SecondReview]


def own_reviews(account: Account) -> OwnReviews:
    """Return how often a person agreed, and the known answers they did not give."""
    given = list(
        SecondReview.objects.filter(reviewer=account)
        .select_related("item__decision__version__uploaded_model", "item__decision__case")
        .order_by("-given_at")[:500]
    )
    known = [review for review in given if review.kind == ReviewItem.Kind.KNOWN]
    drawn = [review for review in given if review.kind == ReviewItem.Kind.DRAWN]
    return OwnReviews(
        known=len(known),
        known_right=sum(review.agrees for review in known),
        drawn=len(drawn),
        drawn_agreeing=sum(review.agrees for review in drawn),
        missed=[review for review in known if not review.agrees][:10],
    )


def agreement_in_all(reviews: list[SecondReview]) -> Agreement:
    """Return how far first and second answers agree: leave it, restrict it, remove it."""
    return agreement([(review.item.answer, review.answer) for review in reviews])


def agreement_by_rule(reviews: list[SecondReview]) -> dict[str, Agreement]:
    """Return, for each rule, how far two people agree on whether it is broken.

    Over the pairs in which the evidence or one of the two named the rule: elsewhere both would
    agree that nothing points to it, which says nothing about the rule.
    """
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for review in reviews:
        for rule in {*review.item.at_stake, *review.rules}:
            pairs.setdefault(rule, []).append((rule in review.item.rules, rule in review.rules))
    return {rule: agreement(each) for rule, each in pairs.items()}


def decision_to_teach(account: Account, code: str) -> Decision:
    """Return a decision for a policy lead. Raises NotAllowed or Http404 otherwise."""
    require_policy_lead(account)
    decision = (
        Decision.objects.filter(code=code, version__isolated_at__isnull=True)
        .exclude(creator=account)
        .select_related("version", "case", "effect")
        .first()
    )
    if decision is None:
        raise Http404
    return decision
