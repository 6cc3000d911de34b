"""Measures the demo encoder on scenes that it has never seen.

The folder is run as triage runs it: through ``OnnxEncoder`` and through the scoring of the demo
policy. Needs no torch.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from triage.demo_encoder.scenes import (
    BACKGROUNDS,
    COLOURS,
    COUNTS,
    PATTERNS,
    SHAPES,
    Scene,
    compose,
    draw,
    facts,
    random_scene,
)
from triage.encoders import DEMO_FOLDER
from triage.encoders.base import Array, Encoder, EncoderError
from triage.encoders.onnx import OnnxEncoder
from triage.sample import Concept, Policy, Rule
from triage.scoring import ConceptBank, embed_prompts

SCENES = 1000
# Training draws from seeds 0 and up; the held-out scenes come from far away.
SEED = 1_000_003
TEMPLATES = ("{}", "a picture of {}", "a drawing of {}")
PICTURE_SIDE = 256  # larger than the encoder's input, so that its resizing is measured too
# Fewer than this many pictures on either side make an area under the curve a matter of luck.
FEWEST = 5
BATCH = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """The area under the ROC curve of each concept, by group, in 0..1."""

    scenes: int
    seed: int
    areas: Mapping[str, Mapping[str, float]]

    @property
    def mean(self) -> float:
        """The mean over all concepts of all groups."""
        return float(np.mean([area for group in self.areas.values() for area in group.values()]))


@dataclass(frozen=True, slots=True)
class StandIn:
    """How the demo policy finds one stand-in among near misses, as shares in 0..1.

    ``caught`` and ``held`` are shares of the pictures that show it, ``false_alarms`` of those
    that do not. Half of the near misses show its colour and its shape, on different things.
    """

    name: str
    area: float
    caught: float
    held: float
    false_alarms: float


def area_under_curve(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the share of (true, false) pairs in which the true one scores higher; ties half."""
    order = np.sort(scores[~truth])
    below = np.searchsorted(order, scores[truth], "left")
    up_to = np.searchsorted(order, scores[truth], "right")
    return float((below + up_to).mean() / 2 / len(order))


def measure(encoder: Encoder, *, scenes: int = SCENES, seed: int = SEED) -> Measured:
    """Return how well the cosine with a concept's prompt ranks freshly drawn scenes."""
    random = np.random.default_rng(seed)
    drawn = [random_scene(random) for _ in range(scenes)]
    known = [facts(scene) for scene in drawn]
    pictures = embed_scenes(encoder, drawn)
    areas: dict[str, dict[str, float]] = {}
    for group, prompts in concepts().items():
        rows = embed_prompts(encoder, list(prompts), TEMPLATES)
        for (prompt, fact), row in zip(prompts.items(), rows, strict=True):
            truth = np.array([fact in scene for scene in known])
            if min(truth.sum(), (~truth).sum()) >= FEWEST:
                areas.setdefault(group, {})[prompt] = area_under_curve(pictures @ row, truth)
    return Measured(scenes, seed, areas)


def concepts() -> dict[str, dict[str, str]]:
    """Return by group the prompts that are measured, each with the fact that it claims."""
    return {
        "shapes": {f"a {shape}": shape for shape in SHAPES},
        "colours": {f"{_article(colour)} shape": colour for colour in COLOURS},
        "coloured shapes": {
            f"{_article(colour)} {shape}": f"{colour} {shape}"
            for colour in COLOURS
            for shape in SHAPES
        },
        "backgrounds": {f"a {name} background": f"{name} background" for name in BACKGROUNDS},
        "patterns": {f"a {pattern} background": pattern for pattern in PATTERNS},
        "counts": {
            f"{count} {'shape' if count == 'one' else 'shapes'}": f"{count} shape"
            for count in COUNTS
        },
    }


def embed_scenes(encoder: Encoder, scenes: Sequence[Scene]) -> Array:
    """Draw scenes and return their embeddings, one unit row each."""
    starts = tqdm(range(0, len(scenes), BATCH), desc="looking", unit="batch", leave=False)
    return np.concatenate(
        [
            encoder.embed_images([draw(s, PICTURE_SIDE) for s in scenes[start : start + BATCH]])
            for start in starts
        ]
    )


