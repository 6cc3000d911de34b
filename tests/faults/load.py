"""The people: creators upload, reporters report, moderators decide, each at a steady rate.

Whatever was acknowledged is written into a ``Ledger``, to be looked for afterwards.
"""

import io
import itertools
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tests.factories import safetensors_bytes
from tests.faults.asking import Answer, Browser, Marketplace, Post
from triage.demo_encoder.scenes import compose, draw

# As many of each kind may be under way at once; beyond that the rate is not reached, and said.
AT_ONCE = {"uploads": 12, "reports": 8, "decisions": 4}
CREATORS = 20
# How long after the end what was sent is sent again where it was not acknowledged.
GIVE_UP_SECONDS = 120.0
# Every third upload shows what the demo's policy holds.
CLEAN, HELD = (("green", "circle"), ("blue", "square")), (("red", "star"), ("red", "star"))
REMOVES_EACH = 3
_SEEN = re.compile(rb'name="reports_seen" value="(\d+)"')


@dataclass
class Ledger:
    """What was acknowledged to whom, by the words that it was sent with."""

    # title: (version, weights, preview) of a submitted version
    uploads: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    # text: the code (API) or the private token (form) of a report
    reports: dict[str, str] = field(default_factory=dict)
    # facts: the action of a decision
    decisions: dict[str, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(AT_ONCE, 0))
    # One key or one form, and answers that name different things.
    differing: list[str] = field(default_factory=list)


