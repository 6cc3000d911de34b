"""Who is there, and how they get in."""

from allauth.mfa.models import Authenticator
from django.db.models import Exists, OuterRef, Q, QuerySet

from moderation.models import Account
from moderation.states import STAFF


def people_without_second_factor() -> QuerySet[Account]:
    """Return whoever has power over others and no second factor besides recovery codes."""
    own = Authenticator.objects.filter(user=OuterRef("pk"))
    factors = own.exclude(type=Authenticator.Type.RECOVERY_CODES)
    powerful = Q(role__in=STAFF) | Q(is_staff=True) | Q(is_superuser=True)
    people = Account.objects.filter(powerful, is_active=True)
    return people.filter(~Exists(factors)).order_by("username")
