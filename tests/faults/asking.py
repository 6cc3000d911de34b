"""Sends requests as strangers do, and says of every answer whether it was a clean one."""

import http.client
import json
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

# Longer than any request may wait on a busy machine; whatever takes longer hangs.
HANG_SECONDS = 90
TIMES = 3
# Threads cost little while they wait, and whoever has to wait for one sends too late.
MOST_SENDERS = 6000
# Waits between two tries grow by this, up to the longest.
GROWTH, LONGEST_WAIT_SECONDS = 2.0, 30.0
# Refusals that a race between people explains: somebody was quicker, or it is gone by now.
EXPECTED = frozenset({403, 404, 409, 410, 422, 429})


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 if nothing did."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Return whether it acknowledges what was sent."""
        return 200 <= self.status < 400

    @property
    def is_not_now(self) -> bool:
        """Return whether it is a clean 503: one that says when to come back, and why."""
        if self.status != 503 or "retry-after" not in self.headers:
            return False
        if self.headers.get("content-type", "") == "application/problem+json":
            return bool(json.loads(self.body).get("code"))
        return b"back in a moment" in self.body

    @property
    def is_clean(self) -> bool:
        """Return whether a promise is kept by this answer."""
        return self.is_good or self.is_not_now or self.status in EXPECTED

    @property
    def is_told(self) -> bool:
        """Return whether it settles what was sent: acknowledged, or refused for good."""
        return self.is_good or self.status in EXPECTED

    @property
    def wait_seconds(self) -> float:
        """Return after how long to come back, as it says itself."""
        said = self.headers.get("retry-after", "")
        return float(said) if said.isdecimal() else 1.0

    def json(self) -> Any:
        """Return the body as data."""
        return json.loads(self.body)


class Post:
    """The way to the web server: counts every answer and keeps those that are not clean.

    ``give_up`` says when nobody tries again any more.
    """

    def __init__(self, port: int, *, give_up: Callable[[], bool] = lambda: False) -> None:
        self.port = port
        self.give_up = give_up
        self.statuses: Counter[int] = Counter()
        self.unclean: list[str] = []
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._senders = ThreadPoolExecutor(MOST_SENDERS, "sender")

    def send(
        self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer."""
        began = time.monotonic()
        answer = self._ask(method, path, body, dict(headers or {}))
        with self._lock:
            self.statuses[answer.status] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if not answer.is_clean:
                said = answer.error or answer.body[:200].decode(errors="replace")
                self.unclean.append(f"{method} {path}: {answer.status} {said}")
        return answer

    def thrice(
        self, path: str, *, body: bytes, headers: Mapping[str, str], method: str = "POST"
    ) -> list[Answer]:
        """Send the same request three times at once."""
        sent = [
            self._senders.submit(self.send, method, path, body=body, headers=headers)
            for _ in range(TIMES)
        ]
        return [each.result() for each in sent]

    def until(
        self, send: Callable[[], list[Answer]], is_done: Callable[[Answer], bool]
    ) -> list[Answer]:
        """Send until an answer is one to go on with; return all such of the last try.

        Empty where it was given up. No two wait equally long, and each time for longer.
        """
        tries = 0
        while True:
            answers = send()
            done = [answer for answer in answers if is_done(answer)]
            if done or self.give_up():
                return done
            asked = max(answer.wait_seconds for answer in answers)
            grown = min(asked * GROWTH**tries, max(asked, LONGEST_WAIT_SECONDS))
            time.sleep(grown * random.uniform(1, 1.5))  # noqa: S311
            tries += 1

    def close(self) -> None:
        """End the senders."""
        self._senders.shutdown(cancel_futures=True)

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG_SECONDS)
        try:
            connection.request(method, path, body or None, {**headers, "Connection": "close"})
            got = connection.getresponse()
            named = {name.lower(): value for name, value in got.getheaders()}
            return Answer(got.status, named, got.read())
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, error=f"{type(error).__name__}: {error}")
        finally:
            connection.close()


class Marketplace:
    """A marketplace with a key to the API: each POST goes out three times at once with one key.

    Each is sent until it is acknowledged or refused; None if it never was.
    """

    def __init__(self, post: Post, key: str) -> None:
        self.post = post
        self.key = key
        self.differing: list[str] = []

    def create(self, path: str, given: Mapping[str, Any]) -> Answer | None:
        """Send JSON."""
        return self._until_answered(path, json.dumps(given).encode(), "application/json")

    def upload(
        self, path: str, files: Sequence[tuple[str, str, bytes]], fields: Mapping[str, str]
    ) -> Answer | None:
        """Send files, each as field, name and content, and what is said of them."""
        boundary = secrets.token_hex(16)
        lines: list[bytes] = []
        for name, value in fields.items():
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
            lines += [head.encode(), b"", value.encode()]
        for name, filename, content in files:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
            kind = b"Content-Type: application/octet-stream"
            lines += [f'{head}; filename="{filename}"'.encode(), kind, b"", content]
        body = b"\r\n".join([*lines, f"--{boundary}--\r\n".encode()])
        return self._until_answered(path, body, f"multipart/form-data; boundary={boundary}")

    def _until_answered(self, path: str, body: bytes, kind: str) -> Answer | None:
        headers = {
            "Authorization": f"Bearer {self.key}",
            "Idempotency-Key": secrets.token_hex(16),
            "Content-Type": kind,
        }
        told = self.post.until(
            lambda: self.post.thrice(f"/api/v1{path}", body=body, headers=headers),
            lambda answer: answer.is_told,
        )
        if len({(answer.status, answer.body) for answer in told}) > 1:
            self.differing.append(f"{path}: {[answer.body[:120] for answer in told]}")
        return told[0] if told else None


class Browser:
    """Somebody with a session, who sends forms."""

    def __init__(self, post: Post, session: str = "", address: str = "") -> None:
        token = secrets.token_hex(16)
        self.post = post
        # Django's double-submit cookie: what the form says has to be what the cookie says.
        self._token = token
        cookies = f"csrftoken={token}" + (f"; sessionid={session}" if session else "")
        self._headers = {"Cookie": cookies}
        if address:
            self._headers["X-Forwarded-For"] = address

    def get(self, path: str) -> Answer:
        """Open a page."""
        return self.post.send("GET", path, headers=self._headers)

    def get_until_told(self, path: str) -> Answer | None:
        """Open a page until it is shown or refused; None if it never was."""
        told = self.post.until(lambda: [self.get(path)], lambda answer: answer.is_told)
        return told[0] if told else None

    def submit_thrice(self, path: str, fields: Mapping[str, str]) -> list[Answer]:
        """Press the button of a form three times at once, until it is acknowledged or refused."""
        form = self._form(fields)
        return self.post.until(
            lambda: self.post.thrice(path, **form), lambda answer: answer.is_told
        )

    def _form(self, fields: Mapping[str, str]) -> dict[str, Any]:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({**fields, "csrfmiddlewaretoken": self._token}).encode()
        return {"body": body, "headers": {**self._headers, **kind}}
