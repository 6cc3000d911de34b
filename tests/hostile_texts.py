"""Names, texts and requests that want to do harm, each made here."""

from collections.abc import Callable, Iterator
from functools import partial

from tests.factories import safetensors_bytes

BOUNDARY = "wall"


def names() -> Iterator[tuple[str, str]]:
    """Yield names of files: what is wrong with it, and the name."""
    yield from {
        "nothing": "",
        "a blank": " ",
        "a dot": ".",
        "two dots": "..",
        "a way up": "../../../../etc/passwd",
        "a way up with backslashes": "..\\..\\boot.ini",
        "a way up, encoded": "..%2f..%2fetc%2fpasswd",
        "a way from the root": "/etc/passwd",
        "a drive": "C:\\Windows\\win.ini",
        "a share": "\\\\server\\share\\x.safetensors",
        "a stream": "x.safetensors::$DATA",
        "a device": "CON",
        "a device with an ending": "NUL.safetensors",
        "a terminal's codes": "\x1b]0;owned\x07\x1b[2J.safetensors",
        "all control characters": "".join(map(chr, range(1, 32))) + ".safetensors",
        "a null": "weights.safetensors\0.exe",
        "a line break and a header": "x\r\nContent-Type: text/html\r\n\r\n<script>",
        "a quote and a header": 'x"; filename="y.html',
        "letters turned around": "photo_\u202egnp.exe",
        "marks for isolation": "\u2066\u2067\u2068x\u2069",
        "nothing that can be seen": "\u200b\u200c\u200d\ufeff",
        "half a surrogate": "half \ud800 of it",
        "a character beyond the plane": "\U0010ffff\U0001f4a9.safetensors",
        "five thousand characters": "a" * 5_000,
        "five thousand characters of four bytes": "\U0001f4a9" * 5_000,
        "marks upon marks": "e" + "\u0301" * 4_000,
        "a page": "<img src=x onerror=alert(1)>.safetensors",
        "a template": "{{7*7}}${7*7}{% debug %}.safetensors",
        "a format": "%s%n%x%d{0}{0.__class__}",
        "a query": "x'); DROP TABLE moderation_modelfile;--",
        "a command": "$(id)`id`;id|id&&id",
        "an option": "--help",
        "a hidden file": ".htaccess",
    }.items()


