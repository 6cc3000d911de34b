"""Reading strangers' pictures: every format, every way of being broken."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from triage.pictures import PictureError, open_picture, read_picture

DATA = Path(os.environ.get("WEIGHHOUSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
RED, BLUE = (200, 30, 40), (30, 40, 200)


def halves(width: int = 64, height: int = 48) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def saved(folder: Path, content: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def code_of(path: Path, **options: int) -> str:
    with pytest.raises(PictureError) as refusal:
        read_picture(path, **options)
    assert str(refusal.value).endswith(".")
    return refusal.value.code


def near(pixel: Any, colour: tuple[int, int, int], by: int = 25) -> bool:
    return bool(np.abs(np.subtract(pixel, colour)).max() <= by)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_whatever_its_name_says(form: str, tmp_path: Path) -> None:
    picture = open_picture(saved(tmp_path, encoded(halves(), form), "weights.safetensors"))
    assert (picture.image.mode, picture.image.size, picture.format) == ("RGB", (64, 48), form)
    assert near(picture.image.getpixel((8, 24)), RED)
    assert near(picture.image.getpixel((56, 24)), BLUE)
    assert not picture.animated


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_that_is_cut_short_is_refused(form: str, tmp_path: Path) -> None:
    noise = Image.effect_noise((256, 256), 80).convert("RGB")
    content = encoded(noise, form)
    for share in (0.2, 0.5, 0.8):
        path = saved(tmp_path, content[: int(len(content) * share)])
        assert code_of(path) in ("picture.broken", "picture.format")


@pytest.mark.parametrize("form", FORMATS)
def test_no_damage_escapes_as_anything_but_a_picture_error(form: str, tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    content = np.frombuffer(encoded(halves(), form), np.uint8)
    refused = 0
    for _ in range(150):
        damaged = content.copy()
        places = random.integers(0, len(damaged), 6)
        damaged[places] = random.integers(0, 256, 6)
        try:
            read_picture(saved(tmp_path, damaged.tobytes()))
        except PictureError:
            refused += 1
    assert refused > 0


def test_other_formats_and_other_files_are_refused(tmp_path: Path) -> None:
    for number, content in enumerate(
        (encoded(halves(), "TIFF"), encoded(halves(), "BMP"), b"", b"%!PS-Adobe-3.0 EPSF-3.0\n")
    ):
        assert code_of(saved(tmp_path, content, str(number))) == "picture.format"


def test_a_missing_file_is_told_from_a_broken_one(tmp_path: Path) -> None:
    assert code_of(tmp_path / "nothing") == "picture.missing"


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header tells a size and that holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [6325, 9600, 14_000, 60_000])  # 40, 92, 196 and 3,600 megapixels
def test_too_many_pixels_are_refused_from_the_header(side: int, tmp_path: Path) -> None:
    assert code_of(saved(tmp_path, png_that_claims(side, side))) == "picture.too_many_pixels"


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_warning_that_was_made_an_error_is_the_same_refusal(tmp_path: Path) -> None:
    assert code_of(saved(tmp_path, png_that_claims(9600, 9600))) == "picture.too_many_pixels"


def test_the_limit_of_pixels_is_the_callers(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(halves(), "PNG"))
    assert code_of(path, max_pixels=64 * 48 - 1) == "picture.too_many_pixels"
    assert read_picture(path, max_pixels=64 * 48).size == (64, 48)


@pytest.mark.parametrize(
    ("size", "code"),
    [((900, 16), "picture.strip"), ((16, 900), "picture.strip"), ((15, 400), "picture.too_small")],
)
def test_strips_and_specks_are_refused(size: tuple[int, int], code: str, tmp_path: Path) -> None:
    assert code_of(saved(tmp_path, encoded(Image.new("RGB", size), "PNG"))) == code


def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    for form in ("JPEG", "PNG", "WEBP"):
        image = read_picture(saved(tmp_path, encoded(halves(), form, exif=exif), form))
        assert image.size == (48, 64)
        assert near(image.getpixel((24, 8)), RED)  # left came to the top


def test_sixteen_bit_grey_is_scaled_and_not_cut_off(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(32, axis=0)
    image = read_picture(saved(tmp_path, encoded(Image.fromarray(ramp), "PNG")))
    row = np.asarray(image)[0, :, 0].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert abs(row[32] - 129) <= 2


def test_cmyk_is_converted(tmp_path: Path) -> None:
    image = read_picture(saved(tmp_path, encoded(halves().convert("CMYK"), "JPEG")))
    assert near(image.getpixel((8, 24)), RED)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "AVIF"])
def test_transparency_is_laid_over_white(form: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((*RED, 255), (0, 0, 32, 64))
    read = read_picture(saved(tmp_path, encoded(image, form)))
    assert near(read.getpixel((8, 32)), RED)
    assert near(read.getpixel((56, 32)), (255, 255, 255))


def test_a_palette_with_a_transparent_colour_is_laid_over_white(tmp_path: Path) -> None:
    image = halves().convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    blue = image.getpixel((56, 24))
    read = read_picture(saved(tmp_path, encoded(image, "PNG", transparency=blue)))
    assert near(read.getpixel((8, 24)), RED)
    assert near(read.getpixel((56, 24)), (255, 255, 255))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "AVIF", "PNG"])
def test_of_an_animation_the_first_frame_is_read_and_said_so(form: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), RED), Image.new("RGB", (32, 32), BLUE)]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    picture = open_picture(saved(tmp_path, content))
    assert picture.animated
    assert near(picture.image.getpixel((16, 16)), RED)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_large_picture_is_reduced_and_its_own_size_is_kept_on_record(
    form: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, encoded(halves(2400, 1600), form))
    picture = open_picture(path, enough=256)
    assert (picture.width, picture.height) == (2400, 1600)
    assert 256 <= min(picture.image.size) < 512
    assert near(picture.image.getpixel((10, 10)), RED)
    assert read_picture(path, enough=None).size == (2400, 1600)


def test_ordinary_photographs_are_all_read() -> None:
    photos = sorted((DATA / "photos").glob("*.*"))
    if not photos:
        pytest.skip(f"the photographs of the shared test data are not at {DATA / 'photos'}")
    for photo in photos:
        assert min(read_picture(photo).size) >= 64
