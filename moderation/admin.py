"""Django's admin, for configuration: accounts and roles, people and consents, banks."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from moderation.models import Account, Bank, BankEntry, Consent, Person


@admin.register(Account)
class AccountAdmin(UserAdmin):  # type: ignore[type-arg]
    """Accounts, with the role that this project adds."""

    list_display = ("username", "email", "role", "is_active")
    list_filter = ("role", "is_active")
    fieldsets = (
        (None, {"fields": ("username", "email", "password")}),
        ("What it is trusted with", {"fields": ("role", "is_active", "is_staff", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "email", "role", "password1", "password2")}),)


@admin.register(Person)
class PersonAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The people list."""

    search_fields = ("name",)


@admin.register(Consent)
class ConsentAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who consented to what, until when."""

    list_display = ("person", "creator", "until", "withdrawn_at")
    autocomplete_fields = ("person", "creator")


@admin.register(Bank)
class BankAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Banks of known material."""

    list_display = ("name", "rule")


@admin.register(BankEntry)
class BankEntryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What stands in a bank, and whose decision put it there."""

    list_display = ("bank", "kind", "value", "decision")
    list_filter = ("bank", "kind")
    readonly_fields = ("decision",)