class Load:
    """Sends until it is told to stop; ``with`` it around what is to be broken meanwhile."""

    def __init__(
        self,
        post: Post,
        *,
        key: str,
        targets: Sequence[str],
        reporters: Sequence[str],
        moderators: Sequence[str],
        rates: dict[str, float],
    ) -> None:
        """``targets`` are codes of published versions, the people are sessions."""
        self.post = post
        self.ledger = Ledger()
        self.rates = rates
        self.shop = Marketplace(post, key, give_up=self._is_long_over)
        self._targets = list(targets)
        self._pairs = itertools.product(targets, reporters)
        self._moderators = [Browser(post, session) for session in moderators]
        self._free = list(self._moderators)
        self._lock = threading.Lock()
        self._ended_at = 0.0
        self._begun: list[Future[None]] = []
        self._stop = threading.Event()
        self._pictures = [list(_pictures(things)) for things in (CLEAN, CLEAN, HELD)]
        self._pools = {name: ThreadPoolExecutor(AT_ONCE[name], name) for name in AT_ONCE}
        work = {"uploads": self._upload, "reports": self._report, "decisions": self._decide}
        self._threads = [
            threading.Thread(target=self._keep_sending, args=(name, do), daemon=True)
            for name, do in work.items()
        ]
        self._threads.append(threading.Thread(target=self._look_around, daemon=True))

    def __enter__(self) -> "Load":
        """Begin."""
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Send nothing new, and wait for the answers to what is under way."""
        self._ended_at = time.monotonic()
        self._stop.set()
        if kind is not None:
            # Interrupted: nobody waits for anything any more.
            self._ended_at = -math.inf
            for pool in self._pools.values():
                pool.shutdown(wait=False, cancel_futures=True)
            return
        for thread in self._threads:
            thread.join()
        for pool in self._pools.values():
            pool.shutdown()
        self.seconds = time.monotonic() - self.began
        self.post.close()
        for one in self._begun:
            # A fault of the load itself has to be seen.
            one.result()
        self.ledger.differing += self.shop.differing

    def _is_long_over(self) -> bool:
        """Return whether a sender should give up."""
        return bool(self._ended_at) and time.monotonic() - self._ended_at > GIVE_UP_SECONDS

    def _keep_sending(self, name: str, do: Callable[[int], None]) -> None:
        """Send one at each moment that the rate asks for, if not too many are under way."""
        room = threading.Semaphore(AT_ONCE[name])

        def one(number: int) -> None:
            try:
                do(number)
            finally:
                room.release()

        for number in itertools.count():
            due = self.began + number / self.rates[name]
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            # Nothing is made up for afterwards: a moment at which nobody is free is lost.
            if room.acquire(blocking=False):
                with self._lock:
                    self.ledger.sent[name] += 1
                with self._lock:
                    self._begun.append(self._pools[name].submit(one, number))

    def _look_around(self) -> None:
        """Open pages all the while."""
        visitor, moderator = Browser(self.post), self._moderators[0]
        pages: Iterator[tuple[Browser, str]] = itertools.cycle(
            [(visitor, "/"), (moderator, "/console/"), (visitor, "/healthz"), (visitor, "/policy/")]
        )
        while not self._stop.wait(0.5):
            browser, page = next(pages)
            browser.get(page)

    # --- Creators ---------------------------------------------------------------------------

    def _upload(self, number: int) -> None:
        title = f"Upload {number:05}"
        numbers = np.random.default_rng(number)
        model = {"title": title, "on_behalf_of": f"creator-{number % CREATORS}"}
        made = self.shop.create("/models", model)
        if made is None or not made.is_good:
            return
        code = str(made.json()["code"])
        weights = safetensors_bytes({"lora.down": numbers.normal(size=64)})
        pictures = self._pictures[number % len(self._pictures)]
        file = self.shop.upload(f"/versions/{code}/files", "weights.safetensors", weights)
        picture = pictures[number // 3 % len(pictures)]
        preview = self.shop.upload(f"/versions/{code}/previews", "preview.png", picture)
        if file is None or preview is None or not (file.is_good and preview.is_good):
            return
        done = self.shop.create(f"/versions/{code}/submit", {})
        if done is not None and done.is_good:
            kept = (code, str(file.json()["code"]), str(preview.json()["code"]))
            with self._lock:
                self.ledger.uploads[title] = kept

    # --- Reporters --------------------------------------------------------------------------

    def _report(self, number: int) -> None:
        """Three in five through the API, one as a visitor, one with an account."""
        text = f"Report {number:05}: this shows a red star."
        if number % 5 == 3:
            token = self._report_as_visitor(number, text)
        elif number % 5 == 4:
            token = self._report_with_account(text)
        else:
            target = self._targets[number % len(self._targets)]
            given = {"version": target, "text": text, "on_behalf_of": f"reporter-{number}"}
            filed = self.shop.create("/reports", given)
            token = str(filed.json()["code"]) if filed is not None and filed.is_good else ""
        if token:
            with self._lock:
                self.ledger.reports[text] = token

    def _report_as_visitor(self, number: int, text: str) -> str:
        # A form without a key: sent once, and after a doubtful answer not again.
        address = f"10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"
        target = self._targets[number % len(self._targets)]
        fields = {"text": text, "email": f"visitor-{number}@example.org"}
        visitor = Browser(self.post, address=address)
        return _token(visitor.submit(f"/models/{target}/report/", fields))

    def _report_with_account(self, text: str) -> str:
        with self._lock:
            pair = next(self._pairs, None)
        if pair is None:
            return ""
        target, session = pair
        answers = Browser(self.post, session).submit_thrice(
            f"/models/{target}/report/", {"text": text}
        )
        tokens = {token for answer in answers if (token := _token(answer))}
        if len(tokens) > 1:
            self.ledger.differing.append(f"{text}: {tokens}")
        return min(tokens, default="")

    # --- Moderators -------------------------------------------------------------------------

    def _decide(self, number: int) -> None:
        with self._lock:
            if not self._free:
                return
            moderator = self._free.pop(0)
        try:
            self._decide_as(moderator, number)
        finally:
            with self._lock:
                self._free.append(moderator)

    def _decide_as(self, moderator: Browser, number: int) -> None:
        taken = [
            answer.headers.get("location", "")
            for answer in moderator.submit_thrice("/console/next/", {})
            if answer.is_good
        ]
        cases = {place for place in taken if "/cases/" in place}
        if len(cases) > 1:
            # Each press of one moderator leads to the one case that they hold.
            self.ledger.differing.append(f"one moderator was given {sorted(cases)}")
        if not cases:
            return
        case = min(cases)
        page = moderator.get(case)
        seen = _SEEN.search(page.body)
        if page.status != 200 or seen is None:
            return
        action = "remove" if number % REMOVES_EACH == 0 else "approve"
        facts = f"Decision {number:05}: looked at."
        fields = {"action": action, "facts": facts, "reports_seen": seen[1].decode()}
        if action == "remove":
            fields["rules"] = "red-star"
        answers = moderator.submit_thrice(f"{case}decide/", fields)
        if any(answer.is_good for answer in answers):
            with self._lock:
                self.ledger.decisions[facts] = action


def _token(answer: Answer) -> str:
    """Return the private token of the page that a report led to."""
    found = re.fullmatch(r"/reports/([^/]+)/", answer.headers.get("location", ""))
    return found[1] if found and answer.is_good else ""


def _pictures(things: Sequence[tuple[str, str]], number: int = 8) -> Iterator[bytes]:
    for seed in range(number):
        scene = compose(
            list(things), np.random.default_rng(seed), background="white", pattern="plain"
        )
        stream = io.BytesIO()
        draw(scene, 256).save(stream, "PNG")
        yield stream.getvalue()
