"""Trains the demo encoder and writes it as an encoder folder.

A CLIP of open_clip's architecture, trained from nothing on pictures that it draws. It exists
so that a machine without a network runs the whole of triage for real on the demo policy. It
knows coloured shapes and nothing else.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import CLIP
from tokenizers import Tokenizer
from torch.nn.functional import log_softmax
from tqdm import tqdm

from triage.demo_encoder.captions import Captioner, vocabulary
from triage.demo_encoder.card import Training, model_card
from triage.demo_encoder.evaluate import DEMO_POLICY, measure, measure_stand_ins, read_policy
from triage.demo_encoder.export import export_folder, word_tokenizer
from triage.demo_encoder.scenes import Scene, draw, facts, random_scene
from triage.encoders.onnx import OnnxEncoder

IMAGE_SIZE = 64
CONTEXT_LENGTH = 16
DIM = 128
# CLIP's residual network (Radford et al. 2021) with one block a stage and a quarter of the width.
# At this size it learns shapes from far fewer pictures than a vision transformer does.
VISION = {"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}
TEXT = {"context_length": CONTEXT_LENGTH, "width": 64, "heads": 2, "layers": 2}
PICTURES = 128  # in one batch
CAPTIONS = 2  # of each picture
STEPS = 2693
# Tried higher: at 2e-3 and batches of 64, patterns were still at chance after 48,000 pictures.
LEARNING_RATE = 6e-4
WARMUP = 100  # steps over which the learning rate rises
COOLDOWN = 0.35  # share of the steps over which it falls to zero
UNKNOWN_WORDS = 0.02  # share of words hidden, so that an unknown word does not upset a prompt
MEAN = STD = 0.5


class Batches:
    """Draws batches: pixels, tokens, and which caption is true of which picture."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer = tokenizer
        self._random = np.random.default_rng(seed)
        self._captioner = Captioner(self._random)
        numbers = tokenizer.get_vocab()
        self._unknown, self._end = numbers["<unknown>"], numbers["<end>"]
        self._first_word = self._unknown + 1

    def draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return pixels (B, 3, H, W), tokens (C, L) and truth (B, C) as 0 or 1."""
        scenes = [random_scene(self._random) for _ in range(PICTURES)]
        captions = [self._captioner.describe(scene) for scene in scenes for _ in range(CAPTIONS)]
        known = [facts(scene) for scene in scenes]
        truth = [[caption.claims <= scene for caption in captions] for scene in known]
        tokens = np.array(
            [code.ids for code in self._tokenizer.encode_batch([c.text for c in captions])]
        )
        words = (tokens >= self._first_word) & (tokens < self._end)
        tokens[words & (self._random.random(tokens.shape) < UNKNOWN_WORDS)] = self._unknown
        return (
            torch.from_numpy(_pixels(scenes)),
            torch.from_numpy(tokens),
            torch.tensor(truth, dtype=torch.float32),
        )


def _pixels(scenes: list[Scene]) -> NDArray[np.float32]:
    pictures = np.stack([np.asarray(draw(scene, IMAGE_SIZE)) for scene in scenes])
    scaled = (pictures.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def contrastive_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return CLIP's symmetric loss where a caption may be true of several pictures.

    CLIP (Radford et al. 2021) takes the paired caption as the only right answer. Here the truth
    is known, so the target is what pairing would give on average: of a picture's true captions,
    each in inverse proportion to how many pictures it is true of; of a caption's true pictures,
    each alike. ``logits`` and ``truth`` have the shape (pictures, captions).
    """
    by_picture = truth / truth.sum(dim=0, keepdim=True)
    by_caption = by_picture / by_picture.sum(dim=1, keepdim=True)
    over_captions = -(by_caption * log_softmax(logits, dim=1)).sum(dim=1).mean()
    over_pictures = -(by_picture * log_softmax(logits, dim=0)).sum(dim=0).mean()
    return (over_captions + over_pictures) / 2


