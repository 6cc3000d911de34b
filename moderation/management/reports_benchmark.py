"""Measures a flood of reports against one model: a real server, a database of its own.

Used by ``manage.py bench reports``. PostgreSQL only. The web server runs as in production, the
sweeper runs beside it, and the requests come when they are due and not when the server has time,
so that waiting in line counts.
"""

import http.client
import multiprocessing
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import psutil
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.management.base import CommandError
from django.db import connection, connections
from django.utils import timezone

from moderation.management.own_database import (
    database_of_its_own,
    database_url,
    require_postgresql,
)
from moderation.models import Account, Case, ModelVersion, Notice, Report, UploadedModel
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.states import Visibility
from moderation.tasks import sweep

SERVERS = 2  # processes of the web server, one a core
SENDERS = 64
# Of every eleven requests one reads the page of the model, as a bystander would.
READS_EACH = 10


def measure(*, reports: int, accounts: int, seconds: float) -> dict[str, Any]:
    """Send so many reports from so many accounts in so many seconds, and return the figures.

    Raises CommandError on another database than PostgreSQL.
    """
    require_postgresql()
    load = os.getloadavg()[0]
    with database_of_its_own("bench_reports"), TemporaryDirectory() as folder:
        version, cookies = _fill(accounts)
        with _server(folder) as (port, process), _sweeper():
            _warm_up(port, version.code)
            before = _processor_seconds(process)
            taken, answers = _flood(port, version.code, cookies, reports, seconds)
            used = _processor_seconds(process) - before
        return {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "load_average": load,
            "server_processes": SERVERS,
            "reports": reports,
            "accounts": accounts,
            "seconds": seconds,
            **{f"answered_{status}": count for status, count in sorted(answers.items())},
            # Holds on a busy machine, too: what the web server itself computed for a request.
            "server_cpu_ms_each": round(1000 * used / (reports + len(taken["page"])), 1),
            **_figures("report_ms", taken["report"]),
            **_figures("page_ms", taken["page"]),
            **_found(version),
        }


def _processor_seconds(process: subprocess.Popen[bytes]) -> float:
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    return sum(each.cpu_times().user + each.cpu_times().system for each in family)


def _figures(name: str, taken: list[float]) -> dict[str, float]:
    steps = statistics.quantiles(taken, n=100)
    return {
        f"{name}_p50": round(1000 * steps[49], 1),
        f"{name}_p95": round(1000 * steps[94], 1),
        f"{name}_p99": round(1000 * steps[98], 1),
        f"{name}_max": round(1000 * max(taken), 1),
    }


def _found(version: ModelVersion) -> dict[str, Any]:
    sweep()
    version.refresh_from_db()
    case = Case.objects.filter(version=version).first()
    return {
        "stored": Report.objects.count(),
        "cases": Case.objects.count(),
        "receipts": Notice.objects.filter(kind="report_received").count(),
        "visibility": version.visibility,
        "hidden": version.hidden_from is not None,
        "reporters_weighed": case.reasons["reporters"] if case else 0,
    }


def _fill(accounts: int) -> tuple[ModelVersion, list[str]]:
    """Publish one model, and log everybody in; return it and the cookies."""
    policy_import(content=policy_read(POLICY_DIR / "demo.yaml"), activate=True, actor=None)
    creator = Account.objects.create(username="creator", email="creator@example.org")
    model = UploadedModel.objects.create(creator=creator, title="Reported by everybody")
    now = timezone.now() - timedelta(days=1)
    version = ModelVersion.objects.create(
        uploaded_model=model,
        visibility=Visibility.PUBLISHED,
        submitted_at=now,
        triaged_at=now,
        published_at=now,
    )
    people = Account.objects.bulk_create(
        Account(username=f"p{number}", email=f"p{number}@example.org") for number in range(accounts)
    )
    return version, [_cookie(person) for person in people]


def _cookie(person: Account) -> str:
    session = SessionStore()
    session[SESSION_KEY] = str(person.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = person.get_session_auth_hash()
    session.create()
    return str(session.session_key)


@contextmanager
def _server(folder: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run the web server as in production, on a free port, until the block ends."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "WEIGHHOUSE_DATA": folder,
        "SECRET_KEY": settings.SECRET_KEY,
        "TRUSTED_PROXIES": "1",
        "LOG_LEVEL": "ERROR",
    }
    environment.pop("REDIS_URL", None)
    collect = [sys.executable, "manage.py", "collectstatic", "--noinput", "-v0"]
    run = {"cwd": settings.BASE_DIR, "env": environment}
    subprocess.run(collect, check=True, capture_output=True, **run)  # type: ignore[call-overload]
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(SERVERS), "--blocking-threads", "4"]
    command += ["--no-ws", "--log-level", "error", "config.wsgi:application"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **run)  # type: ignore[call-overload]
    try:
        _wait_for(port)
        yield port, process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            if _ask(port, "GET", "/healthz", "", "")[0] == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise CommandError("The web server did not start.")


def _warm_up(port: int, code: str) -> None:
    """Let every process read its templates: a flood does not wait for a start."""
    with ThreadPoolExecutor(8) as visitors:
        for path in (f"/models/{code}/", f"/models/{code}/report/"):
            list(visitors.map(lambda _, path=path: _ask(port, "GET", path, "", ""), range(40)))


@contextmanager
def _sweeper() -> Iterator[None]:
    """Sweep as often as the clock does in production, until the block ends.

    In a process of its own, as there: in this one it would make those who measure wait.
    """
    connections.close_all()
    database = str(connection.settings_dict["NAME"])
    process = multiprocessing.get_context("fork").Process(
        target=_sweep_on, args=(database,), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _sweep_on(database: str) -> None:
    connection.settings_dict["NAME"] = database
    while True:
        sweep()
        time.sleep(settings.SWEEP_SECONDS)


def _flood(
    port: int, code: str, cookies: list[str], reports: int, seconds: float
) -> tuple[dict[str, list[float]], Counter[int]]:
    """Send every request at its moment; return what each took from that moment on, in seconds."""
    taken: dict[str, list[float]] = {"report": [], "page": []}
    answers: Counter[int] = Counter()
    lock = threading.Lock()
    begin = time.perf_counter() + 1
    form = urlencode(
        {"text": "I do not want this here.", "track": "rule", "rule": "", "preview": ""}
    )

    def send(number: int) -> None:
        due = begin + number * seconds / reports
        time.sleep(max(0.0, due - time.perf_counter()))
        person = number % len(cookies)
        status, _ = _ask(port, "POST", f"/models/{code}/report/", cookies[person], form, person)
        ended = time.perf_counter()
        with lock:
            answers[status] += 1
            taken["report"].append(ended - due)
        if number % READS_EACH == 0:
            started = time.perf_counter()
            _ask(port, "GET", f"/models/{code}/", "", "")
            with lock:
                taken["page"].append(time.perf_counter() - started)

    with ThreadPoolExecutor(SENDERS) as senders:
        list(senders.map(send, range(reports)))
    return taken, answers


def _ask(
    port: int, method: str, path: str, session: str, form: str, person: int = 0
) -> tuple[int, bytes]:
    secret = secrets.token_hex(16)
    headers = {"X-Forwarded-For": f"10.{person >> 16}.{person >> 8 & 255}.{person & 255}"}
    if session:
        headers["Cookie"] = f"sessionid={session}; csrftoken={secret}"
    if form:
        form += f"&csrfmiddlewaretoken={secret}"
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as link:
        link.request(method, path, body=form or None, headers=headers)
        response = link.getresponse()
        return response.status, response.read()
