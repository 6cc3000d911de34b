"""The people: creators upload, reporters report, moderators decide, each at a steady rate.

Open-loop: each begins at its moment, however many are under way, as strangers do. Whatever was
acknowledged is written into a ``Ledger``, to be looked for afterwards.
"""

import io
import itertools
import queue
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from tests.factories import safetensors_bytes
from tests.faults.asking import Answer, Browser, Marketplace, Post
from triage.demo_encoder.scenes import compose, draw

KINDS = ("uploads", "reports", "decisions")
# Whatever begins later than this after its moment was not offered at the rate that was asked for.
ON_TIME_SECONDS = 1.0
CREATORS = 20
# Every third upload shows what the demo's policy holds, every fourth comes in four POSTs.
CLEAN, HELD = (("green", "circle"), ("blue", "square")), (("red", "star"), ("red", "star"))
STEP_BY_STEP_EACH = 4
REMOVES_EACH = 3
READ_AT_MOST = 3
PAGE_EVERY_SECONDS = 2.0
# Far more than are ever under way: a thread for each.
MOST_AT_ONCE = 4000
_SEEN = re.compile(rb'name="reports_seen" value="(\d+)"')


class Outcome(StrEnum):
    """What became of one that was sent."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    NO_CASE = "no_case"
    GIVEN_UP = "given_up"


@dataclass(frozen=True)
class Course:
    """How one went: when it was due, really begun and answered, by the clock of the load."""

    kind: str
    number: int
    due: float
    begun: float
    ended: float
    outcome: Outcome


@dataclass
class Ledger:
    """What was acknowledged to whom, by the words that it was sent with."""

    # title: (version, weights, preview) of a submitted version
    uploads: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    # text: the code (API) or the private token (form) of a report
    reports: dict[str, str] = field(default_factory=dict)
    # facts: the action of a decision
    decisions: dict[str, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    courses: list[Course] = field(default_factory=list)
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
        seconds: float,
        patience_seconds: float,
    ) -> None:
        """``targets`` are codes of published versions, the people are sessions.

        Something begins for ``seconds``, however long it takes to break everything meanwhile;
        what was begun is sent again for ``patience_seconds`` more.
        """
        self.post = post
        self.ledger = Ledger()
        self.rates = rates
        self.seconds = seconds
        self.shop = Marketplace(post, key)
        post.give_up = self._is_long_over
        self._patience = patience_seconds
        self._targets = list(targets)
        self._pairs = itertools.product(targets, reporters)
        self._moderators = [Browser(post, session) for session in moderators]
        self._free: queue.SimpleQueue[Browser] = queue.SimpleQueue()
        for moderator in self._moderators:
            self._free.put(moderator)
        self._lock = threading.Lock()
        self._begun: list[Future[None]] = []
        self._interrupted = False
        self._stop = threading.Event()
        self._pictures = [list(_pictures(things)) for things in (CLEAN, CLEAN, HELD)]
        self._people = ThreadPoolExecutor(MOST_AT_ONCE, "people")
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
        """Wait for the answers to what is under way."""
        self._stop.set()
        if kind is not None:
            # Nobody waits for anything any more.
            self._interrupted = True
            self._people.shutdown(wait=False, cancel_futures=True)
            return
        for thread in self._threads:
            thread.join()
        self._people.shutdown()
        self.answered_seconds = max(0.0, time.monotonic() - self.began - self.seconds)
        self.post.close()
        for one in self._begun:
            # A fault of the load itself has to be seen.
            one.result()
        self.ledger.differing += self.shop.differing

    def figures(self, kind: str) -> dict[str, Any]:
        """Return how many were asked for, begun on time and answered how, and after how long."""
        courses = [course for course in self.ledger.courses if course.kind == kind]
        outcomes = Counter(course.outcome for course in courses)
        answered = [course for course in courses if course.outcome == Outcome.ACKNOWLEDGED]
        in_time = sum(course.ended <= self.seconds for course in answered)
        waits = sorted(course.ended - course.due for course in answered)
        return {
            "asked": round(self.rates[kind] * self.seconds),
            "sent": len(courses) - outcomes[Outcome.NO_CASE],
            "sent_on_time": sum(
                course.begun - course.due <= ON_TIME_SECONDS
                for course in courses
                if course.outcome != Outcome.NO_CASE
            ),
            "acknowledged_during_the_load": in_time,
            "acknowledged_a_second_during_the_load": round(in_time / self.seconds, 2),
            **{outcome.value: outcomes[outcome] for outcome in Outcome},
            "seconds": {
                name: round(waits[min(len(waits) - 1, int(share * len(waits)))], 2)
                for name, share in (("median", 0.5), ("p95", 0.95), ("most", 1.0))
                if waits
            },
        }

    def _is_long_over(self) -> bool:
        """Return whether a sender should give up."""
        over = time.monotonic() - self.began > self.seconds + self._patience
        return self._interrupted or over

    def _keep_sending(self, kind: str, do: Callable[[int], tuple[float, Outcome]]) -> None:
        """Begin one at each moment that the rate asks for."""

        def one(number: int, due: float) -> None:
            begun, outcome = do(number)
            ended = time.monotonic() - self.began
            course = Course(kind, number, due, begun - self.began, ended, outcome)
            with self._lock:
                self.ledger.courses.append(course)

        for number in range(round(self.seconds * self.rates[kind])):
            due = number / self.rates[kind]
            if self._stop.wait(max(0.0, self.began + due - time.monotonic())):
                return
            with self._lock:
                self.ledger.sent[kind] += 1
                self._begun.append(self._people.submit(one, number, due))

    def _look_around(self) -> None:
        """Open pages all the while."""
        visitor, moderator = Browser(self.post), self._moderators[0]
        pages: Iterator[tuple[Browser, str]] = itertools.cycle(
            [(visitor, "/"), (moderator, "/console/"), (visitor, "/healthz"), (visitor, "/policy/")]
        )
        while not self._stop.wait(PAGE_EVERY_SECONDS):
            browser, page = next(pages)
            browser.get(page)

    # --- Creators ---------------------------------------------------------------------------

    def _upload(self, number: int) -> tuple[float, Outcome]:
        begun = time.monotonic()
        title = f"Upload {number:05}"
        texts = {"title": title, "on_behalf_of": f"creator-{number % CREATORS}"}
        numbers = np.random.default_rng(number)
        weights = safetensors_bytes({"lora.down": numbers.normal(size=64)})
        pictures = self._pictures[number % len(self._pictures)]
        picture = pictures[number // 3 % len(pictures)]
        step_by_step = number % STEP_BY_STEP_EACH == 0
        send = self._step_by_step if step_by_step else self._at_once
        outcome, kept = send(texts, weights, picture)
        if outcome == Outcome.ACKNOWLEDGED:
            with self._lock:
                self.ledger.uploads[title] = kept
        return begun, outcome

    def _at_once(
        self, texts: dict[str, str], weights: bytes, picture: bytes
    ) -> tuple[Outcome, tuple[str, str, str]]:
        parts = [("files", "weights.safetensors", weights), ("previews", "preview.png", picture)]
        made = self.shop.upload("/submissions", parts, texts)
        if made is None or not made.is_good:
            return _outcome(made), ("", "", "")
        said = made.json()
        kept = (said["code"], said["files"][0]["code"], said["previews"][0]["code"])
        return Outcome.ACKNOWLEDGED, kept

    def _step_by_step(
        self, texts: dict[str, str], weights: bytes, picture: bytes
    ) -> tuple[Outcome, tuple[str, str, str]]:
        codes: list[str] = []
        steps: list[Callable[[], Answer | None]] = [
            lambda: self.shop.create("/models", texts),
            lambda: self.shop.upload(
                f"/versions/{codes[0]}/files", [("file", "weights.safetensors", weights)], {}
            ),
            lambda: self.shop.upload(
                f"/versions/{codes[0]}/previews", [("file", "preview.png", picture)], {}
            ),
            lambda: self.shop.create(f"/versions/{codes[0]}/submit", {}),
        ]
        for step in steps:
            answer = step()
            if answer is None or not answer.is_good:
                return _outcome(answer), ("", "", "")
            codes.append(str(answer.json()["code"]))
        return Outcome.ACKNOWLEDGED, (codes[0], codes[1], codes[2])

    # --- Reporters --------------------------------------------------------------------------

    def _report(self, number: int) -> tuple[float, Outcome]:
        """Three in five through the API, one as a visitor, one with an account."""
        begun = time.monotonic()
        text = f"Report {number:05}: this shows a red star."
        if number % 5 == 3:
            outcome, token = self._report_as_visitor(number, text)
        elif number % 5 == 4:
            outcome, token = self._report_with_account(text)
        else:
            target = self._targets[number % len(self._targets)]
            given = {"version": target, "text": text, "on_behalf_of": f"reporter-{number}"}
            filed = self.shop.create("/reports", given)
            token = str(filed.json()["code"]) if filed is not None and filed.is_good else ""
            outcome = _outcome(filed)
        if token:
            with self._lock:
                self.ledger.reports[text] = token
        return begun, outcome

    def _report_as_visitor(self, number: int, text: str) -> tuple[Outcome, str]:
        address = f"10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"
        target = self._targets[number % len(self._targets)]
        fields = {
            "text": text,
            "email": f"visitor-{number}@example.org",
            "form_key": secrets.token_hex(16),
        }
        return self._submit(Browser(self.post, address=address), target, fields)

    def _report_with_account(self, text: str) -> tuple[Outcome, str]:
        with self._lock:
            target, session = next(self._pairs)
        return self._submit(Browser(self.post, session), target, {"text": text})

    def _submit(self, browser: Browser, target: str, fields: dict[str, str]) -> tuple[Outcome, str]:
        text = fields["text"]
        answers = browser.submit_thrice(f"/models/{target}/report/", fields)
        tokens = {token for answer in answers if (token := _token(answer))}
        if len(tokens) > 1:
            self.ledger.differing.append(f"{text}: {tokens}")
        if not tokens:
            return Outcome.REFUSED if answers else Outcome.GIVEN_UP, ""
        return Outcome.ACKNOWLEDGED, min(tokens)

    # --- Moderators -------------------------------------------------------------------------

    def _decide(self, number: int) -> tuple[float, Outcome]:
        moderator = self._free.get()
        begun = time.monotonic()
        try:
            return begun, self._decide_as(moderator, number)
        finally:
            self._free.put(moderator)

    def _decide_as(self, moderator: Browser, number: int) -> Outcome:
        taken = moderator.submit_thrice("/console/next/", {})
        places = [answer.headers.get("location", "") for answer in taken if answer.is_good]
        cases = {place for place in places if "/cases/" in place}
        if len(cases) > 1:
            # Each press of one moderator leads to the one case that they hold.
            self.ledger.differing.append(f"one moderator was given {sorted(cases)}")
        if not cases:
            return Outcome.NO_CASE if places else _outcome(taken[0] if taken else None)
        facts = f"Decision {number:05}: looked at."
        # Where a report came in meanwhile the page is read once more, as a person would.
        outcome = Outcome.REFUSED
        for _ in range(READ_AT_MOST):
            outcome = self._decide_case(moderator, min(cases), number, facts)
            if outcome != Outcome.REFUSED:
                break
        return outcome

    def _decide_case(self, moderator: Browser, case: str, number: int, facts: str) -> Outcome:
        page = moderator.get_until_told(case)
        if page is None or not page.is_good:
            return _outcome(page)
        seen = _SEEN.search(page.body)
        if seen is None:
            return Outcome.REFUSED
        # What is reported all the while stays, or there would be nothing left to report.
        is_target = b"Target " in page.body
        action = "remove" if number % REMOVES_EACH == 0 and not is_target else "approve"
        fields = {"action": action, "facts": facts, "reports_seen": seen[1].decode()}
        if action == "remove":
            fields["rules"] = "red-star"
        answers = moderator.submit_thrice(f"{case}decide/", fields)
        if not any(answer.is_good for answer in answers):
            return Outcome.REFUSED if answers else Outcome.GIVEN_UP
        with self._lock:
            self.ledger.decisions[facts] = action
        return Outcome.ACKNOWLEDGED


def _outcome(answer: Answer | None) -> Outcome:
    if answer is None:
        return Outcome.GIVEN_UP
    return Outcome.ACKNOWLEDGED if answer.is_good else Outcome.REFUSED


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
