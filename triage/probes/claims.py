"""What the page and the files say in words, held against the words of the rules.

Reads the title, description, tags, trigger words and preview prompts of a version and the
metadata of its files. Words are claims: they can show what is there and never what is not, so
silence and "no nudity" lower nothing that another probe found.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from triage.claims import Claim, Claims, read_claims
from triage.containers.errors import ContainerError
from triage.folding import TextTooLongError, shown
from triage.patterns import TooManyMatchesError
from triage.policy_search import Found, Hit, Named, PolicySearch, Together, consent_lifts
from triage.sample import Finding, Outcome, Rule, Sample, Stage, Subject, WeightFile
from triage.sandbox import SandboxError

SIGNAL = "claims"
LIKENESS = "claims.likeness"

# Strengths are an order with room between, not measured probabilities: a policy's thresholds are
# set against them, and Platt calibration replaces them once moderators have ruled.
# A name in passing or a denial ("no nudity") informs, and stays below any review threshold in use.
MENTION = 0.3
# One word alone: more often right than wrong, and a person should look.
LONE_TERM = 0.6
# Words that only mean harm together leave little room for another reading.
COMBINATION = 0.8
# The file or page is named after a listed person or calls the name a woman, a man, an actress.
LIKENESS_OF_A_PERSON = 0.9

# Half a look would be no look: what could not be searched to its end goes to a person.
NOT_SEARCHED = (TextTooLongError, TooManyMatchesError)

# Metadata goes through many hands; ten matches explain a score, the rest are counted.
SHOWN = 10

# In the web UI's own format a prompt is followed by what the picture should not show.
_NEGATIVE_PROMPT = re.compile(r"^\s*negative prompt:.*?(?=^\s*steps:|\Z)", re.I | re.M | re.S)


def _today() -> date:
    return datetime.now(UTC).date()


class ClaimsProbe:
    """Matches what a page and its files say against each rule that listens to claims."""

    name = "claims"
    version = "1"
    stage = Stage.FILES

    def __init__(
        self,
        read: Callable[[Path], Claims] = read_claims,
        today: Callable[[], date] = _today,
    ) -> None:
        self._read = read
        self._today = today

    def examine(self, sample: Sample) -> Iterator[Finding]:
        """Yield one finding for each rule and subject, and one for each file that was not read."""
        rules = [r for r in sample.policy.rules if SIGNAL in r.signals or LIKENESS in r.signals]
        version = Subject("version", sample.key)
        if not rules:
            yield self._unscored(
                version,
                Outcome.ABSTAINED,
                "No rule of this policy listens to what pages and files say.",
                "claims.no_rules",
            )
            return
        today = self._today()
        search = PolicySearch(rules, sample.people, today)
        files: list[tuple[WeightFile, Claims, Found]] = []
        for file in sample.files:
            subject = Subject("file", file.key)
            try:
                claims = self._read(file.path)
                found = search.over((Claim("file name", file.name, naming=True), *claims.texts))
            except (ContainerError, SandboxError, *NOT_SEARCHED) as error:
                reason = f"What the file says about itself could not be read: {error}"
                yield self._unscored(subject, Outcome.FAILED, reason, error.code)
                continue
            if not claims.complete:
                yield self._unscored(
                    subject, Outcome.FAILED, " ".join(claims.notes), "claims.too_many"
                )
            files.append((file, claims, found))
        try:
            page = search.over(page_claims(sample))
        except NOT_SEARCHED as error:
            yield self._unscored(version, Outcome.FAILED, str(error), error.code)
            return
        everything = [found for _, _, found in files]
        for rule in rules:
            judged = _Judgement(rule, search, today)
            yield self._finding(judged, version, page, beyond=everything)
            for file, claims, found in files:
                yield self._finding(judged, Subject("file", file.key), found, claims=claims)

    def _finding(
        self,
        judged: "_Judgement",
        subject: Subject,
        found: Found,
        beyond: list[Found] | None = None,
        claims: Claims | None = None,
    ) -> Finding:
        rule = judged.rule
        reason_against = judged.cannot_judge()
        if reason_against:
            code, reason = reason_against
            outcome = Outcome.FAILED if code == "term.syntax" else Outcome.ABSTAINED
            return self._unscored(subject, outcome, reason, code, rule=rule.slug)
        score, code, reason, evidence = judged.weigh(found, beyond or ())
        evidence["texts_read"] = found.texts
        if claims is not None:
            notes = list(claims.notes)
            if not claims.texts:
                notes.append(
                    "The file says nothing about itself. Tools can strip what training programs "
                    "write, so this speaks neither for nor against it."
                )
            evidence["notes"] = notes
            evidence["facts"] = {key: shown(value) for key, value in claims.facts.items()}
            evidence["folders"] = [
                {
                    "name": shown(folder.name[:200]),
                    "repeats": folder.repeats,
                    "images": folder.images,
                    "regularisation": folder.regularisation,
                }
                for folder in claims.folders[:SHOWN]
            ]
        return Finding(
            self.name,
            subject,
            Outcome.SCORED,
            reason,
            code,
            rule=rule.slug,
            score=score,
            review=rule.review,
            hold=rule.hold,
            evidence=evidence,
            versions={"probe": self.version},
        )

    def _unscored(
        self, subject: Subject, outcome: Outcome, reason: str, code: str, rule: str = ""
    ) -> Finding:
        return Finding(
            self.name,
            subject,
            outcome,
            reason,
            code,
            rule=rule,
            versions={"probe": self.version},
        )


def page_claims(sample: Sample) -> Iterator[Claim]:
    """Yield every text that a version's page shows."""
    yield Claim("title", sample.title, naming=True)
    yield Claim("description", sample.description)
    yield from (Claim("tag", tag, naming=True) for tag in sample.tags)
    yield from (Claim("trigger word", word, naming=True) for word in sample.trigger_words)
    for preview in sample.previews:
        # What a picture should not show is no claim about the model.
        wanted = _NEGATIVE_PROMPT.sub("", preview.prompt)
        yield Claim(f"prompt of the preview “{shown(preview.name[:80])}”", wanted)


