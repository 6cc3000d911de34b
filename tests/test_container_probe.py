"""The container probe and the upload door: files in, findings or refusals out, never a crash."""

import io
import json
import pickle
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops
from safetensors.numpy import save_file

from triage.inspection import (
    PreviewSummary,
    Refusal,
    WeightsSummary,
    inspect_weights,
    reencode_preview,
)
from triage.probes.container import ContainerProbe
from triage.sample import Finding, Outcome, Policy, Rule, Sample, Stage, WeightFile
from triage.sandbox import Limits

CODE = Rule("runs-code", "Runs code", review=0.5, hold=0.9, signals=("container.code",))
DAMAGED = Rule("damaged", "Damaged", review=0.4, hold=0.8, signals=("container.damaged",))
POLICY = Policy("test", 3, (CODE, DAMAGED))


class Calls:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return subprocess.run, (["touch", str(self.canary)],)


def findings(*paths: Path, policy: Policy = POLICY, limits: Limits | None = None) -> list[Finding]:
    files = tuple(WeightFile(path.name, path.name, path, 0, "") for path in paths)
    return list(ContainerProbe(limits).examine(Sample("sample", policy, files=files)))


def finding(path: Path, **options: Any) -> Finding:
    (found,) = findings(path, **options)
    assert json.loads(json.dumps(found.evidence)) == found.evidence
    return found


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def safetensors(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


ONE = {"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.safetensors"
    save_file({"a": np.zeros(3, dtype=np.float16)}, path, {"ss_output_name": "x"})
    return path


# --- The probe ------------------------------------------------------------------------------


def test_the_probe_looks_at_files() -> None:
    probe = ContainerProbe()
    assert (probe.name, probe.stage) == ("container", Stage.FILES)


def test_a_sound_file_scores_nothing_and_says_what_is_in_it(sound: Path) -> None:
    found = finding(sound)
    assert (found.outcome, found.score, found.code) == (Outcome.SCORED, 0.0, "container.sound")
    assert (found.rule, found.review, found.hold) == ("damaged", 0.4, 0.8)
    assert found.evidence == {
        "file": "sound.safetensors",
        "format": "safetensors",
        "bytes": sound.stat().st_size,
        "tensors": 1,
        "dtypes": {"F16": 1},
        "metadata_keys": ["ss_output_name"],
        "problems": [],
    }
    assert found.versions == {"probe": "1", "policy": "test v3"}


def test_code_is_held_and_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    hostile = pickle.dumps({"state_dict": Calls(canary)})
    archive = tmp_path / "zipped.safetensors"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("archive/data.pkl", hostile)
    for path in (written(tmp_path / "hostile.safetensors", hostile), archive):
        found = finding(path)
        assert (found.rule, found.score, found.hold) == ("runs-code", 1.0, 0.9)
        assert found.code == "pickle.dangerous_import"
        assert found.evidence["imports"] == ["subprocess.run"]
    assert not canary.exists()


@pytest.mark.parametrize(
    ("data", "rule", "score"),
    [
        (b"\x80\x02cmy.module\nModel\n.", "runs-code", 0.6),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "runs-code", 0.6),
        (b"\x1f\x8b\x08" + bytes(50), "runs-code", 0.6),
        (bytes(257) + b"ustar\x0000" + bytes(500), "runs-code", 0.6),
        (b"", "damaged", 0.7),
        (b"hello, world", "damaged", 0.7),
        (b"\x89PNG\r\n\x1a\n", "damaged", 0.7),
        (safetensors(ONE, b"abc"), "damaged", 0.7),
        (safetensors(ONE, b"abcde"), "damaged", 0.7),
        (safetensors(b" {}"), "damaged", 0.7),
        (struct.pack("<Q", 100 << 30) + b"{}", "damaged", 0.7),
        (b"PK\x03\x04" + bytes(40), "damaged", 0.7),
        (b"\x93NUMPY\x01\x00", "damaged", 0.7),
    ],
    ids=repr,
)
def test_what_cannot_be_vouched_for_goes_to_a_person(
    tmp_path: Path, data: bytes, rule: str, score: float
) -> None:
    found = finding(written(tmp_path / "file", data))
    assert (found.outcome, found.rule, found.score) == (Outcome.SCORED, rule, score)
    assert found.review is not None
    assert score >= found.review
    assert found.reason.endswith((".", ")"))


def test_a_file_with_code_and_damage_has_a_finding_for_each(tmp_path: Path) -> None:
    data = safetensors(ONE, b"abcd" + b"PK\x05\x06" + bytes(18))
    found = findings(written(tmp_path / "file", data))
    assert [(item.rule, item.code) for item in found] == [
        ("runs-code", "safetensors.zip_inside"),
        ("damaged", "safetensors.trailing_bytes"),
    ]


def test_every_file_of_a_version_is_looked_at(tmp_path: Path, sound: Path) -> None:
    broken = written(tmp_path / "broken", b"hello")
    assert [item.subject.key for item in findings(sound, broken, sound)] == [
        "sound.safetensors",
        "broken",
        "sound.safetensors",
    ]


def test_a_finding_under_no_rule_is_a_failed_look_and_no_pass(tmp_path: Path, sound: Path) -> None:
    hostile = written(tmp_path / "hostile", b"cos\nsystem\n.")
    for path, policy in (
        (hostile, Policy("test", 1, ())),
        (hostile, Policy("test", 1, (DAMAGED,))),
        (sound, Policy("test", 1, ())),
    ):
        found = finding(path, policy=policy)
        assert (found.outcome, found.score, found.rule) == (Outcome.FAILED, None, "")
        assert "No rule" in found.reason


def test_each_rule_that_names_the_signal_gets_its_finding(tmp_path: Path) -> None:
    second = Rule("other", "Other", review=0.1, hold=0.2, signals=("container.code",))
    found = findings(
        written(tmp_path / "file", b"cos\nsystem\n."), policy=Policy("test", 1, (CODE, second))
    )
    assert [(item.rule, item.review) for item in found] == [("runs-code", 0.5), ("other", 0.1)]


def test_a_file_that_is_gone_is_a_failed_look(tmp_path: Path) -> None:
    found = finding(tmp_path / "gone")
    assert (found.outcome, found.code) == (Outcome.FAILED, "sandbox.broke")


@pytest.mark.parametrize(
    ("limits", "code"),
    [(Limits(seconds=0.001), "sandbox.time"), (Limits(memory_mb=40), "sandbox.memory")],
)
def test_a_file_that_takes_too_much_is_a_failed_look(
    tmp_path: Path, limits: Limits, code: str
) -> None:
    header = b'{"__metadata__":{"a":"' + b"x" * 15_000_000 + b'"}}'
    found = finding(written(tmp_path / "file", safetensors(header)), limits=limits)
    assert (found.outcome, found.score) == (Outcome.FAILED, None)
    assert found.code == code


def zip_bomb() -> bytes:
    """Return a zip whose one pickle unpacks to a hundred megabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(100_000_000)) + packer.flush()
    sizes = (0, len(packed), 100_000_000)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, *sizes, 5, 0) + b"a.pkl"
    central = struct.pack(
        "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, *sizes, 5, 0, 0, 0, 0, 0, 0
    )
    begin = len(local) + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central) + 5, begin, 0)
    return local + packed + central + b"a.pkl" + end


EMPTY = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
# Files that are cheap to make and expensive to read, and whether anything is wrong with them.
POISON: dict[str, tuple[Callable[[], bytes], bool]] = {
    "more tensors than anybody has": (
        lambda: safetensors(b"{" + b"".join(EMPTY % n for n in range(200_000)) + b'"x":1}'),
        True,
    ),
    "lists in lists": (lambda: safetensors(b'{"a":' + b"[" * 900_000 + b"}"), True),
    "empty lists": (lambda: safetensors(b'{"a":[' + b"[]," * 900_000 + b"1]}"), True),
    "numbers": (lambda: safetensors(b'{"a":[' + b"1," * 1_900_000 + b"1]}"), True),
    "a long string": (
        lambda: safetensors(b'{"__metadata__":{"a":"' + b"\xc3\xa9" * 7_000_000 + b'"}}'),
        True,
    ),
    "a zip bomb": (zip_bomb, True),
    "a long pickle": (lambda: b"\x80\x02" + b"N0" * 3_000_000 + b"N.", True),
    "a deep pickle": (lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".", False),
    "a pickle that doubles": (lambda: b"\x80\x02N" + b"2\x86" * 200_000 + b".", False),
    "imports": (lambda: b"".join(b"cm%d\nn\n0" % n for n in range(100_000)) + b"N.", True),
    "a line without end": (lambda: b"V" + b"x" * 30_000_000, True),
    "a long number": (lambda: b"I" + b"9" * 900_000 + b"\n.", False),
}


@pytest.mark.parametrize("name", POISON)
def test_poison_is_looked_at_within_the_limits(tmp_path: Path, name: str) -> None:
    """A look that needs more than 512 MB would have failed; a busy machine gets its time."""
    make, wrong = POISON[name]
    limits = Limits(memory_mb=512, seconds=60)
    for found in findings(written(tmp_path / "file", make()), limits=limits):
        assert found.outcome is Outcome.SCORED
        assert bool(found.score) == wrong


def test_every_shared_file_gets_the_finding_that_its_name_promises(shared_data: Path) -> None:
    """A cross-section through the sandbox; the readers' own tests go through all of them."""
    found = {
        name: finding(shared_data / name).score
        for name in (
            "pickles/malicious1_0x1.zip",
            "pickles/sys_module_override_sploit.pkl",
            "pickles/benign0_v3.pkl",
            "pickles/pytorch_model.bin",
            "embeddings/EasyNegative.pt",
            "loras/lora_disney.safetensors",
        )
    }
    assert list(found.values()) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


# --- The door for weights -------------------------------------------------------------------


def test_an_ordinary_file_passes_the_door(sound: Path) -> None:
    assert inspect_weights(sound) == WeightsSummary("safetensors", sound.stat().st_size, 1)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "weights.unknown_format"),
        (b"hello, world", "weights.unknown_format"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "weights.unknown_format"),
        (struct.pack("<Q", 100 << 30) + b'{"a":', "safetensors.header_too_long"),
        (struct.pack("<Q", 5000) + b'{"a":1}', "safetensors.header_beyond_file"),
        (safetensors(ONE, b"abc"), "safetensors.data_beyond_file"),
        (safetensors(b'{"a":}'), "safetensors.not_json"),
        (safetensors(b'{"a":' + b" " * 2_000_000 + b"}"), "safetensors.not_json"),
    ],
    ids=range(8),
)
def test_what_can_never_be_a_model_is_refused_at_the_door(
    tmp_path: Path, data: bytes, code: str
) -> None:
    answer = inspect_weights(written(tmp_path / "file.safetensors", data))
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert answer.sentence.endswith(".")


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (safetensors(ONE, b"abcd" + b"extra"), "safetensors"),
        (safetensors(b'{"__metadata__":{},"__metadata__":{}}'), "safetensors"),
        (safetensors(b" {}"), "safetensors"),
        (b"\x80\x02cos\nsystem\n.", "pickle"),
        (b"cos\nsystem\n.", "pickle"),
        (b"PK\x03\x04" + bytes(40), "zip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7z"),
        (safetensors(b'{"a":' + b"[" * 2_000_000 + b"}"), "safetensors"),
    ],
    ids=range(8),
)
def test_what_is_strange_but_readable_passes_the_door(
    tmp_path: Path, data: bytes, form: str
) -> None:
    answer = inspect_weights(written(tmp_path / "file.safetensors", data))
    assert isinstance(answer, WeightsSummary)
    assert answer.format == form


