"""What can be wrong with weights that could be read."""


class WeightsError(Exception):
    """Weights that cannot be compared: a code for machines and a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