class _Judgement:
    """How one rule reads what was found."""

    def __init__(self, rule: Rule, search: PolicySearch, today: date) -> None:
        self.rule = rule
        self._search = search
        self._today = today

    def cannot_judge(self) -> tuple[str, str] | None:
        """Return code and sentence where the rule has nothing it could be judged by."""
        problem = self._search.problems.get(self.rule.slug)
        if problem:
            return "term.syntax", f"The rule's terms cannot be used. {problem}"
        by_words = SIGNAL in self.rule.signals and (self.rule.terms or self.rule.conditions)
        by_names = LIKENESS in self.rule.signals and self._search.people
        if by_words or by_names:
            return None
        if LIKENESS in self.rule.signals:
            return "claims.no_people", "The people list is empty, so no name could be looked for."
        return "claims.no_terms", "The rule names no terms to look for."

    def weigh(
        self, found: Found, beyond: list[Found] | tuple[()]
    ) -> tuple[float, str, str, dict[str, object]]:
        """Return score, code, reason and evidence."""
        weighed: list[tuple[float, str, str]] = []
        evidence: dict[str, object] = {}
        if SIGNAL in self.rule.signals:
            hits, met = found.hits(self.rule), found.together(self.rule, beyond)
            weighed += map(_weigh_hit, hits)
            weighed += map(_weigh_together, met)
            evidence["matches"] = [_shown(hit) for hit in hits[:SHOWN]]
            evidence["combinations"] = [_shown_together(one) for one in met[:SHOWN]]
        if LIKENESS in self.rule.signals:
            people = list(found.people())
            weighed += [self._weigh_person(named) for named in people]
            evidence["people"] = [self._shown_person(named) for named in people[:SHOWN]]
        if not weighed:
            texts = "1 text" if found.texts == 1 else f"{found.texts} texts"
            return 0.0, "claims.nothing", f"Nothing matched in {texts}.", evidence
        score, code, reason = max(weighed, key=lambda one: one[0])
        return score, code, reason, evidence

    def _weigh_person(self, named: Named) -> tuple[float, str, str]:
        name, field = named.person.name, named.mentions[0].field
        if consent_lifts(named.person, self.rule, self._today):
            return 0.0, "claims.consent", f"{name} is named and has consented."
        if named.names_the_model:
            hit = named.names_the_model
            reason = (
                f"The {hit.field} names {name} (“{hit.excerpt}”), who is on the people list "
                "and has given no consent that holds."
            )
            return LIKENESS_OF_A_PERSON, "claims.likeness", reason
        if named.beside_class:
            hit, beside = named.beside_class
            reason = (
                f"The {hit.field} names {name} beside “{beside.term}” (“{hit.excerpt}”); the "
                "person is on the people list and has given no consent that holds."
            )
            return LIKENESS_OF_A_PERSON, "claims.likeness", reason
        reason = f"The {field} mentions {name}, who is on the people list, in passing."
        return MENTION, "claims.person_mentioned", reason

    def _shown_person(self, named: Named) -> Mapping[str, object]:
        class_hit = named.beside_class
        return {
            "name": named.person.name,
            "mentions": [_shown(hit) for hit in named.mentions[:SHOWN]],
            "names_the_model": named.names_the_model is not None,
            "person_class": class_hit[1].term if class_hit else None,
            "consent_holds": consent_lifts(named.person, self.rule, self._today),
            "consents": [
                {
                    "rules": list(consent.rules),
                    "until": consent.until.isoformat() if consent.until else None,
                    "withdrawn": consent.withdrawn,
                }
                for consent in named.person.consents
            ],
        }


def _weigh_hit(hit: Hit) -> tuple[float, str, str]:
    if hit.denied:
        return MENTION, "claims.denied", f"The {hit.field} denies “{hit.term}”: “{hit.excerpt}”."
    often = f", {hit.count:,} times" if hit.count > 1 else ""
    reason = f"The {hit.field} says “{hit.term}”{often}: “{hit.excerpt}”."
    return LONE_TERM, "claims.term", reason


def _weigh_together(met: Together) -> tuple[float, str, str]:
    parts = " and ".join(
        f"“{hit.term}” ({group.name}, in the {hit.field})"
        for group, hit in zip(met.condition.groups, met.hits, strict=True)
    )
    apart = "" if met.condition.within is None else f" within {met.condition.within} words"
    reason = f"These stand together{apart}: {parts}: “{met.hits[0].excerpt}”."
    return COMBINATION, "claims.combination", reason


def _shown(hit: Hit) -> Mapping[str, object]:
    return {
        "field": hit.field,
        "excerpt": hit.excerpt,
        "term": hit.term,
        "count": hit.count,
        "denied": hit.denied,
    }


def _shown_together(met: Together) -> Mapping[str, object]:
    return {
        "within": met.condition.within,
        "groups": [
            {"group": group.name, **_shown(hit)}
            for group, hit in zip(met.condition.groups, met.hits, strict=True)
        ],
    }
