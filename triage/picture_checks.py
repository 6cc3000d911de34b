"""What is done to a stranger's picture inside the sandbox: its pixels are copied.

Paths go in and JSON-able plain data comes out; a refusal is data too.
"""

from pathlib import Path

from PIL import Image

from triage.pictures import PictureError, open_picture

# 85 is where WebP's artefacts stop being visible at normal viewing distance.
_QUALITY = 85


def copy_pixels(source: str, target: str, max_side: int) -> dict[str, object]:
    """Write a WebP of the pixels alone, at most ``max_side`` pixels a side.

    Returns format, width and height of the copy, or code and sentence.
    """
    try:
        picture = open_picture(Path(source), enough=max_side)
    except PictureError as error:
        return {"code": error.code, "sentence": str(error)}
    copy = picture.image
    copy.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    # Pillow writes only the metadata that it is given, and it is given none.
    copy.save(target, "WEBP", quality=_QUALITY)
    return {"format": "webp", "width": copy.width, "height": copy.height}
