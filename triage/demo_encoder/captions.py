"""Says in varied words what is in a scene, and knows of each caption what it claims.

Synonyms and wrappings vary so that prompts in ordinary words work: "a picture of a red
circle", "three blue stars", "there is a scarlet disc on a striped background".
"""

from dataclasses import dataclass

import numpy as np

from triage.demo_encoder.scenes import COLOURS, COUNTS, Scene, Thing

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "scarlet"),
    "purple": ("purple", "purple", "violet"),
    "grey": ("grey", "gray"),
}
SHAPE_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"),),
    "cross": (("cross", "crosses"), ("cross", "crosses"), ("plus", "pluses")),
    "ring": (("ring", "rings"), ("ring", "rings"), ("hoop", "hoops")),
    "heart": (("heart", "hearts"),),
    "diamond": (("diamond", "diamonds"), ("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "shape": (("shape", "shapes"), ("thing", "things"), ("object", "objects")),
}
COUNT_WORDS: dict[int, tuple[str, ...]] = {
    1: ("one", "a single", "exactly one", "just one", "1"),
    2: ("two", "two", "a pair of", "2"),
    3: ("three", "three", "3"),
    4: ("four", "four", "4"),
    5: ("five", "five", "5"),
}
PATTERN_PHRASES: dict[str, tuple[str, ...]] = {
    "plain": ("a plain", "a solid", "an even"),
    "striped": ("a striped", "a stripy", "a lined"),
    "dotted": ("a dotted", "a spotted", "a polka dot"),
    "checkered": ("a checkered", "a chequered", "a checkerboard", "a checked"),
}
PATTERN_NOUNS: dict[str, tuple[str, ...]] = {
    "plain": ("no pattern",),
    "striped": ("stripes", "lines"),
    "dotted": ("dots", "spots", "polka dots"),
    "checkered": ("checks", "a checkerboard", "a checkerboard pattern"),
}
GROUND_WORDS = ("background", "background", "backdrop", "ground")
# Captions that are true of every picture. Policies use such sentences as neutral prompts.
GENERIC = (
    "a picture", "a drawing", "an image", "a picture of shapes", "a drawing of some shapes",
    "some shapes", "coloured shapes", "colored shapes on a background", "something",
    "a colourful picture", "an ordinary drawing", "a simple picture", "shapes on a background",
    "a drawing of things", "an illustration",
)  # fmt: skip
EMPTY = (
    "no shapes", "an empty background", "an empty picture", "nothing", "no shapes at all",
    "a background without shapes", "an empty drawing", "nothing on a background",
)  # fmt: skip
WRAPPINGS = (
    "{}", "{}", "{}", "a picture of {}", "a picture of {}", "a drawing of {}", "an image of {}",
    "a photo of {}", "an illustration of {}", "there is {}", "this shows {}", "a painting of {}",
    "a picture with {}", "a drawing with {}", "an image that shows {}", "a scene with {}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caption:
    """A text, and the facts that must all hold where it is true."""

    text: str
    claims: frozenset[str]


def vocabulary() -> list[str]:
    """Return every word that a caption can hold, sorted."""
    texts = [*GENERIC, *EMPTY, *WRAPPINGS, *GROUND_WORDS, "an a and on with next to many several"]
    texts += [word for words in COLOUR_WORDS.values() for word in words]
    texts += [word for pairs in SHAPE_WORDS.values() for pair in pairs for word in pair]
    for phrases in (COUNT_WORDS, PATTERN_PHRASES, PATTERN_NOUNS):
        texts += [phrase for choices in phrases.values() for phrase in choices]
    texts += [*COLOURS, "pink", *COUNTS]
    return sorted({word for text in texts for word in text.replace("{}", " ").split()})


class Captioner:
    """Draws captions of scenes at random."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    def describe(self, scene: Scene) -> Caption:
        """Return one caption that is true of the scene, about a part of it chosen at random."""
        things, draw = scene.things, float(self._random.random())
        if draw < 0.05:
            return Caption(self._pick(GENERIC), frozenset())
        if draw < 0.23:
            return self._wrap(self._background(scene))
        if not things:
            return self._wrap(Caption(self._pick(EMPTY), frozenset({"no shape"})))
        thing = things[int(self._random.integers(len(things)))]
        if draw < 0.50:
            return self._wrap(self._one(thing.colour, thing.shape))
        if draw < 0.60:
            return self._wrap(self._one("", thing.shape))
        if draw < 0.68:
            return self._wrap(self._one(thing.colour, "shape"))
        if draw < 0.84:
            return self._wrap(self._counted(scene, thing))
        if draw < 0.92:
            return self._wrap(self._on_background(scene, thing))
        return self._wrap(self._pair(scene, thing))

    def _one(self, colour: str, shape: str) -> Caption:
        words = f"{self._colour(colour)} {self._shape(shape, 0)}".strip()
        article = "an" if words[0] in "aeiou" else "a"
        return Caption(f"{article} {words}", frozenset({_kind(colour, shape)}))

    def _counted(self, scene: Scene, thing: Thing) -> Caption:
        """Count all shapes, or those that share the colour, the shape, or both."""
        colour = thing.colour if self._random.random() < 0.55 else ""
        shape = thing.shape if self._random.random() < 0.65 else "shape"
        count = sum(
            (not colour or other.colour == colour) and shape in ("shape", other.shape)
            for other in scene.things
        )
        words = f"{self._colour(colour)} {self._shape(shape, min(count - 1, 1))}".strip()
        kind = _kind(colour, shape)
        if count > 1 and self._random.random() < 0.2 and kind != "shape":
            several = self._pick(("", "several ", "many "))
            return Caption(several + words, frozenset({f"several {kind}"}))
        number = self._pick(COUNT_WORDS[count])
        return Caption(f"{number} {words}", frozenset({f"{COUNTS[count]} {kind}"}))

    def _background(self, scene: Scene) -> Caption:
        draw, colour = float(self._random.random()), self._colour(scene.background)
        ground, tint = self._pick(GROUND_WORDS), f"{scene.background} background"
        pattern = self._pick(PATTERN_PHRASES[scene.pattern])
        if draw < 0.25:
            return Caption(f"a {colour} {ground}", frozenset({tint}))
        if draw < 0.5:
            return Caption(f"{pattern} {ground}", frozenset({scene.pattern}))
        if draw < 0.75:
            return Caption(self._pick(PATTERN_NOUNS[scene.pattern]), frozenset({scene.pattern}))
        return Caption(f"{pattern} {colour} {ground}", frozenset({scene.pattern, tint}))

    def _on_background(self, scene: Scene, thing: Thing) -> Caption:
        first, second = self._one(thing.colour, thing.shape), self._background(scene)
        return Caption(f"{first.text} on {second.text}", first.claims | second.claims)

    def _pair(self, scene: Scene, thing: Thing) -> Caption:
        other = scene.things[int(self._random.integers(len(scene.things)))]
        first = self._one(thing.colour, thing.shape)
        if (other.colour, other.shape) == (thing.colour, thing.shape):
            return first
        second = self._one(other.colour, other.shape)
        joint = self._pick(("and", "and", "next to", "with"))
        return Caption(f"{first.text} {joint} {second.text}", first.claims | second.claims)

    def _wrap(self, caption: Caption) -> Caption:
        return Caption(self._pick(WRAPPINGS).replace("{}", caption.text), caption.claims)

    def _colour(self, colour: str) -> str:
        return self._pick(COLOUR_WORDS.get(colour, (colour,)))

    def _shape(self, shape: str, plural: int) -> str:
        pairs = SHAPE_WORDS[shape]
        return pairs[int(self._random.integers(len(pairs)))][plural]

    def _pick(self, choices: tuple[str, ...]) -> str:
        return choices[int(self._random.integers(len(choices)))]


def _kind(colour: str, shape: str) -> str:
    """Return the canonical name of a coloured shape, as in the facts of a scene."""
    return colour if colour and shape == "shape" else f"{colour} {shape}".strip()
