"""Writes the model card of the demo encoder from what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from triage.demo_encoder.evaluate import Measured, StandIn, report

_TEXT = """\
# Demo encoder: model card

**This is a demo. It knows drawings of coloured shapes and nothing else.** It is here so that the
whole of triage runs on a machine without a network. Whatever it says about any other picture is
noise. Never moderate with it.

| | |
|---|---|
| what it is | a CLIP of open_clip's architecture: residual network, small text transformer |
| size | {parameters:,} parameters, pictures of 64 by 64 pixels |
| learnt from | {pictures:,} pictures and {captions:,} captions, all drawn and worded here |
| loss | CLIP's; a caption that is true of several pictures counts for each of them |
| training | {steps:,} batches, seed {seed}, last loss {loss:.3f} |
| time | {minutes:.0f} minutes of processor time |
| licence | that of this repository |

## Measured

On {scenes:,} scenes drawn from seed {scene_seed:,}, which training never draws from, 256 pixels a
side, with this folder as triage runs it. The area under the ROC curve (AUC) says how often a
picture that shows a concept ranks above one that does not, by the cosine with the concept's
prompt. The second table says how the demo policy does on its stand-ins and on near misses (half of
them show the colour and the shape, on different things). Scores are uncalibrated.

{tables}
Measure again: `python -m triage.demo_encoder.evaluate`.
Train again: `python -m triage.demo_encoder.train --out DIR --steps {steps} --seed {seed}`.

## Every concept

{every}
"""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training run was: ``loss`` is the mean over its last twentieth, ``minutes`` are of
    processor time."""

    steps: int
    pictures: int
    captions: int
    seed: int
    minutes: float
    loss: float
    parameters: int


def model_card(training: Training, measured: Measured, stand_ins: Sequence[StandIn]) -> str:
    """Return the card as Markdown."""
    lines: list[str] = []
    report(measured, stand_ins, lines.append)
    every = [
        f"- {group}: " + ", ".join(f"{prompt} {area:.4f}" for prompt, area in areas.items())
        for group, areas in measured.areas.items()
    ]
    return _TEXT.format(
        parameters=training.parameters,
        pictures=training.pictures,
        captions=training.captions,
        steps=training.steps,
        seed=training.seed,
        minutes=training.minutes,
        loss=training.loss,
        scenes=measured.scenes,
        scene_seed=measured.seed,
        tables="".join(lines),
        every="\n".join(every),
    )
