"""Pictures that want to do harm, each made here: what it is called, and how it is made."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

from PIL import Image

from tests.test_container_probe import png_of
from tests.test_containers_archives import HOSTILE, packed

Make = Callable[[], bytes]
MARK = b"\x89PNG\r\n\x1a\n"
PAGE = b"<script>alert(1)</script>"


def pictures() -> Iterator[tuple[str, Make]]:
    """Yield every case: a name that says what is wrong, and a function that makes the bytes."""
    for name, made in _cases().items():
        yield f"picture: {name}", made if callable(made) else partial(bytes, made)


def _saved(
    form: str, *, mode: str = "RGB", size: tuple[int, int] = (64, 64), **more: object
) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(stream, form, **more)
    return stream.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(
    width: int = 64,
    height: int = 64,
    *,
    bits: int = 8,
    colour: int = 0,
    before: bytes = b"",
    rows: bytes | None = None,
    end: bytes = _chunk(b"IEND", b""),
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    rows = bytes(65 * 64) if rows is None else rows
    return MARK + _chunk(b"IHDR", header) + before + _chunk(b"IDAT", zlib.compress(rows, 9)) + end


def _frames(form: str, count: int) -> bytes:
    """Return an animation of small frames, no two of them alike."""
    frames = [Image.new("L", (32, 32), number % 251) for number in range(count)]
    stream = io.BytesIO()
    frames[0].save(stream, form, save_all=True, append_images=frames[1:], duration=20, loop=0)
    return stream.getvalue()


def _gif_of(frames: int) -> bytes:
    one = _saved("GIF", mode="L", size=(32, 32))
    begin = one.index(b"\x2c")
    return one[:begin] + one[begin:-1] * frames + b"\x3b"


def _scans(count: int) -> bytes:
    """Return a progressive JPEG that draws its last scan again and again."""
    one = _saved("JPEG", size=(1024, 1024), progressive=True)
    last = one.rindex(b"\xff\xda")
    return one[:last] + one[last:-2] * count + b"\xff\xd9"


def _jpeg_of(width: int, height: int) -> bytes:
    one = _saved("JPEG")
    at = one.index(b"\xff\xc0") + 5
    return one[:at] + struct.pack(">HH", height, width) + one[at + 4 :]


def _marked(marker: int, data: bytes) -> bytes:
    """Return a JPEG with a segment of these bytes, and as many more as it takes."""
    one = _saved("JPEG")
    parts = [data[at : at + 60_000] for at in range(0, len(data), 60_000)]
    segments = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", len(part) + 2) + part for part in parts
    )
    return one[:2] + segments + one[2:]


def _exif(*entries: tuple[int, int, int, bytes], following: int = 0) -> bytes:
    rows = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    body = struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)
    return _marked(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + body)


def _cut(form: str, share: float) -> bytes:
    whole = _saved(form, size=(256, 256))
    return whole[: int(len(whole) * share)]


def _cases() -> dict[str, bytes | Make]:
    cases: dict[str, bytes | Make] = {
        f"a {form} of which {share:.0%} is there": partial(_cut, form, share)
        for form in ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
        for share in (0.1, 0.5, 0.95)
    }
    cases |= {
        "a PNG of 81 megapixels": partial(png_of, 9000, 9000),
        "a PNG that says 2^31 - 1 a side": _png(2**31 - 1, 2**31 - 1),
        "a PNG that says 65,535 a side": _png(65_535, 65_535),
        "a PNG of no width": _png(0, 64),
        "a PNG of one pixel": _png(1, 1, rows=b"\0\0"),
        "a PNG of 20 by 40,000": partial(png_of, 20, 40_000),
        "a PNG of 16 bits": _png(bits=16, rows=bytes(129 * 64)),
        "a PNG of 16 bits and four channels": _png(bits=16, colour=6, rows=bytes(513 * 64)),
        "a PNG of 3 bits": _png(bits=3),
        "a PNG with a palette that is missing": _png(colour=3),
        "a PNG with a palette that is too short": _png(colour=3, before=_chunk(b"PLTE", b"abc")),
        "a PNG without pixels": _png(rows=b""),
        "a PNG with too many pixels": lambda: _png(rows=bytes(50_000_000)),
        "a PNG with a wrong checksum": _png().replace(b"IDAT", b"IDAT\0", 1),
        "a PNG whose chunk is 2^31 long": MARK + struct.pack(">I", 1 << 31) + b"IHDR",
        "a PNG without an end": _png(end=b""),
        "a PNG with a header twice": _png(
            before=_chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0))
        ),
        "a PNG with a profile of rubbish": _png(
            before=_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"rubbish" * 99))
        ),
        "a PNG with a profile that is a bomb": lambda: _png(
            before=_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(90_000_000)))
        ),
        "a PNG with a text that is a bomb": lambda: _png(
            before=_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(90_000_000)))
        ),
        "a PNG with many texts that are bombs": lambda: _png(
            before=_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(900_000))) * 200
        ),
        "a PNG with an international bomb": lambda: _png(
            before=_chunk(b"iTXt", b"x\0\1\0\0\0" + zlib.compress(bytes(90_000_000)))
        ),
        "a PNG with a page in its text": _png(before=_chunk(b"tEXt", b"Title\0" + PAGE)),
        "a PNG with a hundred thousand chunks": lambda: _png(before=_chunk(b"vpAg", b"") * 100_000),
        "a PNG with an EXIF of rubbish": _png(before=_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")),
        "an APNG of 10,000 frames": partial(_frames, "PNG", 10_000),
        "an APNG that says 2^31 frames": _png(
            before=_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
        ),
        "an interlaced PNG of nothing": MARK
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 1))
        + _chunk(b"IEND", b""),
        "a PNG and an archive": _png() + packed(("data.pkl", HOSTILE)),
        "a PNG and a page": _png() + PAGE,
        "a PNG and a pickle": _png() + HOSTILE,
        "a GIF of 10,000 frames": partial(_gif_of, 10_000),
        "a GIF that is a script": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//",
        "a GIF whose frame lies outside": _saved("GIF", mode="L").replace(
            b"\x2c\0\0\0\0", b"\x2c\xff\xff\xff\xff", 1
        ),
        "a GIF of 65,535 a side": b"GIF89a"
        + struct.pack("<HH", 65_535, 65_535)
        + _saved("GIF", mode="L")[10:],
        "a GIF whose code is 255 bits": b"GIF89a@\0@\0\0\0\0,\0\0\0\0@\0@\0\0\xff\x01\0\0;",
        "a WebP of 500 frames": partial(_frames, "WEBP", 500),
        "a WebP that lies about its size": _saved("WEBP")[:4]
        + b"\xff\xff\xff\xff"
        + _saved("WEBP")[8:],
        "a WebP of rubbish": b"RIFF\x20\0\0\0WEBPVP8L" + bytes(range(40)),
        "a JPEG in CMYK": _saved("JPEG", mode="CMYK"),
        "a JPEG of 65,500 a side": _jpeg_of(65_500, 65_500),
        "a JPEG that says another size": _jpeg_of(4000, 4000),
        "a JPEG of no height": _jpeg_of(64, 0),
        "a JPEG of 2,000 scans": partial(_scans, 2_000),
        "a JPEG with an EXIF of 5 MB": lambda: _marked(0xE1, b"Exif\0\0II*\0" + bytes(5_000_000)),
        "a JPEG whose EXIF holds itself": _exif((0x8769, 4, 1, struct.pack("<I", 8)), following=8),
        "a JPEG whose EXIF is 2^31 long": _exif((0x010E, 2, 1 << 31, struct.pack("<I", 8))),
        "a JPEG that is turned by 99": _exif((0x0112, 3, 1, struct.pack("<I", 99))),
        "a JPEG that is turned by a word": _exif((0x0112, 2, 4, b"six\0")),
        "a JPEG with a profile of rubbish": _saved("JPEG", icc_profile=b"rubbish" * 999),
        "a JPEG with a profile of 255 parts": lambda: _marked(
            0xE2, (b"ICC_PROFILE\0\x01\xff" + bytes(9_000)) * 6
        ),
        "a JPEG with a page in its comment": _marked(0xFE, b"<?php system('id'); ?>" + PAGE),
        "a JPEG with an XMP of entities": _marked(
            0xE1, b'http://ns.adobe.com/xap/1.0/\0<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
        ),
        "a JPEG of many pictures that are not there": _marked(
            0xE2, b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\xff\xff\xff\xff\0\0\0\0"
        ),
        "a JPEG without tables": b"\xff\xd8" + _saved("JPEG")[-600:],
        "a JPEG that is nothing but markers": b"\xff\xd8" + b"\xff\xd0" * 100_000,
        "an AVIF that is a box of 2^62": b"\0\0\0\x01ftypavif" + struct.pack(">Q", 1 << 62),
        "an AVIF of rubbish": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(range(200)),
        "an SVG with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "an SVG that asks another host": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>',
        "a page": b"<!doctype html><p>" + PAGE,
        "a page behind the mark of a PNG": MARK + PAGE,
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "a PDF": b"%PDF-1.7\n1 0 obj<</JS(app.alert(1))>>endobj\n",
        "a BMP": _saved("BMP"),
        "a TIFF": _saved("TIFF"),
        "an icon": _saved("ICO"),
        "a PCX": _saved("PCX"),
        "a JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "a PSD": b"8BPS\0\x01" + bytes(60),
        "an XBM": b"#define a_width 64\n#define a_height 64\nstatic char a_bits[] = {0};",
        "a QOI": b"qoif" + struct.pack(">II", 64, 64) + b"\x03\0" + bytes(60),
        "a model": b"\x80\x02}." + bytes(60),
        "an archive": packed(("x.png", b"x")),
        "two thousand zeros": bytes(2000),
        "one byte": b"\xff",
        "40 megapixels with transparency": lambda: _saved(
            "PNG", mode="RGBA", size=(6320, 6320), compress_level=1
        ),
        "40 megapixels of WebP": lambda: _saved("WEBP", size=(6320, 6320), quality=1, method=0),
    }
    return cases