def texts() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield fields of a model's page: what is wrong with them, and the fields."""
    big = 19_000
    markdown = {
        "brackets": "[" * big,
        "pictures": "![" * (big // 2),
        "links in links": "[a](" * (big // 4),
        "stars": "*a_ " * (big // 4),
        "quotes in quotes": ">" * big,
        "lists in lists": "".join(" " * depth + "- a\n" for depth in range(180)),
        "back-ticks": "".join("`" * count + " " for count in range(190)),
        "pointed brackets": "<" * big,
        "references": "".join(f"[{n}]: /x\n[{n}]\n" for n in range(900)),
        "a table": "|" * big + "\n" + "-|" * 200,
        "autolinks": "www.a.b " * (big // 8),
        "entities": "&amp;" * (big // 5),
        "addresses": "http://" * (big // 7),
        "backslashes": "\\" * big,
    }
    for name, text in markdown.items():
        yield f"Markdown of {name}", {"description": text}
    yield from {
        "a description of 3 MB": {"description": "x" * 3_000_000},
        "a description of 3 MB of marks": {"description": "e" + "\u0301" * 1_500_000},
        "a title of 3 MB": {"title": "x" * 3_000_000},
        "a title that cannot be seen": {"title": "\u200b\u200d\u2060"},
        "a title of control characters": {"title": "\x07\x1b[2J\x7f"},
        "a title turned around": {"title": "\u202eelttit"},
        "a title with a null": {"title": "nu\0ll"},
        "a title of marks upon marks": {"title": "Z" + "\u0300\u0489" * 90},
        "a hundred thousand tags": {"tags": "a," * 100_000},
        "thirty-one tags": {"tags": ",".join(map(str, range(31)))},
        "tags of nothing": {"tags": "," * 5_000},
        "trigger words of 3 MB": {"trigger_words": "x" * 3_000_000},
        "a base model of 81 characters": {"base_model": "x" * 81},
        "a licence of a megabyte": {"licence": "x" * 1_000_000},
        "halves of surrogates": {"title": "a \ud83d b", "description": "\udc00" * 50},
        "characters that are none": {"description": "\ufffe\uffff\U0010fffe" * 99},
    }.items()


def requests() -> Iterator[tuple[str, Callable[[], tuple[str, bytes]]]]:
    """Yield uploads whose envelope lies: what is wrong, and the content type with the body."""
    weights = safetensors_bytes({"other": [1.0, 2.0]})
    usual = f"multipart/form-data; boundary={BOUNDARY}"

    def part(head: str, body: bytes = weights) -> bytes:
        return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + body + b"\r\n"

    file = 'Content-Disposition: form-data; name="file"; filename="w.safetensors"'
    end = f"--{BOUNDARY}--\r\n".encode()
    bodies: dict[str, tuple[str, bytes | Callable[[], bytes]]] = {
        "no boundary": ("multipart/form-data", part(file) + end),
        "another boundary": ("multipart/form-data; boundary=other", part(file) + end),
        "an empty boundary": ("multipart/form-data; boundary=", part(file) + end),
        "a boundary of 10,000": (f"multipart/form-data; boundary={'x' * 10_000}", part(file) + end),
        "a boundary of another alphabet": (
            "multipart/form-data; boundary=\u00fc",
            part(file) + end,
        ),
        "no end": (usual, part(file)),
        "nothing at all": (usual, b""),
        "nothing but its end": (usual, end),
        "a part without a name": (usual, part("Content-Disposition: form-data") + end),
        "a part without a head": (usual, part("") + end),
        "a head of a megabyte": (usual, part("X-Long: " + "x" * 1_000_000) + end),
        "a head that never ends": (
            usual,
            b"--wall\r\nContent-Disposition: form-data; name=" + b"a" * 90_000,
        ),
        "two names": (usual, part(file + '; name="preview"; filename="other.png"') + end),
        "a name in another encoding": (
            usual,
            part("Content-Disposition: form-data; name=\"file\"; filename*=utf-16''%ff%fe%00")
            + end,
        ),
        "a name that continues": (
            usual,
            part('Content-Disposition: form-data; name="file"; filename*0="a"; filename*1="../b"')
            + end,
        ),
        "base64 that is none": (
            usual,
            part(file + "\r\nContent-Transfer-Encoding: base64", b"!!!=") + end,
        ),
        "an encoding that nobody knows": (
            usual,
            part(file + "\r\nContent-Transfer-Encoding: zip") + end,
        ),
        "a length that lies": (usual, part(file + "\r\nContent-Length: 99999999999") + end),
        "a charset that nobody knows": (usual + "; charset=rot13", part(file) + end),
        "a body in a body": (
            usual,
            part("Content-Type: multipart/mixed; boundary=in", b"--in\r\n\r\nx\r\n--in--") + end,
        ),
        "2,000 fields": (
            usual,
            lambda: part('Content-Disposition: form-data; name="a"', b"x") * 2_000 + end,
        ),
        "500 files": (usual, lambda: part(file, b"x") * 500 + end),
        "a file where a word should be": (
            usual,
            part('Content-Disposition: form-data; name="prompt"; filename="x"') + end,
        ),
        "a word where a file should be": (
            usual,
            part('Content-Disposition: form-data; name="file"') + end,
        ),
        "another kind": ("application/json", b'{"file": "x"}'),
        "no kind": ("", weights),
    }
    for name, (kind, body) in bodies.items():
        yield name, partial(_sent, kind, body)


def _sent(kind: str, body: bytes | Callable[[], bytes]) -> tuple[str, bytes]:
    return kind, body() if callable(body) else body
