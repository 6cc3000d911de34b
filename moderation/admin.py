"""Django's admin: configuration to edit, and every other table to look at.

What is edited here leaves an event behind, as everything else does. What the domain writes is
shown and never changed: a state that no service moved to would have no record and no reason.
"""

from typing import Any, cast

from allauth.account.models import EmailAddress, EmailConfirmation
from allauth.mfa.models import Authenticator
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Paginator
from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html

from moderation.audit import event_record
from moderation.authz import require_admin
from moderation.models import (
    Account,
    Bank,
    BankEntry,
    Case,
    ChildSafetyRecord,
    Consent,
    ConsolePreference,
    Exposure,
    ModelVersion,
    Person,
    ReportingMeasure,
    SecondReview,
    TrustedFlagger,
    UploadedModel,
)
from moderation.queue import assignments_end
from moderation.reporters import Accuracy, accuracies
from moderation.selectors.reporting import who_reported
from moderation.states import Role

# Whoever has one of these can act for somebody else.
_SECRET = ("token", "secret", "password", "digest_of_key", "key_hash")
COUNTED = 10_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than it must: a table of events has millions of rows."""

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most ``COUNTED``."""
        return len(cast(models.QuerySet[Any], self.object_list).values_list("pk")[:COUNTED])


class RecordedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Configuration: what is added, changed or deleted here is written to the record."""

    def log_addition(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        """Record an addition, beside Django's own log."""
        _record("added", request, obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        """Record which fields were changed; never what a password was changed to."""
        _record("changed", request, obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Record each deletion, of one row or of many."""
        for obj in queryset:
            _record("deleted", request, obj)
        return super().log_deletions(request, queryset)


@transaction.atomic
def _record(verb: str, request: HttpRequest, obj: models.Model, message: Any = ()) -> None:
    data: dict[str, Any] = {"table": obj._meta.model_name, "number": obj.pk, "name": str(obj)[:200]}
    if isinstance(message, list):
        changed = [part["changed"].get("fields", []) for part in message if "changed" in part]
        data["fields"] = [name for fields in changed for name in fields]
    if isinstance(obj, Account):
        data["role"] = obj.role
        data["may_enter_admin"] = obj.is_staff
    actor = request.user if isinstance(request.user, Account) else None
    event_record(action=f"configuration.{verb}", actor=actor, data=data)


@admin.register(Account)
class AccountAdmin(RecordedAdmin, UserAdmin):  # type: ignore[type-arg]
    """Accounts, with the role that this project adds."""

    list_display = ("username", "email", "role", "is_active")
    list_filter = ("role", "is_active")
    fieldsets = (
        (None, {"fields": ("username", "email", "password")}),
        ("What it is trusted with", {"fields": ("role", "is_active", "is_staff", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "email", "role", "password1", "password2")}),)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave the accounts of creators on: whoever suspends one decides, with a reason."""
        fields = super().get_readonly_fields(request, obj)
        if obj is None or obj.role != Role.CREATOR:
            return fields
        return (*fields, "is_active")

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """Store an account, and give back what was assigned to it and is not for it any more."""
        super().save_model(request, obj, form, change)
        if change:
            assignments_end(account=obj, actor=cast(Account, request.user))


@admin.register(Person)
class PersonAdmin(RecordedAdmin):
    """The people list."""

    search_fields = ("name",)

    def get_form(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        """Let a person have no other names."""
        form = super().get_form(request, *args, **options)
        form.base_fields["aliases"].required = False
        return form

    def save_model(self, request: HttpRequest, obj: Person, form: Any, change: bool) -> None:
        """Store no other names as an empty list."""
        obj.aliases = obj.aliases or []
        super().save_model(request, obj, form, change)


@admin.register(Consent)
class ConsentAdmin(RecordedAdmin):
    """Who consented to what, until when."""

    list_display = ("person", "creator", "until", "withdrawn_at")
    autocomplete_fields = ("person", "creator")


@admin.register(Bank)
class BankAdmin(RecordedAdmin):
    """Banks of known material."""

    list_display = ("name", "rule")


@admin.register(BankEntry)
class BankEntryAdmin(RecordedAdmin):
    """What stands in a bank, and whose decision put it there."""

    list_display = ("bank", "kind", "value", "is_imported")
    list_filter = ("bank", "kind")
    readonly_fields = ("decisions",)


@admin.register(TrustedFlagger)
class TrustedFlaggerAdmin(RecordedAdmin):
    """Organisations whose notices are looked at first, with how often they were right.

    A status that has ended keeps its row: reports were filed under it.
    """

    list_display = ("organisation", "account", "expertise", "registered_at", "ended_at", "right")
    list_filter = ("ended_at",)
    search_fields = ("organisation", "account__username")
    autocomplete_fields = ("account",)
    readonly_fields = ("registered_at", "right")

    @admin.display(description="Reports borne out, of those answered")
    def right(self, obj: TrustedFlagger) -> str:
        """Return the accuracy of the account's reports of all kinds, as a fraction with n."""
        return str(accuracies([obj.account_id]).get(obj.account_id, {}).get("", Accuracy()))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: set when it ended instead."""
        return False


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A table that the domain writes: shown with a link to its case, never changed."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    ordering = ("-pk",)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Show what the row is, its short fields, and its case."""
        short = [
            field.name
            for field in self.model._meta.concrete_fields
            if not field.primary_key
            and not field.is_relation
            and not isinstance(field, models.TextField | models.JSONField | models.BinaryField)
            and not _is_secret(field.name)
        ]
        return ["__str__", *short[:6], "to_the_case"]

    def get_queryset(self, request: HttpRequest) -> Any:
        """Fetch the case along with the row, so that a list does not ask for each.

        Without what is held apart for child safety, which is shown in the place apart alone, and
        without what belongs to models of one's own: it names who reported them.
        """
        related = [name for name in ("version__uploaded_model",) if self._leads(name)]
        rows = super().get_queryset(request).annotate(case_code=_code_of_case(self.model))
        for path in [*_ways_to(ModelVersion, self.model, steps=3), *_lists_of(self.model)]:
            rows = rows.exclude(**{f"{path}isolated_at__isnull": False})
            rows = rows.exclude(**{f"{path}uploaded_model__creator": request.user})
        if self.model is ReportingMeasure:
            rows = rows.exclude(account__in=who_reported(cast(Account, request.user)))
        if self._leads("uploaded_model"):
            related.append("uploaded_model")
        return rows.select_related(*related) if related else rows

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Show every field that is no secret, and the link."""
        shown = [name for name in super().get_fields(request, obj) if not _is_secret(str(name))]
        return ["to_the_case", *(name for name in shown if name != "to_the_case")]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return the link: it is no field of the table."""
        return ["to_the_case"]

    @admin.display(description="case")
    def to_the_case(self, obj: Any) -> str:
        """Link to the case that the row belongs to, where there is one."""
        if not obj.case_code:
            return "–"
        address = reverse("console:case", args=[obj.case_code])
        return format_html('<a href="{}">{}</a>', address, obj.case_code)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: services add."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: services change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: nothing is deleted by hand."""
        return False

    def _leads(self, path: str) -> bool:
        name = path.partition("__")[0]
        return any(field.name == name and field.many_to_one for field in self.opts.get_fields())


def _code_of_case(model: type[models.Model]) -> models.expressions.Combinable:
    """Return the code of the case that a row leads to: its own, or the newest on its version."""
    codes = [models.F(f"{path}code") for path in _ways_to(Case, model, steps=2)]
    newest = Case.objects.order_by("-pk").values("code")
    if model is UploadedModel:
        found = [newest.filter(version__uploaded_model=models.OuterRef("pk"))]
    else:
        found = [
            newest.filter(version=models.OuterRef(f"{path}pk"))
            for path in _ways_to(ModelVersion, model, steps=3)
        ]
    ways = [*codes, *(models.Subquery(each[:1]) for each in found), models.Value("")]
    return Coalesce(*ways) if len(ways) > 1 else ways[0]


def _ways_to(target: type[models.Model], model: type[models.Model], *, steps: int) -> list[str]:
    """Return the shortest lookups by which a row belongs to the target, as ``decision__case__``."""
    if model is target:
        return [""]
    if (target, model) == (ModelVersion, UploadedModel):
        # The one link that points the other way.
        return ["versions__"]
    links = [field for field in model._meta.concrete_fields if isinstance(field, models.ForeignKey)]
    own = [f"{field.name}__" for field in links if field.related_model is target]
    if own or not steps:
        return own
    return [
        f"{field.name}__{rest}"
        for field in links
        if field.related_model is not model
        for rest in _ways_to(target, field.related_model, steps=steps - 1)
    ]


def _lists_of(model: type[models.Model]) -> list[str]:
    """Return the lookups of the versions that a row names a list of."""
    fields = model._meta.many_to_many
    return [f"{field.name}__" for field in fields if field.related_model is ModelVersion]


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET)


# What is held apart is shown in the place apart, and what somebody was shown, does not want to see
# or answered blind is theirs alone to read.
_ELSEWHERE = frozenset({ChildSafetyRecord, ConsolePreference, Exposure, SecondReview})
# Second factors and addresses are their owner's business; `manage.py second_factor` ends one.
# Groups carry permissions that nothing asks for: what an account may do follows from its role.
for model in (Authenticator, EmailAddress, EmailConfirmation, Group):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
for model in apps.get_app_config("moderation").get_models():
    if model not in _ELSEWHERE and not admin.site.is_registered(model):
        admin.site.register(model, ReadOnlyAdmin)


def _log_in(request: HttpRequest, extra_context: Any = None) -> HttpResponse:
    """Lead to the house's one door: the admin's own knows neither throttle nor second factor."""
    if request.user.is_authenticated:
        require_admin(request.user)
        return redirect("admin:index")
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))


def _change_password(request: HttpRequest, extra_context: Any = None) -> HttpResponse:
    """Lead to the house's own page, for the same reason."""
    return redirect("account_change_password")


admin.site.login = _log_in  # type: ignore[method-assign]
admin.site.password_change = _change_password  # type: ignore[method-assign, assignment]
