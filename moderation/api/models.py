"""Models and versions: create, add files, submit, and see how they stand."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import File, Form, Router, Status
from ninja.decorators import decorate_view
from ninja.files import UploadedFile

from moderation import selectors
from moderation.api.auth import TokenAuth, token_of
from moderation.api.once import First, once
from moderation.api.pages import Limit, page_of
from moderation.api.problems import Problem
from moderation.api.schemas import (
    WRITTEN,
    FileOut,
    FindingOut,
    ModelIn,
    Prompt,
    ReferenceIn,
    ReferenceOut,
    VersionOut,
    VersionPage,
)
from moderation.external import external_account
from moderation.intake import (
    model_create,
    model_submitted,
    version_add_kept_file,
    version_add_kept_preview,
    version_create,
    version_submit,
)
from moderation.models import ModelFile, ModelVersion, PreviewImage
from moderation.parts import Parts, Upload, parts_kept, picture_kept, prompt_checked, weights_kept
from moderation.references import reference_add, reference_remove
from moderation.states import Scope

router = Router(tags=["models"])
READ, SUBMIT = TokenAuth(Scope.READ), TokenAuth(Scope.SUBMIT)
PROBLEMS: dict[Any, Any] = {frozenset({400, 401, 403, 404, 409, 410, 413, 422, 429, 503}): Problem}


# What is sent along is stored and looked at before the operations below are begun, each of which is
# one transaction; where one is refused, what was stored for it is deleted. What is missing
# altogether is for the operation to say.


@contextmanager
def _parts_stored(request: HttpRequest) -> Iterator[None]:
    files, previews = request.FILES.getlist("files"), request.FILES.getlist("previews")
    if not files or not previews:
        yield
        return
    prompts = request.POST.getlist("prompts")
    with parts_kept(files=files, previews=previews, prompts=prompts) as parts:
        request.stored = parts  # type: ignore[attr-defined]
        yield


def _one_stored(
    keep: Callable[[Upload], AbstractContextManager[ModelFile | PreviewImage]],
) -> First:
    @contextmanager
    def stored(request: HttpRequest, code: str) -> Iterator[None]:
        _mine(request, code)
        upload = request.FILES.get("file")
        if upload is None:
            yield
            return
        with keep(upload) as row:
            request.stored = row  # type: ignore[attr-defined]
            yield

    return stored


@router.post("/models", auth=SUBMIT, response={201: VersionOut, **PROBLEMS})
@decorate_view(once(Scope.SUBMIT))
def create(request: HttpRequest, given: ModelIn) -> Status[VersionOut]:
    """Create a model with the draft of its first version."""
    marketplace = token_of(request).account
    texts = given.dict(exclude={"on_behalf_of"})
    with external_account(marketplace=marketplace, external_id=given.on_behalf_of) as creator:
        version = model_create(**texts, actor=creator)
    return Status(201, VersionOut.of(selectors.marketplace.version_of(marketplace, version.code)))


@router.post("/submissions", auth=SUBMIT, response={201: VersionOut, **PROBLEMS})
@decorate_view(once(Scope.SUBMIT, first=_parts_stored))
def submission(
    request: HttpRequest,
    given: Form[ModelIn],
    files: File[list[UploadedFile]],
    previews: File[list[UploadedFile]],
    prompts: Form[list[Prompt]] = [],  # noqa: B006 - ninja copies it
) -> Status[VersionOut]:
    """Create a model and submit its first version with all its files: at once, or not at all."""
    marketplace = token_of(request).account
    texts = given.dict(exclude={"on_behalf_of"})
    parts: Parts = request.stored  # type: ignore[attr-defined]
    with (
        external_account(marketplace=marketplace, external_id=given.on_behalf_of) as creator,
        model_submitted(parts=parts, **texts, actor=creator) as version,
    ):
        shown = VersionOut.of(selectors.marketplace.version_of(marketplace, version.code))
    return Status(201, shown)


@router.get("/versions", auth=READ, response={200: VersionPage, **PROBLEMS})
def versions(request: HttpRequest, cursor: str = "", limit: Limit = 50) -> VersionPage:
    """List your versions, the newest first."""
    mine = selectors.marketplace.versions_of(token_of(request).account)
    rows, following = page_of(mine, cursor=cursor, limit=limit)
    return VersionPage(items=[VersionOut.of(row) for row in rows], next=following)


@router.get("/versions/{code}", auth=READ, response={200: VersionOut, **PROBLEMS})
def version(request: HttpRequest, code: str) -> VersionOut:
    """Show one version and where it stands."""
    return VersionOut.of(selectors.marketplace.version_of(token_of(request).account, code))


@router.get("/versions/{code}/findings", auth=READ, response={200: list[FindingOut], **PROBLEMS})
def findings(request: HttpRequest, code: str) -> list[FindingOut]:
    """List what the probes said about a version, the highest score first."""
    found = selectors.marketplace.version_of(token_of(request).account, code)
    return [FindingOut.of(row) for row in selectors.marketplace.findings_of(found)]


@router.post("/versions/{code}/next", auth=SUBMIT, response={201: VersionOut, **PROBLEMS})
@decorate_view(once(Scope.SUBMIT))
def next_version(request: HttpRequest, code: str) -> Status[VersionOut]:
    """Create the draft of the next version of the same model."""
    marketplace = token_of(request).account
    page = _mine(request, code).uploaded_model
    made = version_create(uploaded_model=page, actor=page.creator)
    return Status(201, VersionOut.of(selectors.marketplace.version_of(marketplace, made.code)))


@router.post("/versions/{code}/files", auth=SUBMIT, response={201: FileOut, **PROBLEMS})
@decorate_view(once(Scope.SUBMIT, first=_one_stored(weights_kept)))
def add_file(request: HttpRequest, code: str, file: File[UploadedFile]) -> Status[FileOut]:
    """Add a file of weights to a draft."""
    found = _mine(request, code)
    stored: ModelFile = request.stored  # type: ignore[attr-defined]
    creator = found.uploaded_model.creator
    added = version_add_kept_file(version=found, file=stored, actor=creator)
    return Status(201, FileOut.from_orm(added))


@router.post("/versions/{code}/previews", auth=SUBMIT, response={201: FileOut, **PROBLEMS})
@decorate_view(once(Scope.SUBMIT, first=_one_stored(picture_kept)))
def add_preview(
    request: HttpRequest,
    code: str,
    file: File[UploadedFile],
    prompt: Annotated[str, Form(max_length=2000, pattern=WRITTEN)] = "",
) -> Status[FileOut]:
    """Add a preview to a draft, with the prompt it was made from."""
    found = _mine(request, code)
    creator = found.uploaded_model.creator
    stored: PreviewImage = request.stored  # type: ignore[attr-defined]
    stored.prompt = prompt_checked(prompt)
    added = version_add_kept_preview(version=found, preview=stored, actor=creator)
    return Status(201, FileOut.from_orm(added))


@router.post("/versions/{code}/references", auth=SUBMIT, response={202: ReferenceOut, **PROBLEMS})
@decorate_view(once(Scope.SUBMIT))
def add_reference(request: HttpRequest, code: str, given: ReferenceIn) -> Status[ReferenceOut]:
    """Name a file that you keep; a worker fetches it into the draft."""
    found = _mine(request, code)
    creator = found.uploaded_model.creator
    return Status(202, ReferenceOut.of(reference_add(version=found, **given.dict(), actor=creator)))


@router.delete("/references/{code}", auth=SUBMIT, response={204: None, **PROBLEMS})
def remove_reference(request: HttpRequest, code: str) -> Status[None]:
    """Take back a file that could not be fetched, so that the draft can be submitted without it."""
    found = selectors.marketplace.reference_of(token_of(request).account, code)
    reference_remove(reference=found, actor=found.version.uploaded_model.creator)
    return Status(204, None)


@router.post("/versions/{code}/submit", auth=SUBMIT, response={200: VersionOut, **PROBLEMS})
@decorate_view(once(Scope.SUBMIT))
def submit(request: HttpRequest, code: str) -> VersionOut:
    """Submit a draft: it is quarantined and weighed."""
    found = _mine(request, code)
    version_submit(version=found, actor=found.uploaded_model.creator)
    return VersionOut.of(selectors.marketplace.version_of(token_of(request).account, code))


def _mine(request: HttpRequest, code: str) -> ModelVersion:
    """Return a version to do something with; what is to be shown of it is read afterwards."""
    return selectors.marketplace.version_of(token_of(request).account, code, with_parts=False)
