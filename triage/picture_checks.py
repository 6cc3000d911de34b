"""What is done to a stranger's picture inside the sandbox: its pixels are copied.

Paths go in and JSON-able plain data comes out; a refusal is data too.
"""

from pathlib import Path

from PIL import Image

from triage.pictures import ENOUGH_PIXELS, PictureError, open_picture

# Above it a JPEG grows quickly and looks no better. Not WebP, though a third smaller: a worker
# reads a JPEG of 1,024 pixels a side at half its size in 4 ms, and a WebP in 17.
_QUALITY = 90


def copy_pixels(source: str, target: str, max_side: int, small: str = "") -> dict[str, object]:
    """Write a JPEG of the pixels alone, at most ``max_side`` pixels a side.

    To ``small`` goes another one whose shorter side has the few hundred pixels that encoders and
    perceptual hashes look at. Transparency is laid over white, as it is for the encoder. Returns
    format, width and height of the copy, and under “uploaded” those of the file and whether it
    moves, of which the copies tell nothing; or code and sentence.
    """
    try:
        picture = open_picture(Path(source), enough=max_side)
    except PictureError as error:
        return {"code": error.code, "sentence": str(error)}
    picture.image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    # Into a picture of our own: Pillow would pass on a comment that it has read.
    copy = Image.new("RGB", picture.image.size)
    copy.paste(picture.image)
    copy.save(target, "JPEG", quality=_QUALITY)
    if small:
        # Read in a third of the time of the large one, which weighs four times as much and more.
        shrink = min(1.0, ENOUGH_PIXELS / min(copy.size))
        size = (round(copy.width * shrink), round(copy.height * shrink))
        copy.resize(size, Image.Resampling.LANCZOS).save(small, "JPEG", quality=_QUALITY)
    return {
        "format": "jpeg",
        "width": copy.width,
        "height": copy.height,
        "uploaded": {
            "format": picture.format,
            "width": picture.width,
            "height": picture.height,
            "animated": picture.animated,
        },
    }
