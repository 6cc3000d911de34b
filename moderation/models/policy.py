"""The policy as versioned data: rules, their prompts and their terms."""

from django.db import models
from django.db.models import F, Q

from moderation.states import APPEAL_WINDOW, Action


class Policy(models.Model):
    """One version of a policy. Never edited: a change is a new version."""

    name = models.SlugField(max_length=60)
    version = models.PositiveIntegerField()
    title = models.CharField(max_length=120)
    introduction = models.TextField()
    is_demo = models.BooleanField(default=False)
    is_active = models.BooleanField(default=False)
    neutral_prompts = models.JSONField(default=list)
    templates = models.JSONField(default=list)
    deadlines = models.JSONField(
        default=dict, blank=True, help_text="How fast people look, by name: hours."
    )
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "policies"
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="policy_version_once"),
            models.UniqueConstraint(
                fields=["is_active"], condition=Q(is_active=True), name="policy_one_active"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class Rule(models.Model):
    """A clause of the policy, in words for people and in data for probes."""

    class Combine(models.TextChoices):
        """How the scores of several concepts become the rule's score."""

        ANY = "any", "any concept"
        ALL = "all", "all concepts together"

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="rules")
    slug = models.SlugField(max_length=60)
    title = models.CharField(max_length=120)
    text = models.TextField()
    permitted_examples = models.JSONField(default=list)
    prohibited_examples = models.JSONField(default=list)
    advice = models.TextField(help_text="What a creator can change so that the rule is kept.")
    signals = models.JSONField(default=list)
    # Terms that mean harm together: [{"within": 6, "groups": [{"name": …, "terms": […]}]}].
    conditions = models.JSONField(default=list)
    combine = models.CharField(max_length=3, choices=Combine.choices, default=Combine.ANY)
    review = models.FloatField()
    hold = models.FloatField()
    # The share of what breaks the rule that people are content to miss, for the guarantee.
    alpha = models.FloatField(null=True, blank=True)
    harm = models.PositiveSmallIntegerField(default=1)
    is_severe = models.BooleanField(
        default=False, help_text="A warning precedes every picture under this rule."
    )
    is_child_safety = models.BooleanField(default=False)
    deadline_class = models.CharField(max_length=60, blank=True)
    deadline_hours = models.PositiveIntegerField(default=72)
    appeal_days = models.PositiveSmallIntegerField(default=APPEAL_WINDOW.days)
    actions = models.JSONField(default=list)
    # Points by action; an action that is not in it has the usual points (states.py).
    strike_points = models.JSONField(default=dict, blank=True)
    category = models.CharField(max_length=100, blank=True)
    keyword = models.CharField(max_length=100, blank=True)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["policy", "slug"], name="rule_slug_once"),
            models.CheckConstraint(
                condition=Q(review__gt=0, hold__lte=1, hold__gte=F("review")),
                name="rule_thresholds_in_order",
            ),
            models.CheckConstraint(
                condition=Q(appeal_days__gte=APPEAL_WINDOW.days),
                name="rule_appeal_window_never_shorter",
            ),
            models.CheckConstraint(
                condition=Q(alpha__isnull=True) | Q(alpha__gt=0, alpha__lt=1),
                name="rule_alpha_is_a_share",
            ),
            models.CheckConstraint(
                condition=Q(is_child_safety=False) | Q(is_severe=True),
                name="rule_child_safety_is_severe",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def action_choices(self) -> list[tuple[str, str]]:
        """Return the ladder of actions as value and label."""
        return [(value, str(Action(value).label)) for value in self.actions]


class Prompt(models.Model):
    """A sentence that pictures are compared with."""

    class Kind(models.TextChoices):
        """Which side of the comparison the prompt stands on."""

        PROHIBITED = "prohibited", "prohibited"
        CONTRAST = "contrast", "contrast"

    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="prompts")
    concept = models.SlugField(max_length=60)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    text = models.CharField(max_length=500)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["rule", "concept", "kind", "text"], name="prompt_once"),
        ]

    def __str__(self) -> str:
        return self.text


class ConceptVector(models.Model):
    """A direction in one encoder's space that stands for a concept, with its own threshold.

    ``values`` are little-endian fp32; ``position`` counts with the prompts of the same rule.
    """

    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="vectors")
    concept = models.SlugField(max_length=60)
    name = models.CharField(max_length=200)
    encoder = models.CharField(max_length=200)
    revision = models.CharField(max_length=200)
    values = models.BinaryField()
    threshold = models.FloatField(help_text="A cosine.")
    weight = models.FloatField(default=1.0)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["rule", "concept", "name"], name="concept_vector_once"),
        ]

    def __str__(self) -> str:
        return self.name


class Term(models.Model):
    """A word or phrase that a rule looks for in what an upload says of itself."""

    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="terms")
    text = models.CharField(max_length=200)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "text"], name="term_once")]

    def __str__(self) -> str:
        return self.text
