"""What happened: asked for by cursor, or told to webhooks."""

from django.http import HttpRequest
from ninja import Router, Status
from ninja.decorators import decorate_view

from moderation import selectors
from moderation.api.auth import TokenAuth, token_of
from moderation.api.models import PROBLEMS
from moderation.api.once import once
from moderation.api.pages import Limit, cursor_at, page_of
from moderation.api.schemas import EventOut, EventPage, WebhookIn, WebhookMade, WebhookOut
from moderation.states import Scope
from moderation.webhooks import webhook_create, webhook_remove, webhook_switch_on

router = Router(tags=["events and webhooks"])
READ, WEBHOOK = TokenAuth(Scope.READ), TokenAuth(Scope.WEBHOOK)


@router.get("/events", auth=READ, response={200: EventPage, **PROBLEMS})
def events(request: HttpRequest, cursor: str = "", limit: Limit = 50) -> EventPage:
    """List what happened to your models, the oldest first; ask again with ``next``."""
    rows, _ = page_of(
        selectors.marketplace.events_of(token_of(request).account),
        cursor=cursor,
        limit=limit,
        descending=False,
        by="sequence",
    )
    following = cursor_at(rows[-1].sequence) if rows else cursor or cursor_at(0)
    return EventPage(
        items=[EventOut(**selectors.marketplace.public_event(row)) for row in rows],
        next=following,
    )


@router.get("/webhooks", auth=WEBHOOK, response={200: list[WebhookOut], **PROBLEMS})
def webhooks(request: HttpRequest) -> list[WebhookOut]:
    """List your webhooks."""
    mine = selectors.marketplace.webhooks_of(token_of(request).account)
    return [WebhookOut.from_orm(row) for row in mine]


@router.post("/webhooks", auth=WEBHOOK, response={201: WebhookMade, **PROBLEMS})
@decorate_view(once(Scope.WEBHOOK))
def create(request: HttpRequest, given: WebhookIn) -> Status[WebhookMade]:
    """Register an address; the answer holds the secret that messages are signed with."""
    made = webhook_create(account=token_of(request).account, url=given.url)
    return Status(201, WebhookMade.from_orm(made))


@router.post("/webhooks/{code}/switch-on", auth=WEBHOOK, response={200: WebhookOut, **PROBLEMS})
@decorate_view(once(Scope.WEBHOOK))
def switch_on(request: HttpRequest, code: str) -> WebhookOut:
    """Switch a webhook on again; what was given up for it is sent again."""
    account = token_of(request).account
    webhook_switch_on(webhook=selectors.marketplace.webhook_of(account, code), actor=account)
    return WebhookOut.from_orm(selectors.marketplace.webhook_of(account, code))


@router.delete("/webhooks/{code}", auth=WEBHOOK, response={204: None, **PROBLEMS})
def remove(request: HttpRequest, code: str) -> Status[None]:
    """Remove a webhook."""
    account = token_of(request).account
    webhook_remove(webhook=selectors.marketplace.webhook_of(account, code), actor=account)
    return Status(204, None)
