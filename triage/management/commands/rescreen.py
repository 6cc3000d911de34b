"""Weigh remembered pictures again, as after a change of the policy, the encoder or a head."""

import json
from argparse import ArgumentParser
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from moderation.errors import Refusal
from moderation.models import ModelVersion
from moderation.rescreening import is_raised, version_rescreen
from moderation.selectors import rescreening as selectors
from moderation.selectors.workers import policy_data
from moderation.states import Concern
from triage import known_texts
from triage.embeddings import unpack
from triage.encoders.base import Encoder, EncoderError
from triage.rescreening import rescreen
from triage.sample import Policy
from triage.scoring import SIGNAL, ConceptBank, ScoringError
from triage.tasks import policy_from

_AT_ONCE = 2_000  # versions in one matrix product; some 16,000 pictures, 32 MB of vectors
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One version that changes hands under one rule: the most that any of its previews asks for."""

    version: str
    rule: str
    before: str
    after: str


@dataclass(slots=True)
class Report:
    """What would change hands, and how many versions workers are to weigh."""

    policy: str
    encoder: str
    dry_run: bool
    already_weighed: int = 0
    being_weighed: int = 0
    versions: int = 0
    pictures: int = 0
    versions_without_embedding: int = 0
    pictures_without_embedding: int = 0
    rules: dict[str, dict[str, int]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    to_queue: int = 0


class Command(BaseCommand):
    """``manage.py rescreen``."""

    help = (
        "Score what was uploaded before against the prompts of a policy and the heads in place, "
        "from remembered embeddings: no picture is opened. For after a change of the policy, after "
        "`manage.py learn` or a head put in place by hand, and after a change of ENCODER, of which "
        "nothing is remembered yet. First says which versions would newly be flagged, held "
        "or cleared, by rule. Then, without --dry-run, queues a triage job for each version that "
        "is raised or has a picture that nothing is remembered of; workers write its findings and "
        "bring it before a person. Nothing is published or taken down by this. Run again, it goes "
        "on where it stopped, and changes nothing once all is done."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--policy",
            default="",
            metavar="NAME:VERSION",
            help="a stored policy (the one in force); another one can only be tried, --dry-run",
        )
        parser.add_argument("--dry-run", action="store_true", help="report, change nothing")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Report what would change hands, then queue it."""
        stored = selectors.policy_named(options["policy"])
        if stored is None:
            wanted = options["policy"] or "in force"
            raise CommandError(
                f"There is no policy “{wanted}”. Import it with `manage.py policy import`, and "
                "name it as NAME:VERSION."
            )
        if not (stored.is_active or options["dry_run"]):
            raise CommandError(
                f"{stored} is not in force, so nobody could decide under it. Add --dry-run to see "
                "what it would change, or put it in force with `manage.py policy import`."
            )
        policy = policy_from(policy_data(stored))
        try:
            encoder = known_texts.load(settings.ENCODER)
            bank = ConceptBank(policy, encoder)
        except (EncoderError, ScoringError) as error:
            raise CommandError(str(error)) from error
        for slug, why in bank.unfit.items():
            self.stderr.write(f"The rule “{slug}” is left out: {why}")
        standing = selectors.standing(stored, bank.scorer)
        report = Report(
            policy=str(stored),
            encoder=f"{encoder.name} {encoder.revision}",
            dry_run=options["dry_run"],
            already_weighed=standing.already_weighed,
            being_weighed=standing.being_weighed,
        )
        weighed = selectors.versions_weighed(
            policy=stored,
            scorer=bank.scorer,
            encoder=encoder.name,
            revision=encoder.revision,
        )
        bar = tqdm(weighed, total=standing.to_weigh, desc="rescreening", unit=" versions")
        to_queue = self._screen(report, policy, encoder, bar)
        report.to_queue = len(to_queue)
        # Before anything is done: whoever breaks it off half way knows what it was about.
        if options["json"]:
            self.stdout.write(json.dumps(asdict(report)))
        else:
            self._tell(report)
        self.stdout.flush()
        queued = 0
        if not options["dry_run"]:
            try:
                for pk in tqdm(to_queue, desc="queueing", unit=" versions"):
                    queued += version_rescreen(
                        version=ModelVersion(pk=pk),
                        policy=stored,
                        scorer=bank.scorer,
                        actor=None,
                    )
            except Refusal as refusal:
                raise CommandError(
                    f"{refusal} {queued} of {len(to_queue)} versions were queued; run it again to "
                    "go on."
                ) from refusal
        done = "Nothing was changed." if options["dry_run"] else f"{queued} versions were queued."
        (self.stderr if options["json"] else self.stdout).write(done)

    def _screen(
        self,
        report: Report,
        policy: Policy,
        encoder: Encoder,
        weighed: Iterable[selectors.Weighed],
    ) -> list[int]:
        """Fill in the report and return the keys of the versions that workers are to weigh."""
        to_queue: list[int] = []
        page: list[selectors.Weighed] = []
        for version in weighed:
            page.append(version)
            if len(page) == _AT_ONCE:
                to_queue += self._screen_page(report, policy, encoder, page)
                page = []
        return to_queue + self._screen_page(report, policy, encoder, page)

    def _screen_page(
        self, report: Report, policy: Policy, encoder: Encoder, page: list[selectors.Weighed]
    ) -> list[int]:
        if not page:
            return []
        after = _concerns(policy, encoder, page)
        counts = {rule: Counter(of_rule) for rule, of_rule in report.rules.items()}
        to_queue = []
        for version in page:
            lacking = len(version.previews) - len(version.vectors)
            report.versions += 1
            report.pictures += len(version.previews)
            report.versions_without_embedding += lacking > 0
            report.pictures_without_embedding += lacking
            changes, raised = _changes(version, after[version.pk])
            for change in changes:
                counts.setdefault(change.rule, Counter())[_kind(change)] += 1
            report.changes += changes
            if raised or (lacking and policy.rules_for(SIGNAL)):
                to_queue.append(version.pk)
        report.rules = {rule: dict(of_rule) for rule, of_rule in sorted(counts.items())}
        return to_queue

    def _tell(self, report: Report) -> None:
        say = self.stdout.write
        say(
            f"{report.versions} versions with {report.pictures} pictures, under {report.policy} by "
            f"{report.encoder}. {report.already_weighed} versions were weighed by "
            f"these and the heads in place already, {report.being_weighed} are with a worker."
        )
        if report.pictures_without_embedding:
            say(
                f"Of {report.pictures_without_embedding} pictures in "
                f"{report.versions_without_embedding} versions nothing is remembered; a worker "
                "looks at them."
            )
        if not report.rules:
            say("No version changes hands.")
        for rule, counts in report.rules.items():
            told = ", ".join(f"{number} newly {kind}" for kind, number in sorted(counts.items()))
            say(f"  {rule}: {told}")
        for change in report.changes[:_SHOWN]:
            say(f"    {change.version}  {change.rule}: {change.before} -> {change.after}")
        if len(report.changes) > _SHOWN:
            say(f"    and {len(report.changes) - _SHOWN} more; --json lists them all")
        if any("cleared" in counts for counts in report.rules.values()):
            say("What is newly cleared stays where it is: its case is for a person to close.")


