"""What the access matrix sends: the parts of addresses, and forms that are right for anybody."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from moderation.child_safety import STEPS
from tests.access_world import FACTS

# What stands in an address: each parameter, and what of a state it names; then whose it is.
_PARAMETERS = """
code=version                    model report creator:withdraw creator:version creator:next-version
code=version                    creator:hold
code=version                    creator:edit creator:add creator:submit creator:upload-begin
code=version file=file          download
signed=signed                   download-signed
code=preview                    preview
token=token                     report-status report-change report-appeal
token=token code=appeal_file    report-file
token=likeness                  likeness-page likeness-change
key=confirmation                account_confirm_email
uidb36=uidb36 key=reset         account_reset_password_from_key
pk=passkey                      mfa_edit_webauthn mfa_remove_webauthn
code=version item=item          creator:remove
code=upload                     creator:upload creator:upload-complete
code=upload number=one          creator:upload-part
code=decision                   creator:decision creator:appeal-message
code=appeal_file                creator:appeal-file console:appeal-file
code=notice                     creator:notice console:resend-letter
version=version code=inquiry    creator:answer-inquiry
code=measure                    creator:measure console:settle-measure
code=case                       console:case console:take-over console:assign console:escalate
code=case                       console:ask console:peek console:group
code=case appeal=appeal         console:message console:answer
code=case                       console:claim console:renew console:release console:decide
code=case                       console:look-alikes console:related
code=case                       console:history console:conversation
code=case finding=finding       console:heatmap console:heatmap-png
finding=finding                 console:verdict console:judge
code=decision                   console:confirm console:cancel console:undo console:reverse
code=decision                   console:bank console:known-answer console:doubt
code=record                     console:child-safety-record console:child-safety-step
code=record                     console:child-safety-sent
code=record preview=preview     console:child-safety-preview
code=record appeal=appeal       console:child-safety-appeal console:child-safety-message
code=evidence                   console:evidence
code=report                     console:unfounded
saved=saved                     console:forget-filter
code=review                     console:second-review
rule=rule concept=concept       console:concept console:place-head console:questions
table=table                     console:team-table
"""


def _read(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for line in text.strip().splitlines():
        words = line.split()
        given = dict(word.split("=") for word in words if "=" in word)
        yield from ((word, given) for word in words if "=" not in word)


PARAMETERS: Mapping[str, Mapping[str, str]] = dict(_read(_PARAMETERS))
# What a form needs so that it is refused for who sends it and for nothing else.
DECIDE = {"action": "remove", "rules": "red-star", "facts": FACTS}
FORMS: Mapping[str, dict[str, Any]] = {
    "console:decide": DECIDE,
    "console:group": {**DECIDE, "shown": "made-up"},
    "console:ask": {"text": "Whose face is it?"},
    "console:escalate": {"note": "Hard to say."},
    "console:take-over": {"holder": "mo"},
    "console:assign": {"to": "wim"},
    "console:answer": {"outcome": "upheld", "answer": "It is a star."},
    "console:message": {"message": "Which leaf?"},
    "console:cancel": {"reason": "Not sure."},
    "console:reverse": {"facts": "It was a leaf."},
    "console:bank": {"name": "stars"},
    "console:known-answer": {"reason": "Plain."},
    "console:doubt": {"reason": "It was a star."},
    "console:verdict": {"answer": "right"},
    "console:judge": {"answer": "yes"},
    "console:second-review": {"answer": "restrict", "rules": "red-star"},
    "console:settle-measure": {"words": "Enough.", "verdict": "yes", "days": "3"},
    "console:save-filter": {"name": "mine", "query": "track=illegal"},
    "console:child-safety-step": {"step": next(iter(STEPS))},
    "console:child-safety-sent": {"authority": "NCMEC", "reference": "1"},
    "console:child-safety-appeal": {"outcome": "upheld", "answer": "It is a star."},
    "console:child-safety-message": {"message": "Which doll?"},
    "creator:create": {"title": "Ink"},
    "creator:edit": {"title": "Ink"},
    "creator:decision": {"text": "It is a leaf."},
    "creator:hold": {"text": "It is nobody."},
    "creator:appeal-message": {"message": "A leaf."},
    "creator:answer-inquiry": {"answer": "Mine."},
    "creator:measure": {"text": "I had grounds."},
    "report": {"text": "A star.", "rule": "red-star"},
    "report-change": {"text": "Two stars."},
    "report-appeal": {"text": "Look again."},
    "likeness-change": {"text": "It is me, truly."},
}
BODIES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "/models": lambda given: {"title": "Ink", "on_behalf_of": "42"},
    "/versions/{code}/next": lambda given: {},
    "/versions/{code}/references": lambda given: {
        "kind": "file",
        "url": "https://files.example.org/a.safetensors",
        "name": "a.safetensors",
        "sha256": "a" * 64,
    },
    "/versions/{code}/objections": lambda given: {"text": "It is nobody."},
    "/decisions/{code}/appeals": lambda given: {"text": "It is a leaf."},
    "/reports/{code}/appeals": lambda given: {"text": "Look again."},
    "/reports": lambda given: {"version": given["version"], "text": "A star.", "on_behalf_of": "9"},
    "/webhooks": lambda given: {"url": "https://shop.example.org/more"},
}
