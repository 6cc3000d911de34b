"""The twelve uploads of the demo: what they are called, what they hold, what they show.

Plain data and drawings, made anew on every machine; nothing here touches the database.
"""

import io
import json
import struct
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from triage.demo_encoder.scenes import compose, draw

SIDE = 512


@dataclass(frozen=True)
class Shown:
    """One preview: the coloured shapes on it, and what it is drawn on."""

    shapes: tuple[tuple[str, str], ...]
    background: str = "white"
    pattern: str = "plain"
    veil: float = 0.0  # share of the drawing that is faded into its background
    frames: int = 1


@dataclass(frozen=True)
class DemoUpload:
    """One upload of the demo, and what is to become of it."""

    title: str
    creator: str
    description: str
    shows: tuple[Shown, ...]
    tags: tuple[str, ...] = ()
    trigger_words: tuple[str, ...] = ()
    base_model: str = "Drawn 1.5"
    licence: str = "CC BY 4.0"
    weights: str = "sound"  # sound | appended | pickle
    submit: bool = True
    weigh: bool = True  # False: left for the worker, so that one can watch it
    reports: tuple[tuple[str, str, str], ...] = field(default=())  # who, rule, text


def _shapes(*pairs: str) -> tuple[tuple[str, str], ...]:
    return tuple((colour, shape) for colour, shape in (pair.split() for pair in pairs))


UPLOADS = (
    DemoUpload(
        "Meadow shapes",
        "uma",
        "Flat circles and squares for **backgrounds**.\n\n- calm colours\n- no outlines",
        (
            Shown(_shapes("green circle", "blue square"), "white"),
            Shown(
                _shapes(
                    "blue circle",
                ),
                "grey",
            ),
            Shown(_shapes("green square", "green square", "green square"), "white"),
        ),
        tags=("shapes", "flat"),
        trigger_words=("mdwshapes",),
    ),
    DemoUpload(
        "Paper diamonds",
        "kai",
        "Diamonds as if cut from paper. Trained on 40 drawings of my own.",
        (
            Shown(_shapes("blue diamond", "blue diamond"), "white", "dotted"),
            Shown(
                _shapes(
                    "orange diamond",
                ),
                "white",
            ),
        ),
        tags=("paper", "diamond"),
        trigger_words=("pprdiamond",),
        reports=(
            ("rui", "damaged-file", "The file would not open in my program."),
            ("", "red-star", "I saw a red star in one of its pictures last week."),
        ),
    ),
    DemoUpload(
        "Evening sky",
        "kai",
        "Stars and dots on dark ground. One of the previews is meant to be a *rocket*.",
        (
            Shown(_shapes("red star", "red star", "red star"), "black"),
            Shown(
                _shapes(
                    "red star",
                ),
                "grey",
            ),
            Shown(
                _shapes(
                    "white circle",
                ),
                "black",
            ),
        ),
        tags=("night", "sky"),
        trigger_words=("evesky",),
    ),
    DemoUpload(
        "Faded pennants",
        "uma",
        "Washed-out pennants, close to what the rules forbid and yet not quite.",
        (
            Shown(
                _shapes(
                    "black triangle",
                ),
                "grey",
                veil=0.375,
            ),
            Shown(_shapes("green triangle", "blue triangle"), "white"),
        ),
        tags=("pennant", "washed out"),
    ),
    DemoUpload(
        "Valentine stickers",
        "lin",
        "Hearts in every colour for stickers.",
        (
            Shown(
                _shapes(
                    "purple heart",
                ),
                "white",
            ),
            Shown(_shapes("red heart", "red heart"), "pink"),
        ),
        tags=("heart", "sticker"),
        trigger_words=("vlntn",),
    ),
    DemoUpload(
        "Old tiles",
        "lin",
        "Tile patterns. Exported with a script that I found somewhere.",
        (
            Shown(
                _shapes(
                    "orange square",
                ),
                "white",
                "checkered",
            ),
        ),
        tags=("tile", "pattern"),
        weights="appended",
    ),
    DemoUpload(
        "Crossroads checkpoint",
        "kai",
        "A full checkpoint in the old format.",
        (Shown(_shapes("green cross", "orange cross"), "white"),),
        tags=("checkpoint",),
        weights="pickle",
    ),
    DemoUpload(
        "Warning signs",
        "lin",
        "Signs for games: triangles with thick borders.",
        (
            Shown(_shapes("black triangle", "black triangle"), "yellow"),
            Shown(
                _shapes(
                    "black triangle",
                ),
                "white",
            ),
        ),
        tags=("sign", "game"),
    ),
    DemoUpload(
        "Ring toss",
        "uma",
        "Hoops for a children's game.",
        (
            Shown(_shapes("yellow ring", "yellow ring"), "blue"),
            Shown(
                _shapes(
                    "green ring",
                ),
                "white",
            ),
        ),
        tags=("game", "ring"),
    ),
    DemoUpload(
        "Confetti, a model with a name that is a good deal longer than any shelf was made for",
        "lin",
        "Many small shapes, and one animated preview. <script>alert('no')</script>",
        (
            Shown(_shapes("orange circle", "green square", "blue diamond"), "white", frames=3),
            Shown(_shapes("blue circle", "green circle", "orange circle"), "white"),
        ),
        tags=("confetti", "party", "animated"),
        trigger_words=("cnftti",),
    ),
    DemoUpload(
        "Blue hour",
        "uma",
        "Blue on blue. Just submitted: the worker weighs it while you watch.",
        (Shown(_shapes("blue square", "blue circle"), "white"),),
        tags=("blue",),
        weigh=False,
    ),
    DemoUpload(
        "Autumn leaves",
        "uma",
        "Not submitted yet: open it and press *Submit*.",
        (Shown(_shapes("orange diamond", "orange diamond"), "white", "striped"),),
        tags=("autumn",),
        submit=False,
    ),
)


