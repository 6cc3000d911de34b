"""Looks at the previews and scores them against the prohibited prompts of every rule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from triage.embeddings import pack, unpack
from triage.encoders.base import Encoder, EncoderError
from triage.pictures import Picture, PictureError, PictureFacts, picture_facts
from triage.sample import (
    Embedding,
    Evidence,
    Finding,
    Outcome,
    Preview,
    Rule,
    Sample,
    Stage,
    Subject,
)
from triage.scoring import ConceptBank, ConceptScore, RuleScore, ScoringError, concept_bank

SIGNAL = "previews"
NO_ENCODER = "previews.no_encoder"


@dataclass(frozen=True, slots=True)
class _Look:
    """One preview as the encoder sees it."""

    preview: Preview
    facts: PictureFacts
    vector: bytes


class PreviewsProbe:
    """One finding for each preview and each rule that looks at previews.

    A preview that cannot be read, and every preview when there is no encoder, gets one finding
    that says so. ``encoder`` is called when there is something to look at, never before.
    """

    name = "previews"
    version = "1"
    stage = Stage.PREVIEWS

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        self._encoder = encoder

    def examine(self, sample: Sample) -> Iterator[Finding | Embedding]:
        """Yield the findings on all previews of one version, embedded in one batch.

        A picture whose embedding the sample remembers is neither decoded nor embedded again.
        """
        rules = {rule.slug: rule for rule in sample.policy.rules_for(SIGNAL)}
        if not sample.previews:
            yield self._abstained(sample, "previews.none", "There are no previews to look at.")
            return
        if not rules:
            yield self._abstained(
                sample, "previews.no_rules", "No rule of the policy is about previews."
            )
            return
        try:
            encoder = self._encoder()
            bank = concept_bank(sample.policy, encoder)
        except (EncoderError, ScoringError) as error:
            code = error.code if isinstance(error, ScoringError) else NO_ENCODER
            for preview in sample.previews:
                yield self._failed(sample, preview, code, str(error))
            return
        made_by = {
            **self._versions(sample),
            "encoder": f"{encoder.name} {encoder.revision}",
            "scorer": bank.scorer,
        }
        looks: list[_Look] = []
        for answer in self._look(sample, encoder, made_by):
            if isinstance(answer, _Look):
                looks.append(answer)
            else:
                yield answer
        if looks:
            yield from self._score(sample, rules, encoder, bank, looks, made_by)

    def _look(
        self, sample: Sample, encoder: Encoder, made_by: dict[str, str]
    ) -> Iterator[_Look | Finding | Embedding]:
        """Yield the vector of each preview, remembered or new, and what cannot be read."""
        known = {
            one.sha256: one.vector
            for one in sample.embeddings
            if (one.encoder, one.revision) == (encoder.name, encoder.revision)
        }
        pictures: list[tuple[Preview, Picture]] = []
        for preview in sample.previews:
            try:
                if preview.sha256 in known:
                    yield _Look(preview, picture_facts(preview.path), known[preview.sha256])
                else:
                    pictures.append((preview, sample.pictures.open(preview.path)))
            except PictureError as error:
                yield self._failed(sample, preview, error.code, str(error), made_by=made_by)
        try:
            rows = encoder.embed_images([picture.image for _, picture in pictures])
        except EncoderError as error:
            for preview, _ in pictures:
                yield self._failed(sample, preview, NO_ENCODER, str(error))
            return
        for (preview, picture), row in zip(pictures, rows, strict=True):
            vector = pack(row)
            if preview.sha256:
                yield Embedding(preview.sha256, encoder.name, encoder.revision, vector)
            yield _Look(preview, picture, vector)

    def _score(
        self,
        sample: Sample,
        rules: dict[str, Rule],
        encoder: Encoder,
        bank: ConceptBank,
        looks: list[_Look],
        made_by: dict[str, str],
    ) -> Iterator[Finding]:
        for slug, sentence in bank.unfit.items():
            for look in looks:
                yield self._failed(
                    sample,
                    look.preview,
                    "scoring.other_encoder",
                    sentence,
                    rule=slug,
                    made_by=made_by,
                )
        scores = bank.score(unpack([look.vector for look in looks]))
        for look, rule_scores in zip(looks, scores, strict=True):
            for score in rule_scores:
                rule = rules[score.rule]
                yield Finding(
                    probe=self.name,
                    subject=Subject("preview", look.preview.key),
                    outcome=Outcome.SCORED,
                    reason=_sentence(rule, score),
                    code="previews.scored",
                    rule=rule.slug,
                    score=score.probability,
                    review=score.review,
                    hold=rule.hold,
                    evidence=_evidence(score, look, encoder),
                    versions=made_by,
                )

    def _abstained(self, sample: Sample, code: str, reason: str) -> Finding:
        subject = Subject("version", sample.key)
        return Finding(
            self.name, subject, Outcome.ABSTAINED, reason, code, versions=self._versions(sample)
        )

    def _failed(
        self,
        sample: Sample,
        preview: Preview,
        code: str,
        reason: str,
        *,
        rule: str = "",
        made_by: dict[str, str] | None = None,
    ) -> Finding:
        return Finding(
            self.name,
            Subject("preview", preview.key),
            Outcome.FAILED,
            reason,
            code,
            rule=rule,
            versions=made_by or self._versions(sample),
        )

    def _versions(self, sample: Sample) -> dict[str, str]:
        # The same wording as in the pipeline, which adds these two to every finding.
        policy = f"{sample.policy.name} v{sample.policy.version}"
        return {"probe": self.version, "policy": policy}


def _sentence(rule: Rule, score: RuleScore) -> str:
    if score.hold_margin >= 0:
        against = f"at or above the hold threshold of {rule.hold:.2f}"
    elif score.review_margin >= 0:
        against = f"at or above the review threshold of {score.review:.2f}"
    else:
        against = f"below the review threshold of {score.review:.2f}"
    if score.deciding.by_vectors:
        return (
            f"Scored {score.probability:.2f} under “{rule.title}”, {against}; "
            f"nearest vector “{score.deciding.winner.prompt}” with a cosine of "
            f"{score.deciding.winner.cosine:.3f}, whose own threshold is "
            f"{score.deciding.runner_up.cosine:.3f}."
        )
    return (
        f"Scored {score.probability:.2f} under “{rule.title}”, {against}; "
        f"nearest prohibited prompt “{score.deciding.winner.prompt}”, "
        f"nearest contrast “{score.deciding.runner_up.prompt}”."
    )


def _evidence(score: RuleScore, look: _Look, encoder: Encoder) -> Evidence:
    """Return all that explains the score; the cosines allow it to be worked out again."""
    facts = look.facts
    picture = {
        "format": facts.format,
        "width": facts.width,
        "height": facts.height,
        "animated": facts.animated,
        **look.preview.uploaded,
    }
    note = "Only the first frame was looked at." if picture["animated"] else ""
    return {
        "calibrated": score.calibrated,
        "demo_encoder": encoder.demo,
        "logit_scale": encoder.logit_scale,
        "review_margin": score.review_margin,
        "hold_margin": score.hold_margin,
        "deciding": _concept_evidence(score.deciding),
        "concepts": [_concept_evidence(concept) for concept in score.concepts],
        "picture": {**picture, "note": note},
    }


def _head_evidence(concept: ConceptScore) -> Evidence:
    """Return which head spoke, what it learnt from, and what the prompts alone would have said.

    Or which one did not, because it was learnt beside other prompts.
    """
    if concept.head is None:
        left_out = concept.alone.left_out if concept.alone else ""
        return {"head_left_out": left_out} if left_out else {}
    return {
        "head": concept.head.code,
        "labels": concept.head.labels,
        "zero_shot": concept.zero_shot,
    }


def _concept_evidence(concept: ConceptScore) -> Evidence:
    return {
        "concept": concept.concept,
        "score": concept.score,
        "prompt": concept.winner.prompt,
        "prompt_cosine": concept.winner.cosine,
        "contrast": concept.runner_up.prompt,
        "contrast_cosine": concept.runner_up.cosine,
        "by_vectors": concept.by_vectors,
        **_head_evidence(concept),
    }
