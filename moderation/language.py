"""Which language a page is written in, guessed from its words, so that cases can be filtered by it.

A guess for finding one's way, never for judging: nothing is decided by it.
"""

from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

# Shorter texts are guessed no better than by chance: “Tusche” comes out at 0.15.
LEAST_LETTERS = 12
LEAST_PROBABILITY = 0.6
LOOKED_AT = 5000


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    # Read at the first use: it takes 0.8 s and 95 MB, which a web process may never need.
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the language of a text, or an empty string where unsure."""
    text = text[:LOOKED_AT]
    if sum(letter.isalpha() for letter in text) < LEAST_LETTERS:
        return ""
    code, probability = _identifier().classify(text)
    return str(code) if probability >= LEAST_PROBABILITY else ""