def _concerns(
    policy: Policy, encoder: Encoder, page: list[selectors.Weighed]
) -> dict[int, dict[tuple[str, int], str]]:
    """Return for each version what its remembered previews ask for, by rule and preview."""
    found: dict[int, dict[tuple[str, int], str]] = defaultdict(dict)
    rows = [
        (version.pk, preview, vector)
        for version in page
        for preview, vector in version.vectors.items()
        if len(vector) == 2 * encoder.dim
    ]
    if not rows:
        return found
    slugs, scores, review = rescreen(policy, encoder, unpack([vector for _, _, vector in rows]))
    rules = {rule.slug: rule for rule in policy.rules}
    hold = np.array([rules[slug].hold for slug in slugs])
    for row, column in np.argwhere(scores >= review):
        version, preview, _ = rows[row]
        held = scores[row, column] >= hold[column]
        found[version][slugs[column], preview] = Concern.HOLD if held else Concern.REVIEW
    return found


def _changes(
    version: selectors.Weighed, after: dict[tuple[str, int], str]
) -> tuple[list[Change], bool]:
    """Return what changes by rule, and whether any single preview asks for more than before."""
    remembered = {key: what for key, what in version.concerns.items() if key[1] in version.vectors}
    raised = any(is_raised(remembered.get(key, Concern.NONE), after[key]) for key in after)
    changes = []
    for slug in sorted({slug for slug, _ in (*remembered, *after)}):
        was, is_now = _most(remembered, slug), _most(after, slug)
        if was != is_now:
            changes.append(Change(version.code, slug, was, is_now))
    return changes, raised


def _most(concerns: dict[tuple[str, int], str], slug: str) -> str:
    of_rule = {str(what) for (rule, _), what in concerns.items() if rule == slug}
    return next((str(one) for one in (Concern.HOLD, Concern.REVIEW) if one in of_rule), "none")


def _kind(change: Change) -> str:
    """Name a change by where it ends."""
    return {"hold": "held", "review": "flagged", "none": "cleared"}[change.after]