def test_a_long_header_is_read_and_counted_too(tmp_path: Path) -> None:
    data = safetensors({**ONE, "__metadata__": {"a": "x" * 900_000, "b": "y" * 900_000}}, b"abcd")
    answer = inspect_weights(written(tmp_path / "file", data))
    assert answer == WeightsSummary("safetensors", len(data), 1)


# --- The door for pictures ------------------------------------------------------------------


def picture(form: str, size: tuple[int, int] = (60, 40), mode: str = "RGB", **more: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, 120).save(stream, form, **more)
    return stream.getvalue()


def png_of(width: int, height: int) -> bytes:
    """Return a grey PNG of any size that takes a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def _copied(answer: Refusal | PreviewSummary) -> tuple[str, int, int]:
    assert isinstance(answer, PreviewSummary)
    return answer.format, answer.width, answer.height


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_an_ordinary_picture_passes_the_door(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "picture.txt", picture(form))
    assert _copied(reencode_preview(path, tmp_path / "copy")) == ("jpeg", 60, 40)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, world",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        picture("BMP"),
        picture("JPEG", (600, 400))[:-500],
        picture("PNG", (600, 400))[:-30],
        png_of(9000, 9000),
        png_of(20_000, 20_000)[:2000],
    ],
    ids=range(8),
)
def test_what_is_no_whole_picture_of_reasonable_size_is_refused(
    tmp_path: Path, data: bytes
) -> None:
    source, target = written(tmp_path / "picture", data), tmp_path / "copy"
    answer = reencode_preview(source, target)
    assert isinstance(answer, Refusal)
    assert not target.exists()
    assert answer.code.startswith("picture.")
    assert answer.sentence


@pytest.mark.parametrize(("max_side", "size"), [(300, (300, 200)), (1600, (900, 600))])
def test_the_published_copy_has_the_pixels_and_nothing_else(
    tmp_path: Path, max_side: int, size: tuple[int, int]
) -> None:
    image = Image.effect_noise((900, 600), 30).convert("RGB")
    exif = Image.Exif()
    exif[0x010F] = "Secret Camera"
    exif.get_ifd(0x8825)[1] = "N"
    stream = io.BytesIO()
    image.save(
        stream, "JPEG", quality=95, exif=exif, icc_profile=b"Secret profile", comment=b"Secret"
    )
    source, target = written(tmp_path / "source", stream.getvalue()), tmp_path / "copy.jpg"
    assert b"Secret" in source.read_bytes()
    assert _copied(reencode_preview(source, target, max_side=max_side)) == ("jpeg", *size)
    data = target.read_bytes()
    assert data[:3] == b"\xff\xd8\xff"
    for trace in (b"Secret", b"EXIF", b"Exif", b"ICCP", b"XMP "):
        assert trace not in data
    with Image.open(target) as copy:
        assert not copy.getexif()
        assert copy.size == size


def test_machines_get_a_smaller_copy_of_what_people_see(tmp_path: Path) -> None:
    image = Image.radial_gradient("L").resize((1800, 1200)).convert("RGB")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    target, small = tmp_path / "copy.jpg", tmp_path / "small.jpg"
    source = written(tmp_path / "source", stream.getvalue())
    assert _copied(reencode_preview(source, target, small=small)) == ("jpeg", 1600, 1067)
    with Image.open(target) as seen, Image.open(small) as weighed:
        assert weighed.size == (768, 512)
        apart = ImageChops.difference(seen.resize(weighed.size), weighed)
        assert max(high for _, high in apart.getextrema()) < 12


def test_a_refused_picture_leaves_no_copy_of_either_size(tmp_path: Path) -> None:
    source = written(tmp_path / "source", b"not a picture")
    target, small = tmp_path / "copy.jpg", tmp_path / "small.jpg"
    assert isinstance(reencode_preview(source, target, small=small), Refusal)
    assert not target.exists()
    assert not small.exists()


def test_the_published_copy_is_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (80, 40), "white")
    image.paste("black", (0, 0, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    target = tmp_path / "copy.jpg"
    reencode_preview(written(tmp_path / "source", stream.getvalue()), target)
    with Image.open(target) as copy:
        assert copy.size == (40, 80)
        top, bottom = copy.getpixel((20, 10)), copy.getpixel((20, 70))
        assert isinstance(top, tuple)
        assert isinstance(bottom, tuple)
        assert top[0] < 50 < 200 < bottom[0]
