"""What allauth has no view for, or another: signing up, one's own account, the app's QR code."""

from allauth.account.forms import ChangePasswordForm
from allauth.account.utils import complete_signup, setup_user_email
from allauth.account.views import PasswordChangeView
from allauth.mfa.adapter import get_adapter
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from moderation.accounts import account_sign_up
from moderation.authentication.addresses import waiting_addresses_give_way
from moderation.authentication.known_browsers import browser_remember
from moderation.authz import Hidden
from moderation.errors import Refusal
from moderation.public.reporting import client_address
from moderation.throttle import require_token


@require_http_methods(["GET", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    """Create an account, send a letter that asks to confirm its address, and log in."""
    if request.method != "POST":
        return render(request, "account/sign_up.html")
    try:
        require_token(limit="sign_up.address", key=client_address(request))
        account = account_sign_up(
            username=request.POST.get("username", ""),
            email=request.POST.get("email", ""),
            password=request.POST.get("password", ""),
        )
    except Refusal as refusal:
        return render(
            request,
            "account/sign_up.html",
            {"refusal": refusal, "given": request.POST},
            status=refusal.status,
        )
    waiting_addresses_give_way(account=account)
    setup_user_email(request, account, [])
    response: HttpResponse = complete_signup(request, account, None, reverse("creator:models"))
    return response


class PasswordChange(PasswordChangeView):
    """Changing one's password, after which this browser is the only one that is known."""

    def form_valid(self, form: ChangePasswordForm) -> HttpResponse:
        """Change it."""
        response: HttpResponse = super().form_valid(form)
        browser_remember(self.request, response, form.user)
        return response


@require_GET
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Show what one can change about one's own account."""
    return render(request, "account/home.html")


@require_GET
@never_cache
@login_required
def app_code(request: HttpRequest) -> HttpResponse:
    """Draw the QR code of the secret that is being set up.

    A picture of its own, because the Content-Security-Policy lets no page carry one in itself.
    """
    secret = request.session.get(SECRET_SESSION_KEY)
    if not secret:
        raise Hidden
    adapter = get_adapter()
    drawing = adapter.build_totp_svg(adapter.build_totp_url(request.user, secret))
    return HttpResponse(drawing, content_type="image/svg+xml")
