"""Cases that belong together, decided together."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from moderation import selectors
from moderation.bulk import cases_decide, shown_sign
from moderation.console.views.common import account_of, opened_in, private
from moderation.errors import Invalid, Refusal
from moderation.states import DECIDED_TOGETHER, Action
from moderation.wellbeing import exposures_record


@login_required
@require_http_methods(["GET", "POST"])
def group(request: HttpRequest, code: str) -> HttpResponse:
    """Show the members, then decide those that are ticked."""
    account = account_of(request)
    case = selectors.cases.case_for(account, code)
    context: dict[str, Any] = {
        "case": case,
        "rules": selectors.public.rules_in_force(),
        "actions": [(action.value, action.label) for action in DECIDED_TOGETHER],
        "given": request.POST,
        "given_rules": request.POST.getlist("rules"),
    }
    status = 200
    if request.method == "POST":
        try:
            outcomes = cases_decide(
                shown=request.POST.get("shown", ""),
                chosen=request.POST.getlist("members"),
                action=_action(request.POST.get("action", "")),
                rules=request.POST.getlist("rules"),
                facts=request.POST.get("facts", ""),
                private_note=request.POST.get("private_note", ""),
                actor=account,
            )
        except Refusal as refusal:
            context["refusal"], status = refusal, refusal.status
        else:
            failed = sum(bool(outcome.sentence) for outcome in outcomes)
            context |= {"outcomes": outcomes, "failed": failed, "decided": len(outcomes) - failed}
    if "outcomes" not in context:
        found = selectors.groups.group_of(case, account, opened=opened_in(request))
        rules = {rule.slug: rule for rule in context["rules"]}
        exposures_record(
            account=account,
            shown=[
                (row.case, [rules[slug] for slug in row.rules if slug in rules])
                for row in found.members
                if row.previews and not row.is_shown
            ],
        )
        free = [(row.case.code, len(row.reports)) for row in found.members if not row.refused]
        context |= {
            "members": found.members,
            "is_cut": found.is_cut,
            "compared": found.compared,
            "chosen": request.POST.getlist("members") if request.method == "POST" else None,
            "shown": shown_sign(members=free, account=account),
        }
    return private(render(request, "console/group.html", context, status=status))


def _action(value: str) -> Action:
    if value not in DECIDED_TOGETHER:
        raise Invalid("Choose one of the actions.", field="action")
    return Action(value)
