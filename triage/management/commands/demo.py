"""Load the demo: people, a policy, twelve uploads, reports, a decision and an appeal."""

from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management.base import BaseCommand
from tqdm import tqdm

from moderation.appeals import appeal_file
from moderation.decisions import decision_make
from moderation.enforcement import decision_enforce
from moderation.intake import (
    model_create,
    version_add_file,
    version_add_preview,
    version_submit,
)
from moderation.models import Account, Case, Decision, ModelVersion
from moderation.policy import POLICY_DIR, policy_import, policy_read
from moderation.queue import case_claim
from moderation.reports import report_file
from moderation.states import Action, Role, Visibility
from triage.demo_uploads import UPLOADS, DemoUpload, preview_of, weights_of
from triage.tasks import files, previews

PASSWORD = "weighhouse"  # noqa: S105 - printed in the terminal; the demo has no secrets
PEOPLE = (
    ("uma", Role.CREATOR, "creates models"),
    ("kai", Role.CREATOR, "creates models"),
    ("lin", Role.CREATOR, "creates models and has appealed a decision"),
    ("rui", Role.CREATOR, "reports what is wrong"),
    ("mo", Role.MODERATOR, "moderates, and made the decision that is appealed"),
    ("ada", Role.SENIOR_MODERATOR, "moderates, and may answer that appeal"),
    ("pia", Role.POLICY_LEAD, "writes the policy"),
    ("adam", Role.ADMIN, "runs the house; also at /admin/"),
)
DECIDED = "Valentine stickers"
FACTS = (
    "The first preview shows one purple heart in the middle of the picture. Nothing on the page "
    "says that the model is for adults."
)
APPEAL = (
    "The heart is lilac, not purple, and these are stickers for wedding cards. Please look again."
)


class Command(BaseCommand):
    """``manage.py demo``."""

    help = (
        "Load the demo: eight people, the demo policy, twelve uploads that differ, reports, and "
        "one decided case with an open appeal. Loading it again changes nothing. For a machine "
        "of your own only: everybody's password is printed."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Load what is not there yet."""
        policy_import(
            content=policy_read(POLICY_DIR / "demo.yaml"),
            activate=not ModelVersion.objects.exists(),
            actor=None,
        )
        people = {name: _account(name, role) for name, role, _ in PEOPLE}
        missing = [upload for upload in UPLOADS if not _exists(upload)]
        for upload in tqdm(missing, desc="Loading the demo", unit=" uploads", disable=not missing):
            _load(upload, people)
        if missing:
            _decide(people)
        self.stdout.write(f"Demo: {len(missing)} uploads loaded, {len(UPLOADS)} there.")
        self.stdout.write(f"Demo logins (password “{PASSWORD}”):")
        for name, _, what in PEOPLE:
            self.stdout.write(f"  {name:5} {what}")


def _account(name: str, role: Role) -> Account:
    account = Account.objects.filter(username=name).first()
    if account is None:
        account = Account(username=name, email=f"{name}@demo.invalid", role=role)
        account.is_staff = account.is_superuser = role == Role.ADMIN
        account.set_password(PASSWORD)
        account.save()
    return account


def _exists(upload: DemoUpload) -> bool:
    """Return whether an upload has been loaded to its end."""
    done = ModelVersion.objects.filter(
        uploaded_model__title=upload.title, uploaded_model__creator__username=upload.creator
    )
    return (done.exclude(visibility=Visibility.DRAFT) if upload.submit else done).exists()


def _load(upload: DemoUpload, people: dict[str, Account]) -> None:
    creator = people[upload.creator]
    version = model_create(
        title=upload.title,
        description=upload.description,
        tags=upload.tags,
        trigger_words=upload.trigger_words,
        base_model=upload.base_model,
        licence=upload.licence,
        actor=creator,
    )
    version_add_file(version=version, upload=SimpleUploadedFile(*weights_of(upload)), actor=creator)
    for number in range(len(upload.shows)):
        version_add_preview(
            version=version, upload=SimpleUploadedFile(*preview_of(upload, number)), actor=creator
        )
    if not upload.submit:
        return
    version = version_submit(version=version, actor=creator)
    if not upload.weigh:
        return
    # Weighed here and now by the very tasks that the worker runs.
    for job in version.jobs.order_by("pk"):
        {"files": files, "previews": previews}[job.stage](job.pk)
    version.refresh_from_db()
    for who, rule, text in upload.reports:
        if version.visibility == Visibility.PUBLISHED:
            report_file(
                version=version,
                text=text,
                rule=rule,
                email="" if who else "visitor@demo.invalid",
                actor=people.get(who),
            )


def _decide(people: dict[str, Account]) -> None:
    """Let Mo decide one case and its creator appeal."""
    case = Case.objects.filter(version__uploaded_model__title=DECIDED).first()
    if case is None or Decision.objects.filter(case=case).exists():
        return
    case_claim(case=case, actor=people["mo"])
    decision = decision_make(
        case=case,
        action=Action.AGE_RESTRICT,
        rules=["purple-heart"],
        facts=FACTS,
        actor=people["mo"],
    )
    # Nobody waits for the time to undo it.
    decision_enforce(decision_id=decision.pk, early=True)
    decision.refresh_from_db()
    appeal_file(decision=decision, text=APPEAL, actor=case.version.uploaded_model.creator)
