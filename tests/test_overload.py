"""More at once than a web process can serve: a clean 503, but not for what watches the house."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from django.conf import settings as configured
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from config import urls
from tests.faults.asking import Answer

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]
handler400, handler500 = urls.handler400, urls.handler500


class Desk:
    """A page at which whoever is let in stays until it is closed."""

    def __init__(self) -> None:
        self.visitors = threading.Semaphore(0)
        self.closed = threading.Event()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.visitors.release()
        self.closed.wait(60)
        return HttpResponse("served")


desk = Desk()


def _desk(request: HttpRequest) -> HttpResponse:
    return desk(request)


urlpatterns = [path("desk/", _desk), path("api/v1/desk", _desk), *urls.urlpatterns]


class House:
    """One web process: everybody comes through the same middleware."""

    def __init__(self) -> None:
        self._first = Client()
        self._people = ThreadPoolExecutor(8)
        # The middleware is made by the first request.
        assert self._first.get("/healthz").status_code == 200

    def get(self, page: str) -> Any:
        somebody = Client()
        somebody.handler = self._first.handler
        return somebody.get(page)

    def send(self, page: str, times: int) -> list[Future[Any]]:
        return [self._people.submit(self.get, page) for _ in range(times)]

    def close(self) -> None:
        desk.closed.set()
        self._people.shutdown()


@pytest.fixture
def house(settings: Any) -> Iterator[House]:
    global desk
    desk = Desk()
    settings.WEB_AT_ONCE = 1
    built = House()
    yield built
    built.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderation.overload.WAIT_SECONDS", 60)


def _refused(sent: list[Future[Any]], number: int) -> list[Any]:
    """Return the first answers, which come while the desk is still open."""
    left = set(sent)
    answers: list[Any] = []
    while len(answers) < number:
        done, left = wait(left, timeout=60, return_when=FIRST_COMPLETED)
        assert done
        answers += [each.result() for each in done]
    return answers


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("page", ["/desk/", "/api/v1/desk"])
def test_one_is_served_one_waits_and_whoever_comes_then_is_told_so(house: House, page: str) -> None:
    sent = house.send(page, 5)
    answers = _refused(sent, 3)
    assert [answer.status_code for answer in answers] == [503] * 3
    for answer in answers:
        said = {name.lower(): value for name, value in answer.headers.items()}
        assert Answer(503, said, answer.content).is_not_now
        assert int(said["retry-after"]) > 0
    if page.startswith("/api/"):
        assert answers[0].json()["code"] == "overloaded"
    else:
        assert "More is asked of this house" in answers[0].content.decode()
        assert "default-src 'none'" in answers[0]["Content-Security-Policy"]
    desk.closed.set()
    assert sorted(each.result().status_code for each in sent) == [200, 200, 503, 503, 503]
    assert house.get(page).status_code == 200


@pytest.mark.usefixtures("patient")
def test_health_and_figures_are_answered_however_full_it_is(house: House, settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    _refused(house.send("/desk/", 3), 1)
    assert house.get("/healthz").status_code == 200
    assert house.get("/readyz").json()["checks"]
    assert house.get("/metrics").status_code == 404


def test_whoever_has_waited_too_long_is_told_so_and_keeps_no_place(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moderation.overload.WAIT_SECONDS", 0.01)
    served = house.send("/desk/", 1)
    assert desk.visitors.acquire(timeout=60)
    assert [house.get("/desk/").status_code for _ in range(3)] == [503] * 3
    desk.closed.set()
    assert served[0].result().status_code == 200
    assert house.get("/desk/").status_code == 200


@pytest.mark.usefixtures("patient")
def test_nothing_is_asked_of_the_database_for_whoever_is_told_so(
    house: House, django_assert_num_queries: Any
) -> None:
    _refused(house.send("/desk/", 3), 1)
    with django_assert_num_queries(0):
        assert house.get("/console/").status_code == 503


def test_the_web_image_hands_over_more_than_are_served_and_wait() -> None:
    said = (configured.BASE_DIR / "docker" / "web.Dockerfile").read_text()
    threads = re.search(r'"--blocking-threads", "(\d+)"', said)
    assert threads
    assert int(threads[1]) > 2 * configured.WEB_AT_ONCE
