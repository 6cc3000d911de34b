"""The client: one method for each operation."""

import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests
from standardwebhooks.webhooks import Webhook as Verifier

from weighhouse_client.types import (
    Appeal,
    Decision,
    Event,
    Finding,
    Policy,
    Report,
    Version,
    Webhook,
    read,
)

# Answers that mean: not now. The same key makes it safe to ask again.
AGAIN = frozenset({429, 502, 503, 504})


class WeighhouseError(Exception):
    """A refusal: ``code`` is stable, ``str()`` is a sentence for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


class Client:
    """Speaks to one house with one key.

    Every POST gets an ``Idempotency-Key`` and is sent again with it, ``attempts`` times in all,
    when the line breaks, the house is busy, or was asked too much.
    """

    def __init__(self, url: str, *, key: str, attempts: int = 5, timeout: float = 60) -> None:
        self._base = url.rstrip("/") + "/api/v1"
        self._attempts = attempts
        self._timeout = timeout
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"

    def create_model(
        self, *, title: str, on_behalf_of: str = "", idempotency_key: str = "", **texts: Any
    ) -> Version:
        """Create a model with the draft of its first version."""
        body = {"title": title, "on_behalf_of": on_behalf_of, **texts}
        return read(Version, self._post("/models", json=body, key=idempotency_key))

    def submit_whole(
        self,
        *,
        title: str,
        files: Sequence[str | Path],
        previews: Sequence[str | Path],
        prompts: Sequence[str] = (),
        on_behalf_of: str = "",
        idempotency_key: str = "",
        **texts: Any,
    ) -> Version:
        """Create a model and submit its first version with all its files: at once, or not at all.

        ``prompts`` are those of the previews, in their order.
        """
        fields = {"title": title, "on_behalf_of": on_behalf_of, "prompts": list(prompts), **texts}
        paths = [("files", Path(path)) for path in files]
        paths += [("previews", Path(path)) for path in previews]
        with ExitStack() as opened:
            parts = [
                (name, (path.name, opened.enter_context(path.open("rb")))) for name, path in paths
            ]
            made = self._post("/submissions", data=fields, files=parts, key=idempotency_key)
        return read(Version, made)

    def next_version(self, code: str) -> Version:
        """Create the draft of the next version of the same model."""
        return read(Version, self._post(f"/versions/{code}/next"))

    def add_file(self, code: str, path: str | Path, *, idempotency_key: str = "") -> None:
        """Upload a file of weights into a draft."""
        self._upload(f"/versions/{code}/files", Path(path), {}, idempotency_key)

    def add_preview(
        self, code: str, path: str | Path, *, prompt: str = "", idempotency_key: str = ""
    ) -> None:
        """Upload a preview into a draft."""
        self._upload(f"/versions/{code}/previews", Path(path), {"prompt": prompt}, idempotency_key)

    def add_reference(self, code: str, *, kind: str, url: str, name: str, sha256: str) -> None:
        """Name a file that you keep; the house fetches it. ``kind`` is "file" or "preview"."""
        body = {"kind": kind, "url": url, "name": name, "sha256": sha256}
        self._post(f"/versions/{code}/references", json=body)

    def remove_reference(self, reference: str) -> None:
        """Take back a file that could not be fetched."""
        self._send("DELETE", f"/references/{reference}", {})

    def submit(self, code: str, *, idempotency_key: str = "") -> Version:
        """Submit a draft."""
        return read(Version, self._post(f"/versions/{code}/submit", key=idempotency_key))

    def version(self, code: str) -> Version:
        """Return a version and where it stands."""
        return read(Version, self._get(f"/versions/{code}"))

    def versions(self) -> Iterator[Version]:
        """Yield your versions, the newest first."""
        for item in self._pages("/versions"):
            yield read(Version, item)

    def findings(self, code: str) -> list[Finding]:
        """Return what the probes said about a version."""
        return [read(Finding, item) for item in self._get(f"/versions/{code}/findings")]

    def wait(self, code: str, *, seconds: float = 600, every: float = 2) -> Version:
        """Wait until the probes have all answered; raises TimeoutError."""
        end = time.monotonic() + seconds
        while (version := self.version(code)).triaged_at is None:
            if time.monotonic() > end:
                raise TimeoutError(f"{code} was not weighed within {seconds:.0f} s.")
            time.sleep(every)
        return version

    def decisions(self) -> Iterator[Decision]:
        """Yield the decisions on your models, the newest first."""
        for item in self._pages("/decisions"):
            yield read(Decision, item)

    def decision(self, code: str) -> Decision:
        """Return one decision with its statement of reasons."""
        return read(Decision, self._get(f"/decisions/{code}"))

    def appeal(self, decision: str, text: str) -> Appeal:
        """Appeal against a decision for the creator it is about."""
        return read(Appeal, self._post(f"/decisions/{decision}/appeals", json={"text": text}))

    def appeal_for_reporter(self, report: str, text: str) -> Appeal:
        """Appeal for the user who filed a report against "no action"."""
        return read(Appeal, self._post(f"/reports/{report}/appeals", json={"text": text}))

    def appeal_status(self, code: str) -> Appeal:
        """Return an appeal and its answer."""
        return read(Appeal, self._get(f"/appeals/{code}"))

    def object(self, version: str, text: str) -> Version:
        """Say for the creator what speaks against the clock's hiding of a version."""
        return read(Version, self._post(f"/versions/{version}/objections", json={"text": text}))

    def report(self, version: str, text: str, *, rule: str = "", on_behalf_of: str = "") -> Report:
        """Report a published version for one of your users."""
        body = {"version": version, "text": text, "rule": rule, "on_behalf_of": on_behalf_of}
        return read(Report, self._post("/reports", json=body))

    def report_status(self, code: str) -> Report:
        """Return a report that you filed and what became of it."""
        return read(Report, self._get(f"/reports/{code}"))

    def policy(self) -> Policy:
        """Return the policy in force, to name its rules in reports."""
        return read(Policy, self._get("/policy"))

    def events(self, *, cursor: str = "") -> Iterator[Event]:
        """Yield what has happened to your models so far, the oldest first."""
        while True:
            page = self._get("/events", params={"cursor": cursor} if cursor else {})
            for item in page["items"]:
                yield read(Event, item)
            if not page["items"]:
                return
            cursor = page["next"]

    def create_webhook(self, url: str) -> tuple[str, str]:
        """Register an address; return its code and the secret its messages are signed with."""
        made = self._post("/webhooks", json={"url": url})
        return made["code"], made["secret"]

    def webhooks(self) -> list[Webhook]:
        """Return your webhooks."""
        return [read(Webhook, item) for item in self._get("/webhooks")]

    def switch_on_webhook(self, code: str) -> Webhook:
        """Switch a webhook on again; what was given up for it is sent again."""
        return read(Webhook, self._post(f"/webhooks/{code}/switch-on"))

    def remove_webhook(self, code: str) -> None:
        """Remove a webhook."""
        self._send("DELETE", f"/webhooks/{code}", {})

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(path, params={"cursor": cursor} if cursor else {})
            yield from page["items"]
            cursor = page["next"]

    def _upload(self, path: str, file: Path, fields: dict[str, str], key: str) -> Any:
        with file.open("rb") as stream:
            return self._post(path, data=fields, files=[("file", (file.name, stream))], key=key)

    def _get(self, path: str, **options: Any) -> Any:
        return self._send("GET", path, {}, **options)

    def _post(self, path: str, *, key: str = "", **options: Any) -> Any:
        return self._send("POST", path, {"Idempotency-Key": key or uuid.uuid4().hex}, **options)

    def _send(self, method: str, path: str, headers: Mapping[str, str], **options: Any) -> Any:
        for attempt in range(1, self._attempts + 1):
            asked = 0.0
            for _, (_, stream) in options.get("files", ()):
                stream.seek(0)
            last = attempt == self._attempts
            try:
                answer = self._session.request(
                    method, self._base + path, headers=headers, timeout=self._timeout, **options
                )
            except (requests.ConnectionError, requests.Timeout):
                if last:
                    raise
            else:
                if answer.status_code not in AGAIN or last:
                    return _read(answer)
                asked = _seconds(answer.headers.get("Retry-After", ""))
            # No two wait equally long, or all that were sent away together come back together.
            growing = min(2**attempt * 0.25, 10)
            time.sleep(max(asked, growing) + random.uniform(0, growing))  # noqa: S311
        raise AssertionError("not reached: the last attempt returns or raises")


def _seconds(said: str) -> float:
    return float(said) if said.isdecimal() else 0.0


def _read(answer: requests.Response) -> Any:
    if answer.ok:
        return answer.json() if answer.content else None
    if "json" not in answer.headers.get("Content-Type", ""):
        raise WeighhouseError(
            answer.status_code, "unreadable", f"It answered {answer.status_code}."
        )
    said = answer.json()
    detail = said.get("detail", "") + "".join(
        f" {error.get('where')}: {error.get('says')}." for error in said.get("errors", [])
    )
    raise WeighhouseError(answer.status_code, said.get("code", ""), detail)


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> Any:
    """Return the event of a webhook message.

    Raises standardwebhooks' WebhookVerificationError if it is forged or older than five minutes.
    """
    return Verifier(secret).verify(body, dict(headers))