def measure_stand_ins(
    encoder: Encoder, policy: Policy, *, pictures: int = 200, seed: int = SEED
) -> list[StandIn]:
    """Return how each rule on previews does on its stand-in and on near misses.

    A rule's slug is the stand-in, colour and shape: ``red-star``. Of ``pictures`` scenes with it
    and as many without, a third hold one to three of its kind, the others hold more things.
    """
    bank = ConceptBank(policy, encoder)
    results = []
    for number, rule in enumerate(policy.rules_for("previews")):
        colour, shape = rule.slug.split("-")
        random = np.random.default_rng([seed, number])
        shown = [_with(colour, shape, random) for _ in range(pictures)]
        missed = [_near_miss(colour, shape, random) for _ in range(pictures)]
        scored = bank.score(embed_scenes(encoder, [*shown, *missed]))
        scores = np.array(
            [next(s.probability for s in row if s.rule == rule.slug) for row in scored]
        )
        truth = np.arange(2 * pictures) < pictures
        results.append(
            StandIn(
                rule.slug,
                area_under_curve(scores, truth),
                caught=float((scores[truth] >= rule.review).mean()),
                held=float((scores[truth] >= rule.hold).mean()),
                false_alarms=float((scores[~truth] >= rule.review).mean()),
            )
        )
    return results


def _with(colour: str, shape: str, random: np.random.Generator) -> Scene:
    if random.random() < 1 / 3:
        return compose([(colour, shape)] * int(random.integers(1, 4)), random)
    others = [_other(random, "", "") for _ in range(int(random.integers(1, 4)))]
    return compose([(colour, shape), *others], random)


def _near_miss(colour: str, shape: str, random: np.random.Generator) -> Scene:
    """Return a scene with the colour and the shape, or one of them, but never together."""
    same_colour = (colour, _other(random, colour, shape)[1])
    same_shape = (_other(random, colour, shape)[0], shape)
    choice = random.random()
    if choice < 0.5:
        return compose([same_colour, same_shape], random)
    return compose([same_colour if choice < 0.75 else same_shape], random)


def _other(random: np.random.Generator, colour: str, shape: str) -> tuple[str, str]:
    """Return a coloured shape of another colour and another shape."""
    return (
        str(random.choice([name for name in COLOURS if name != colour])),
        str(random.choice([name for name in SHAPES if name != shape])),
    )


def read_policy(path: Path) -> Policy:
    """Return the part of a policy file that is about previews."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    rules = tuple(
        Rule(
            slug=rule["slug"],
            title=rule["title"],
            review=rule["review"],
            hold=rule["hold"],
            signals=("previews",),
            concepts=tuple(
                Concept(c["slug"], tuple(c["prohibited"]), tuple(c["contrast"]))
                for c in rule["concepts"]
            ),
        )
        for rule in content["rules"]
        if "previews" in rule["signals"]
    )
    return Policy(
        content["name"],
        content["version"],
        rules,
        neutral=tuple(content["neutral"]),
        templates=tuple(content["templates"]),
    )


def report(
    measured: Measured, stand_ins: Sequence[StandIn], write: Callable[[str], object]
) -> None:
    """Write the figures as the lines of two Markdown tables."""
    write("| concepts | number | mean AUC | lowest AUC |\n|---|---|---|---|\n")
    for group, areas in measured.areas.items():
        prompt = min(areas, key=lambda name: areas[name])
        mean = np.mean(list(areas.values()))
        write(f"| {group} | {len(areas)} | {mean:.4f} | {areas[prompt]:.4f} ({prompt}) |\n")
    total = sum(len(areas) for areas in measured.areas.values())
    write(f"| **all** | {total} | **{measured.mean:.4f}** | |\n\n")
    write("| stand-in | AUC | reaches review | reaches hold | near misses that reach review |\n")
    write("|---|---|---|---|---|\n")
    for each in stand_ins:
        write(
            f"| {each.name} | {each.area:.4f} | {each.caught:.1%} | {each.held:.1%} "
            f"| {each.false_alarms:.1%} |\n"
        )


def _article(colour: str) -> str:
    return f"an {colour}" if colour[0] in "aeiou" else f"a {colour}"


DEMO_POLICY = Path(__file__).parents[2] / "moderation" / "policies" / "demo.yaml"


def main() -> int:
    """Measure a folder and print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m triage.demo_encoder.evaluate",
        description=__doc__,
        epilog="The same command with the same seed gives the figures of the model card.",
    )
    parser.add_argument(
        "--folder", type=Path, default=DEMO_FOLDER, help="encoder folder (the one that ships)"
    )
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes to draw (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="which scenes (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads to use (%(default)s)")
    options = parser.parse_args()
    try:
        encoder = OnnxEncoder.load(options.folder, threads=options.threads)
    except EncoderError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    measured = measure(encoder, scenes=options.scenes, seed=options.seed)
    stand_ins = measure_stand_ins(encoder, read_policy(DEMO_POLICY), seed=options.seed)
    report(measured, stand_ins, sys.stdout.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