def rate(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: a short rise, a plateau, a fall to zero."""
    return min(1.0, (step + 1) / WARMUP, (steps - step) / (COOLDOWN * steps))


def train(model: CLIP, batches: Batches, steps: int) -> float:
    """Train in place and return the mean loss of the last twentieth of the steps."""
    no_decay = [weight for weight in model.parameters() if weight.ndim < 2]
    decay = [weight for weight in model.parameters() if weight.ndim >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(0.9, 0.98),  # CLIP's own
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    losses: list[float] = []
    model.train()
    bar = tqdm(range(steps), desc="training", unit="batch")
    for _ in bar:
        pixels, tokens, truth = batches.draw()
        pictures = model.encode_image(pixels, normalize=True)
        captions = model.encode_text(tokens, normalize=True)
        loss = contrastive_loss(model.logit_scale.exp() * pictures @ captions.T, truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, np.log(100.0))  # CLIP's own bound
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}")
    return float(np.mean(losses[-max(steps // 20, 1) :]))


def build(tokenizer: Tokenizer, seed: int) -> CLIP:
    """Return an untrained model. The layout of its memory is the one convolutions are quick in."""
    torch.manual_seed(seed)
    text = {**TEXT, "vocab_size": tokenizer.get_vocab_size()}
    model: CLIP = CLIP(embed_dim=DIM, vision_cfg=VISION, text_cfg=text)
    for stage in (1, 2, 3, 4):
        # open_clip starts every block as the identity, which helps deep networks. This one has a
        # single block a stage and would start without any spatial filters.
        torch.nn.init.ones_(model.visual.get_submodule(f"layer{stage}.0.bn3").weight)
    return model.to(memory_format=torch.channels_last)


def write_folder(model: CLIP, tokenizer: Tokenizer, folder: Path) -> None:
    """Export the trained model as an encoder folder."""
    config: dict[str, Any] = {
        "name": "weighhouse-demo",
        "revision": "1",
        "demo": True,
        "dim": DIM,
        "context_length": CONTEXT_LENGTH,
    }
    preprocess: dict[str, Any] = {
        "size": IMAGE_SIZE,
        "mode": "RGB",
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",  # so that nothing at the edge of a picture goes unseen
    }
    export_folder(model, tokenizer, folder, config=config, preprocess=preprocess)


def main() -> int:
    """Train, export, measure the exported folder and write its model card."""
    parser = argparse.ArgumentParser(
        prog="python -m triage.demo_encoder.train",
        description=__doc__,
        epilog=(
            "The folder that ships was made with the defaults. A few hundred steps already tell "
            "colours apart; shapes, patterns and counts need the rest. Give the folder to triage "
            "by the setting ENCODER=onnx:DIR, and measure it again with "
            "python -m triage.demo_encoder.evaluate --folder DIR."
        ),
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the encoder folder to write"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=STEPS,
        help=f"batches of {PICTURES} pictures to learn from (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed draws the same pictures (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads to use (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokenizer = word_tokenizer(vocabulary(), CONTEXT_LENGTH)
    model = build(tokenizer, options.seed)
    started = time.process_time()
    loss = train(model, Batches(tokenizer, options.seed), options.steps)
    minutes = (time.process_time() - started) / 60
    write_folder(model, tokenizer, options.out)
    encoder = OnnxEncoder.load(options.out, threads=options.threads)
    measured = measure(encoder)
    stand_ins = measure_stand_ins(encoder, read_policy(DEMO_POLICY))
    training = Training(
        steps=options.steps,
        pictures=options.steps * PICTURES,
        captions=options.steps * PICTURES * CAPTIONS,
        seed=options.seed,
        minutes=minutes,
        loss=loss,
        parameters=sum(weight.numel() for weight in model.parameters()),
    )
    card = model_card(training, measured, stand_ins)
    (options.out / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    megabytes = sum(path.stat().st_size for path in options.out.rglob("*.*")) / 1e6
    sys.stdout.write(
        f"Learnt from {training.pictures:,} pictures in {minutes:.1f} minutes of "
        "processor time. "
        f"Mean AUC on {measured.scenes:,} unseen scenes: {measured.mean:.4f}. "
        f"Wrote {options.out} ({megabytes:.1f} MB).\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
