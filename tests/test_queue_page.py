"""The page of the queue: its order and the reasons for it, filters, search, pages, saved views."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from moderation.models import Account, Case, CaseText, Rule, SavedFilter, UploadedModel
from moderation.ordering import Weight, head_start, together, turn_of
from moderation.queue import case_assign, case_claim
from moderation.reports import report_file
from moderation.selectors.queue import PAGE_LENGTH
from moderation.states import Role
from moderation.tasks import sweep
from moderation.wellbeing import preference_choose
from tests import factories

pytestmark = pytest.mark.usefixtures("policy")
Browser = Callable[[Account | None], Client]
QUEUE = "/console/"


def titles(client: Client, query: str = "") -> list[str]:
    """Return the titles of the rows, from the first to the last."""
    response = client.get(f"{QUEUE}?{query}")
    assert response.status_code == 200
    return re.findall(r'<a class="name"[^>]*>([^<]*)</a>', response.content.decode())


def text(client: Client, query: str = "") -> str:
    return client.get(f"{QUEUE}?{query}").content.decode()


def harm(slug: str, value: int, hours: int = 72) -> None:
    Rule.objects.filter(slug=slug).update(harm=value, deadline_hours=hours)


# --- The order ------------------------------------------------------------------------------


def test_harm_probability_reach_and_the_clock_decide_the_order(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    harm("red-star", 5)
    harm("damaged-file", 1)
    slight = factories.held(uma, rule="damaged-file", title="Slight")
    unsure = factories.triaged(uma, [factories.finding(0.5, rule="red-star")], title="Unsure")
    factories.held(uma, rule="red-star", title="Grave")
    public = factories.published(uma, title="Public")
    report_file(version=public, text="Stars.", rule="red-star", actor=rui)
    assert titles(as_(mo)) == ["Public", "Grave", "Unsure", "Slight"]
    assert unsure.cases.get().priority == 250
    # What has waited long enough comes first, however slight.
    Case.objects.filter(pk=slight.pk).update(turn_at=timezone.now() - timedelta(days=9))
    assert titles(as_(mo))[0] == "Slight"


def test_the_order_is_explained_with_the_numbers_it_was_computed_from(
    as_: Browser, uma: Account, mo: Account
) -> None:
    harm("red-star", 5, hours=48)
    case = factories.held(uma, rule="red-star")
    title = Rule.objects.get(slug="red-star").title
    page = text(as_(mo))
    assert "Why is this first?" in page
    assert f"Harm: 5 of 5 (“{title}”)." in page
    assert "Probability: 95 %; a probe scored 0.95." in page
    assert "Reach: 1, because nobody can get it yet." in page
    assert "5 × 0.95 × 1 = 4.75" in page
    assert "54 h before its deadline" in page
    assert "Clock: 0 h of 48 h are used." in page
    case.refresh_from_db()
    assert case.due_at - case.turn_at == head_start(4.75)


def test_a_flood_of_reports_cannot_outweigh_harm() -> None:
    flood = Weight(harm=1, probability=together([0.5] * 1000), reach=2)
    assert flood.risk <= 2 < Weight(harm=5, probability=0.5, reach=1).risk


def test_who_stands_before_whom_does_not_change_while_the_clock_runs() -> None:
    now = timezone.now()
    first = turn_of(due_at=now + timedelta(hours=24), risk=4)
    second = turn_of(due_at=now + timedelta(hours=1), risk=0.5)
    assert first < second
    assert head_start(0.001) == head_start(0.25), "a small risk is put off by two days at most"


@pytest.mark.parametrize(
    ("hours", "bar"), [(10, ""), (40, "used-50"), (56, "used-75"), (68, "used-90")]
)
def test_the_clock_changes_colour_at_half_three_quarters_and_nine_tenths(
    hours: int, bar: str, as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    start = timezone.now() - timedelta(hours=hours)
    Case.objects.filter(pk=case.pk).update(clock_from=start, due_at=start + timedelta(hours=72))
    assert re.findall(r'class="clock ([^"]*)"', text(as_(mo))) == [bar]


def test_a_case_that_asks_to_be_weighed_is_weighed_by_the_sweeper(uma: Account) -> None:
    case = factories.held(uma, rule="red-star")
    Case.objects.filter(pk=case.pk).update(weighed_at=None, priority=0, reasons={})
    sweep()
    case.refresh_from_db()
    assert (case.priority > 0, case.weighed_at is not None) == (True, True)


# --- Filters --------------------------------------------------------------------------------


@pytest.fixture
def four(policy: object, uma: Account, rui: Account, mo: Account) -> dict[str, Case]:
    """Four cases that differ in what filters look at."""
    star = factories.held(uma, rule="red-star", title="Star")
    texts = factories.triaged(
        uma,
        [factories.finding(0.9, rule="yellow-ring", probe="claims")],
        title="Aquarell",
        description="Ein Aquarellstil für Landschaften, mit eigenen Zeichnungen trainiert.",
    ).cases.get()
    public = factories.published(uma, title="Reported")
    report_file(version=public, text="It shows Chloé’s face", actor=rui)
    old = factories.held(uma, title="Old")
    Case.objects.filter(pk=old.pk).update(opened_at=timezone.now() - timedelta(days=4))
    case_assign(case=old, to=mo, actor=mo)
    return {"star": star, "texts": texts, "reported": public.cases.get(), "old": old}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rule=red-star", {"Star"}),
        ("probe=claims", {"Aquarell"}),
        ("language=de", {"Aquarell"}),
        ("source=report", {"Reported"}),
        ("age=3d", {"Old"}),
        ("assigned=me", {"Old"}),
        ("assigned=nobody&source=triage", {"Star", "Aquarell"}),
        ("state=queued", {"Star", "Aquarell", "Reported", "Old"}),
        ("state=asked", set()),
        ("rule=red-star&source=report", set()),
    ],
)
@pytest.mark.usefixtures("four")
def test_each_filter_is_a_link(query: str, expected: set[str], as_: Browser, mo: Account) -> None:
    assert set(titles(as_(mo), query)) == expected


@pytest.mark.parametrize(
    "query",
    [
        "rule=no-such",
        "state=no-such",
        "source=x",
        "probe=x",
        "language=xx",
        "age=1h",
        "assigned=rui",
    ],
)
@pytest.mark.usefixtures("four")
def test_an_old_link_with_an_unknown_value_says_so_and_loses_nothing(
    query: str, as_: Browser, mo: Account
) -> None:
    page = text(as_(mo), f"{query}&q=star")
    assert "That filter is left out; the rest of the link holds." in page
    assert titles(as_(mo), f"{query}&q=star") == ["Star"]
    # Every link of the page still carries what was asked for.
    assert query in re.search(r'hx-get="([^"]*)"', page)[1]  # type: ignore[index]
    if not query.startswith("state"):
        assert query in re.search(r'id="state-queued" href="([^"]*)"', page)[1]  # type: ignore[index]


@pytest.mark.usefixtures("four")
def test_an_old_link_with_a_filter_that_there_is_not_says_so(as_: Browser, mo: Account) -> None:
    page = text(as_(mo), "colour=%3Cb%3E&q=star")
    assert "There is nothing to filter by “colour”. That filter is left out" in page
    assert titles(as_(mo), "colour=%3Cb%3E&q=star") == ["Star"]
    assert "left out" not in text(as_(mo), "q=star&after=1-1")


def test_a_filter_by_a_rule_of_an_earlier_policy_still_finds_its_cases(
    as_: Browser, uma: Account, mo: Account
) -> None:
    factories.held(uma, rule="red-star", title="Earlier")
    Rule.objects.filter(slug="red-star").update(slug="crimson-star")
    case = Case.objects.get()
    case.weighed_at = None
    case.save()
    sweep()
    rule = Rule.objects.get(slug="crimson-star")
    rule.policy.is_active = False
    rule.policy.save()
    page = text(as_(mo), "rule=crimson-star")
    assert "left out" not in page
    assert titles(as_(mo), "rule=crimson-star") == ["Earlier"]


@pytest.mark.parametrize(
    "odd", ["after=", "after=x-1", "after=-1", "before=99999999999999999-1", "after=1-" + "9" * 40]
)
def test_a_place_that_is_none_shows_the_first_page(
    odd: str, as_: Browser, uma: Account, mo: Account
) -> None:
    factories.held(uma, title="Here")
    assert titles(as_(mo), odd) == ["Here"]


def test_script_in_every_filter_stays_text(as_: Browser, mo: Account) -> None:
    attack = quote("<script>alert(1)</script>")
    names = ("q", "state", "rule", "source", "probe", "track", "language", "age", "assigned")
    page = text(as_(mo), "&".join(f"{name}={attack}" for name in names))
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


# --- Search ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("STAR", {"Star"}),
        ("quarell", {"Aquarell"}),
        ("chloé", {"Reported"}),
        ("CHLOÉ’S FACE", {"Reported"}),
        ("uma star", {"Star"}),
        ("star aquarell", set()),
        ("100%", set()),
        ("_tar", set()),
    ],
)
@pytest.mark.usefixtures("four")
def test_search_finds_parts_of_words_in_any_case_and_every_word_must_occur(
    words: str, found: set[str], as_: Browser, mo: Account
) -> None:
    assert set(titles(as_(mo), f"q={quote(words)}")) == found


def test_search_finds_hashes_and_prompts(as_: Browser, uma: Account, mo: Account) -> None:
    version = factories.submitted(uma, title="Hashed")
    version.previews.update(prompt="a lighthouse at dusk, 50mm")
    case = factories.held(uma, title="Other")
    Case.objects.filter(pk=case.pk).update(version=version, weighed_at=None)
    sweep()
    sha256 = version.files.get().sha256
    for words in (sha256, sha256[:12].upper(), "lighthouse dusk"):
        assert titles(as_(mo), f"q={words}") == ["Hashed"]
    assert "fewer than 3 letters" in text(as_(mo), "q=at")


def test_nobody_finds_their_own_model_by_what_was_reported_about_it(
    as_: Browser, mo: Account, rui: Account, ada: Account
) -> None:
    own = factories.published(mo, title="Own model")
    report_file(version=own, text="The reporter's very words", actor=rui)
    assert titles(as_(ada), "q=words") == ["Own model"]
    assert titles(as_(mo), "q=words") == titles(as_(mo)) == []
    assert "Nothing waits for a person" in text(as_(mo))


# --- Pages ----------------------------------------------------------------------------------


def test_pages_follow_each_other_without_gap_or_repetition_and_lead_back(
    as_: Browser, uma: Account, mo: Account
) -> None:
    copies(factories.held(uma, title="Model 0"), 2 * PAGE_LENGTH + 3)
    client, seen, query = as_(mo), [], "source=triage"
    pages = []
    while query:
        pages.append(query)
        seen += titles(client, query)
        match = re.search(r'id="next" href="\?([^"]*)"', text(client, query))
        query = match[1].replace("&amp;", "&") if match else ""
        assert not query or "source=triage" in query
    assert len(pages) == 3
    assert len(seen) == len(set(seen)) == 2 * PAGE_LENGTH + 4
    back = re.search(r'id="previous" href="\?([^"]*)"', text(client, pages[2]))
    assert back is not None
    assert titles(client, back[1].replace("&amp;", "&")) == titles(client, pages[1])


def test_the_page_takes_the_same_number_of_queries_for_a_few_rows_and_for_many(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    case = factories.held(uma, rule="red-star", title="Model 0")
    client = as_(mo)
    client.get(QUEUE)
    few = queries(client, "q=model&rule=red-star")
    copies(case, 200)
    for n in range(30):
        report_file(
            version=factories.published(uma, title=f"Reported {n}")
            if not n
            else Case.objects.get(source="report").version,
            text=f"Report {n}",
            actor=factories.account(f"r{n}"),
        )
    assert queries(client, "q=model&rule=red-star") == few
    # Session, account with keys, rules, rows, counters, own cases, saved views, held case, notices:
    assert queries(client, "") == 9
    assert few <= 12


def test_no_text_of_a_report_is_read_for_the_page(
    as_: Browser, uma: Account, rui: Account, mo: Account
) -> None:
    report_file(version=factories.published(uma), text="x" * 4000, actor=rui)
    client = as_(mo)
    with CaptureQueriesContext(connection) as captured:
        client.get(QUEUE)
    assert not [query for query in captured if "moderation_report" in query["sql"]]


def test_the_counters_reach_zero_and_stop_counting_at_a_thousand(
    as_: Browser, uma: Account, mo: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = r'class="number">([^<]*)</span> <span class="what">([^<]*)<'
    zero = {what: number for number, what in re.findall(counters, text(as_(mo)))}
    assert zero == {
        "open": "all",
        "new": "0",
        "in review": "0",
        "waiting for the creator": "0",
        "escalated": "0",
        "for a second person": "0",
        "appeals": "0",
    }
    copies(factories.held(uma), 1001)
    assert ("1,000+", "new") in re.findall(counters, text(as_(mo)))


def queries(client: Client, query: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(f"{QUEUE}?{query}").status_code == 200
    return len(captured)


def copies(case: Case, count: int) -> None:
    """Add cases like this one, each on a model of its own."""
    version = case.version
    page = version.uploaded_model
    pages = type(page).objects.bulk_create(
        type(page)(creator=page.creator, title=f"Model {n + 1}") for n in range(count)
    )
    versions = type(version).objects.bulk_create(
        type(version)(
            uploaded_model=each, visibility=version.visibility, submitted_at=version.submitted_at
        )
        for each in pages
    )
    case.refresh_from_db()
    cases = Case.objects.bulk_create(
        Case(
            version=each,
            source=case.source,
            priority=case.priority,
            reasons=case.reasons,
            weighed_at=case.weighed_at,
            due_at=case.due_at,
            # Many at the very same moment: then the number decides.
            turn_at=case.turn_at + timedelta(seconds=n // 20),
        )
        for n, each in enumerate(versions)
    )
    CaseText.objects.bulk_create(CaseText(case=each, text="model") for each in cases)
    facets = list(case.facets.all())
    type(facets[0]).objects.bulk_create(
        type(facet)(case=each, kind=facet.kind, value=facet.value)
        for each in cases
        for facet in facets
    )


# --- Saved views ----------------------------------------------------------------------------


def test_a_view_is_kept_shown_to_its_owner_alone_and_forgotten(
    as_: Browser, mo: Account, ada: Account
) -> None:
    client = as_(mo)
    address = reverse("console:save-filter")
    answer = client.post(
        address, {"name": "Stars", "query": "rule=red-star&state=queued&after=1-1&evil=%3Cb%3E"}
    )
    saved = SavedFilter.objects.get()
    assert saved.query == "state=queued&rule=red-star"
    assert answer.url == f"{QUEUE}?{saved.query}"
    assert ">Stars</a>" in text(client)
    assert ">Stars</a>" not in text(as_(ada))
    as_(ada).post(reverse("console:forget-filter", args=[saved.pk]))
    assert SavedFilter.objects.exists()
    client.post(reverse("console:forget-filter", args=[saved.pk]))
    assert not SavedFilter.objects.exists()


def test_a_view_needs_a_name_of_its_own_and_something_to_keep(as_: Browser, mo: Account) -> None:
    client, address = as_(mo), reverse("console:save-filter")
    for name, query, status, words in (
        (" ", "state=queued", 422, "Give the view a name."),
        ("All", "", 422, "this is the whole queue"),
        ("Stars", "state=queued", 302, ""),
        ("Stars", "state=asked", 409, "You have a view “Stars” already."),
        ("Long", f"q={quote('星' * 200)}", 422, "This search is too long to be kept"),
    ):
        answer = client.post(address, {"name": name, "query": query})
        page = answer.content.decode()
        assert (answer.status_code, words in page) == (status, True)
        if status != 302 and query:
            # The name that was typed, and the view that it was for.
            assert f'value="{name}"' in page
            assert f'hx-get="{QUEUE}?{query}"' in page
    assert SavedFilter.objects.get().query == "state=queued"


@pytest.mark.parametrize("role", [Role.CREATOR])
def test_only_the_team_keeps_views(role: Role, as_: Browser) -> None:
    client = as_(factories.account("other", role=role))
    answer = client.post(reverse("console:save-filter"), {"name": "x", "query": "state=queued"})
    assert answer.status_code == 403
    assert not SavedFilter.objects.exists()


def test_an_appeal_has_a_clock_of_its_own(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    from moderation.appeals import appeal_file

    decision = factories.decided(uma, mo, rule="red-star")
    Case.objects.update(clock_from=timezone.now() - timedelta(days=60))
    appeal_file(decision=decision, text="It is orange.", actor=uma)
    page = text(as_(ada), "state=appealed")
    assert "0 % of the time is used" in page
    assert "Clock: 0 h of 72 h are used." in page
    case_claim(case=Case.objects.get(), actor=ada)
    assert titles(as_(ada), "state=in_review") == ["Ink wash"]


def test_what_somebody_opted_out_of_is_listed_without_its_picture(
    as_: Browser, uma: Account, mo: Account, ada: Account
) -> None:
    case = factories.held(uma, rule="red-star")
    preference_choose(account=mo, shows_sharp=False, shows_colour=False, opted_out=["red-star"])
    preview = case.version.previews.get().code
    mine, theirs = text(as_(mo)), text(as_(ada))
    assert "You opted out of this; its picture is not shown." in mine
    assert preview not in mine and preview in theirs
    assert "opted out" not in theirs


def test_a_model_without_a_title_has_something_to_press(
    as_: Browser, uma: Account, mo: Account
) -> None:
    case = factories.held(uma)
    UploadedModel.objects.update(title="")
    page = text(as_(mo))
    assert f'href="/console/cases/{case.code}/" data-open>Without a title</a>' in page


def test_what_was_decided_can_be_undone_from_the_queue(
    as_: Browser, uma: Account, mo: Account, settings: Any
) -> None:
    settings.UNDO_SECONDS = 10
    case = case_claim(case=factories.held(uma, rule="red-star"), actor=mo)
    client = as_(mo)
    given = {"action": "remove", "rules": ["red-star"], "facts": "Seen.", "then": "queue"}
    client.post(f"/console/cases/{case.code}/decide/", given)
    page = text(client)
    address = re.search(r'action="(/console/decisions/[^/]+/undo/)"', page)
    assert address is not None and "Nobody has been told yet" in page
    # Another person is offered nothing.
    assert "/undo/" not in text(as_(factories.account("max", role=Role.MODERATOR)))
    client.post(address[1])
    case.refresh_from_db()
    assert (case.state, case.claimed_by) == ("claimed", mo)
    assert "/undo/" not in text(client)


def test_what_is_over_has_no_clock_and_no_place_in_an_order(
    as_: Browser, uma: Account, mo: Account
) -> None:
    factories.decided(uma, mo)
    page = text(as_(mo), "state=decided")
    assert "of the time is used" not in page
    assert "the clock stands still" not in page
    assert "Why" not in page.split("data-row")[1]


def test_two_cases_in_hand_are_called_two(as_: Browser, uma: Account, mo: Account) -> None:
    for number in range(2):
        case_claim(case=factories.held(uma, title=f"Number {number}"), actor=mo)
    assert re.search(r"You hold <a[^>]*>2 cases</a>", text(as_(mo)))