def weights_of(upload: DemoUpload) -> tuple[str, bytes]:
    """Return name and bytes of an upload's file of weights: small, random and harmless."""
    name = upload.title.split(",")[0].lower().replace(" ", "-")
    if upload.weights == "pickle":
        # Asks whatever would load it for its folder. Nothing here ever does: the reader sees
        # an import that no weights need, which is all that it takes.
        return f"{name}.ckpt", b"\x80\x02cos\ngetcwd\n)R."
    content = _safetensors(upload)
    if upload.weights == "appended":
        content += b"PK\x03\x04 something that is not weights"
    return f"{name}.safetensors", content


def _safetensors(upload: DemoUpload) -> bytes:
    random = np.random.default_rng(sum(upload.title.encode()))
    header: dict[str, object] = {
        "__metadata__": {"format": "pt", "ss_output_name": upload.title[:40]}
    }
    body = b""
    for block in range(4):
        for part, shape in (("down", (4, 768)), ("up", (320, 4))):
            data = random.normal(size=shape).astype(np.float32).tobytes()
            key = f"lora_unet_down_blocks_{block}_attn2_to_k.lora_{part}.weight"
            header[key] = {
                "dtype": "F32",
                "shape": list(shape),
                "data_offsets": [len(body), len(body) + len(data)],
            }
            body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def preview_of(upload: DemoUpload, number: int) -> tuple[str, bytes]:
    """Return name and bytes of one of an upload's previews."""
    shown = upload.shows[number]
    random = np.random.default_rng(sum(upload.title.encode()) + number)
    frames = [_picture(shown, random) for _ in range(shown.frames)]
    kind = "gif" if shown.frames > 1 else "png"
    stream = io.BytesIO()
    options = {"save_all": True, "append_images": frames[1:], "duration": 400}
    frames[0].save(stream, kind.upper(), **(options if kind == "gif" else {}))
    return f"{number + 1}.{kind}", stream.getvalue()


def _picture(shown: Shown, random: np.random.Generator) -> Image.Image:
    scene = compose(list(shown.shapes), random, background=shown.background, pattern=shown.pattern)
    picture = draw(scene, SIDE)
    if shown.veil:
        ground = Image.new("RGB", picture.size, picture.getpixel((0, 0)))
        picture = Image.blend(picture, ground, shown.veil)
    return picture
