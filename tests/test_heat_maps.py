"""Where in a picture the concept is, and what was decided about pictures like it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from PIL import Image

from moderation.decisions import decision_make, decision_reverse, decision_undo
from moderation.models import Account, Case, Embedding, Finding, HeatMap
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.selectors.look_alikes import look_alikes
from moderation.states import Action
from tests.conftest import require
from tests.test_embeddings import upload
from tests.test_flow import drawing
from tests.tiny_clip import TINY, checkpoint, have_torch, register
from triage import encoders
from triage.demo_encoder.scenes import compose, draw
from triage.explain import embed_windows, heat_map
from triage.scoring import embed_prompts

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("policy")]
Browser = Callable[[Account | None], Client]
STAR = [("red", "star"), ("red", "star")]


def starry(client: Client, title: str = "Star", seed: int = 7) -> tuple[Case, Finding]:
    """Upload a red star; return its case and the finding on it."""
    version = upload(client, title, drawing(*STAR, seed=seed))
    finding = version.findings.get(rule__slug="red-star", probe="previews")
    return version.cases.get(), finding


def addresses(case: Case, finding: Finding) -> tuple[str, str]:
    given = [case.code, finding.pk]
    return reverse("console:heatmap", args=given), reverse("console:heatmap-png", args=given)


def test_a_moderator_asks_and_sees_where_in_the_picture(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case, finding = starry(as_(uma))
    page, png = addresses(case, finding)
    moderator = as_(mo)
    offered = moderator.get(reverse("console:case", args=[case.code])).content.decode()
    assert "Where in the picture?" in offered
    assert moderator.get(png).status_code == 404
    assert moderator.post(page).url == page
    assert png in moderator.get(page).content.decode()
    answer = moderator.get(png)
    assert (answer["Content-Type"], answer["Cache-Control"]) == ("image/png", "no-store")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.format, max(picture.size)) == ("PNG", 256)
    assert png in moderator.get(reverse("console:case", args=[case.code])).content.decode()


def test_until_a_worker_has_drawn_it_the_page_says_so(
    as_: Browser, uma: Account, mo: Account, asleep: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery import current_app

    current_app.conf.task_always_eager = True
    case, finding = starry(as_(uma))
    current_app.conf.task_always_eager = False
    page, png = addresses(case, finding)
    moderator = as_(mo)
    moderator.post(page)
    moderator.post(page)
    shown = moderator.get(page, headers={"HX-Request": "true"})
    assert "Being drawn" in shown.content.decode()
    assert shown["Cache-Control"] == "no-store"
    assert moderator.get(png).status_code == 404
    assert HeatMap.objects.count() == 1


def test_only_the_team_sees_it_and_nobody_their_own(
    as_: Browser, uma: Account, mo: Account, rui: Account, nobody: Account
) -> None:
    case, finding = starry(as_(uma))
    page, png = addresses(case, finding)
    as_(mo).post(page)
    for account, expected in ((uma, 403), (rui, 403), (nobody, 403), (None, 302)):
        client = as_(account)
        for answer in (client.get(page), client.post(page), client.get(png)):
            assert answer.status_code == expected, account
    other, _ = starry(as_(rui), "Other", seed=9)
    assert as_(mo).get(addresses(other, finding)[0]).status_code == 404


def test_why_it_could_not_be_drawn_is_said(as_: Browser, uma: Account, mo: Account) -> None:
    case, finding = starry(as_(uma))
    assert finding.preview is not None
    Path(default_storage.path(finding.preview.weighed)).unlink()
    page, _ = addresses(case, finding)
    as_(mo).post(page)
    assert "The stored picture is gone." in as_(mo).get(page).content.decode()


def test_a_card_that_is_full_ends_the_drawing_with_a_sentence(
    as_: Browser, uma: Account, mo: Account, settings: Any, tmp_path: Path
) -> None:
    require(have_torch(), "the extra “torch”, which runs open_clip's models")
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("The card is full.")

    register(tmp_path)
    case, finding = starry(as_(uma))
    page, _ = addresses(case, finding)
    settings.ENCODER = f"open_clip:{TINY}:{checkpoint(tmp_path, TINY)}"
    hook = register_module_forward_pre_hook(full)
    try:
        as_(mo).post(page)
    finally:
        hook.remove()
    assert "The card is full." in as_(mo).get(page).content.decode()


def test_the_heat_is_where_the_star_is() -> None:
    encoder = encoders.load("demo")
    hits = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        scene = compose([("red", "star")], random, background="white", pattern="plain")
        star = draw(scene, 128)
        picture = Image.new("RGB", (256, 256), "white")
        left, top = int(random.integers(2)), int(random.integers(2))
        picture.paste(star, (128 * left, 128 * top))
        heat = heat_map(
            embed_windows(encoder, picture),
            embed_prompts(encoder, ["a red star"], ["{}"]),
            embed_prompts(encoder, ["no shapes at all", "an empty background"], ["{}"]),
            logit_scale=encoder.logit_scale,
        )
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        hits += (row >= 3, row <= 3)[top == 0] and (column >= 3, column <= 3)[left == 0]
    assert hits >= 5


def decide(case: Case, moderator: Account, action: Action) -> None:
    case_claim(case=case, actor=moderator)
    decision_make(
        case=case,
        action=action,
        rules=[] if action == Action.APPROVE else ["red-star"],
        facts="The preview shows a red star.",
        actor=moderator,
    )


def test_a_case_shows_what_was_decided_about_pictures_like_it(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    removed, _ = starry(as_(rui), "Removed star", seed=1)
    decide(removed, mo, Action.REMOVE)
    undecided, _ = starry(as_(rui), "Undecided star", seed=2)
    upload(as_(rui), "Circle", drawing(("blue", "circle")))
    case, _ = starry(as_(uma), "New star", seed=3)

    (like,) = look_alikes(case.version, mo)
    assert like.preview.version == removed.version
    assert (like.decision.action, like.like) == (Action.REMOVE, 1)
    assert 0.5 <= like.cosine <= 1.001

    address = reverse("console:look-alikes", args=[case.code])
    page = as_(mo).get(reverse("console:case", args=[case.code])).content.decode()
    # Fetched by the page, and a plain link without JavaScript.
    assert f'hx-get="{address}"' in page and f'<a href="{address}">' in page
    page = as_(mo).get(address).content.decode()
    section = page.partition("Decided before, and alike")[2].partition("</section>")[0]
    assert "Removed star" in section
    assert "Undecided star" not in section


def test_a_look_alike_shows_the_last_decision_that_stands_and_is_about_the_model(
    as_: Browser, uma: Account, rui: Account, mo: Account, ada: Account, settings: Any
) -> None:
    limited, _ = starry(as_(rui), "Limited star", seed=1)
    decide(limited, mo, Action.LIMIT)
    # What came since: a step against the account, and a removal that is undone.
    beside = {"case": limited, "facts": "The third one.", "actor": mo}
    decision_make(action=Action.LAW, rules=[], **beside)
    limited.version.refresh_from_db()
    report_file(version=limited.version, text="Still there.", actor=None)
    settings.UNDO_SECONDS = 10
    again = limited.version.cases.get(state="queued")
    decide(again, mo, Action.REMOVE)
    decision_undo(decision=again.decisions.get(), actor=mo)
    settings.UNDO_SECONDS = 0
    case, _ = starry(as_(uma), "New star", seed=3)
    (like,) = look_alikes(case.version, mo)
    assert like.decision.action == Action.LIMIT
    # Nor is what was taken back an example for anybody.
    decision_reverse(decision=like.decision, facts="It is orange.", actor=ada)
    assert look_alikes(case.version, mo) == []


def test_a_look_alike_that_is_severe_or_unwanted_shows_its_picture_to_nobody_unasked(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    removed, _ = starry(as_(rui), "Removed star", seed=1)
    decide(removed, mo, Action.REMOVE)
    case, _ = starry(as_(uma), "New star", seed=3)
    # The worst stands beside what only looks like it.
    case.version.findings.exclude(concern="none").update(concern="none")
    removed.version.findings.get(concern="hold").rule.__class__.objects.update(is_severe=True)
    client = as_(mo)
    address = reverse("console:look-alikes", args=[case.code])
    page = client.get(address).content.decode()
    assert "Removed star" in page and "<img" not in page
    assert "severe, and you have not opened its case" in page
    client.get(reverse("console:case", args=[removed.code]), {"open": ""})
    assert client.get(address).content.decode().count("<img") == 1
    client.post(reverse("console:me"), {"out": ["red-star"]})
    page = client.get(address).content.decode()
    assert "you opted out of what it is about" in page and "<img" not in page


def test_the_nearest_five_come_first_and_only_by_the_same_encoder(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    for seed in range(1, 8):
        case, _ = starry(as_(rui), f"Star {seed}", seed=seed)
        decide(case, mo, Action.REMOVE)
    case, _ = starry(as_(uma), "The same as star 4", seed=4)
    found = look_alikes(case.version, mo)
    assert len(found) == 5
    assert str(found[0].preview.version) == "Star 4 v1"
    assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)
    Embedding.objects.exclude(sha256=case.version.previews.get().sha256).update(revision="old")
    assert [str(one.preview.version) for one in look_alikes(case.version, mo)] == ["Star 4 v1"]


def test_the_page_asks_no_more_queries_for_more_look_alikes(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    case, _ = starry(as_(uma), "Mine", seed=3)
    # As the session's own query brings it along.
    mo = Account.objects.select_related("console_preference").get(pk=mo.pk)
    counts = []
    for seed in (1, 2, 5):
        other, _ = starry(as_(rui), f"Star {seed}", seed=seed)
        decide(other, mo, Action.REMOVE)
        with CaptureQueriesContext(connection) as queries:
            found = look_alikes(case.version, mo)
            assert [str(one.preview.version.uploaded_model) for one in found]
        counts.append(len(queries))
    assert counts[0] == counts[-1] <= 5
