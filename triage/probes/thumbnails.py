"""Looks at the pictures that files of weights carry inside, as it looks at previews.

A safetensors file may hold a thumbnail in ``modelspec.thumbnail``. Nobody sees it on the page, and
it is often a picture that the model made. It is a stranger's file of its own: its pixels are
copied in the sandbox before anything here reads them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from triage.claims import Claims, may_carry_thumbnail, read_claims
from triage.containers.errors import ContainerError
from triage.encoders.base import Encoder
from triage.inspection import Refusal, reencode_preview
from triage.probes.previews import PreviewsProbe
from triage.sample import Embedding, Finding, Outcome, Preview, Sample, Stage, Subject, WeightFile
from triage.sandbox import SandboxError


class ThumbnailsProbe:
    """Scores the thumbnail of every file under the rules that look at previews.

    ``read`` returns what a file claims; a file that cannot be read is for the claims probe to
    report.
    """

    name = "thumbnails"
    version = "1"
    stage = Stage.PREVIEWS

    def __init__(
        self,
        encoder: Callable[[], Encoder],
        read: Callable[[Path], Claims] = read_claims,
    ) -> None:
        self._previews = PreviewsProbe(encoder)
        self._read = read

    def examine(self, sample: Sample) -> Iterator[Finding | Embedding]:
        """Yield the findings on the thumbnails of one version."""
        with TemporaryDirectory(prefix="thumbnails-") as folder:
            found: list[Preview] = []
            for file in sample.files:
                thumbnail = self._thumbnail(file)
                if thumbnail is None:
                    continue
                source = Path(folder, file.key)
                source.write_bytes(thumbnail)
                copy = source.with_suffix(".jpg")
                copied = reencode_preview(source, copy)
                if isinstance(copied, Refusal):
                    yield self._finding(
                        Subject("file", file.key), Outcome.FAILED, copied.code, copied.sentence
                    )
                else:
                    found.append(Preview(file.key, file.name, copy, "", uploaded=copied.uploaded))
            if found:
                for answer in self._previews.examine(replace(sample, previews=tuple(found))):
                    yield answer if isinstance(answer, Embedding) else self._of_the_file(answer)
                return
        yield self._finding(
            Subject("version", sample.key),
            Outcome.ABSTAINED,
            "thumbnails.none",
            "No file carries a picture that can be scored.",
        )

    def _thumbnail(self, file: WeightFile) -> bytes | None:
        try:
            if not may_carry_thumbnail(file.path):
                return None
            return self._read(file.path).thumbnail
        except (ContainerError, SandboxError, OSError):
            return None

    def _of_the_file(self, finding: Finding) -> Finding:
        """Say of the file what the previews' probe said of the picture in it."""
        if finding.subject.kind == "preview":
            finding = replace(finding, subject=Subject("file", finding.subject.key))
        return replace(
            finding,
            probe=self.name,
            reason=f"The picture inside the file: {finding.reason}",
            versions={**finding.versions, "probe": self.version},
        )

    def _finding(self, subject: Subject, outcome: Outcome, code: str, reason: str) -> Finding:
        return Finding(self.name, subject, outcome, reason, code, versions={"probe": self.version})
