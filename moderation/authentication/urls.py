"""Addresses of signing up, logging in, and of one's own account.

Most views are allauth's; only those that are named here can be reached. Their names are allauth's
too, because it looks them up.
"""

from allauth.account import views as account
from allauth.mfa.base import views as second_factor
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as passkeys
from django.urls import path, re_path

from moderation.authentication import views
from moderation.authentication.second_factor import confirmed_first

urlpatterns = [
    path("sign-up/", views.sign_up, name="account_signup"),
    path("log-in/", account.login, name="account_login"),
    path("log-in/second-factor/", second_factor.authenticate, name="mfa_authenticate"),
    path("log-in/passkey/", passkeys.login_webauthn, name="mfa_login_webauthn"),
    path("log-in/closed/", account.account_inactive, name="account_inactive"),
    path("log-in/forgotten/", account.password_reset, name="account_reset_password"),
    path("log-in/forgotten/sent/", account.password_reset_done, name="account_reset_password_done"),
    path(
        "log-in/forgotten/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    re_path(
        r"^log-in/forgotten/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("log-out/", account.logout, name="account_logout"),
    path("account/", views.home, name="account_home"),
    path("account/password/", views.PasswordChange.as_view(), name="account_change_password"),
    path("account/password/first/", account.password_set, name="account_set_password"),
    path("account/e-mail/", account.email, name="account_email"),
    path("account/e-mail/<str:key>/", account.confirm_email, name="account_confirm_email"),
    path("account/confirm/", account.reauthenticate, name="account_reauthenticate"),
    path("account/confirm/code/", second_factor.reauthenticate, name="mfa_reauthenticate"),
    path(
        "account/confirm/passkey/",
        passkeys.reauthenticate_webauthn,
        name="mfa_reauthenticate_webauthn",
    ),
    path("account/second-factor/", second_factor.index, name="mfa_index"),
    path(
        "account/second-factor/app/",
        confirmed_first(totp.activate_totp),
        name="mfa_activate_totp",
    ),
    path("account/second-factor/app/code.svg", views.app_code, name="mfa_app_code"),
    path("account/second-factor/app/remove/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path(
        "account/second-factor/recovery-codes/",
        recovery_codes.view_recovery_codes,
        name="mfa_view_recovery_codes",
    ),
    path(
        "account/second-factor/recovery-codes/new/",
        recovery_codes.generate_recovery_codes,
        name="mfa_generate_recovery_codes",
    ),
    path(
        "account/second-factor/recovery-codes/file/",
        recovery_codes.download_recovery_codes,
        name="mfa_download_recovery_codes",
    ),
    path("account/second-factor/passkeys/", passkeys.list_webauthn, name="mfa_list_webauthn"),
    path(
        "account/second-factor/passkeys/add/",
        confirmed_first(passkeys.add_webauthn),
        name="mfa_add_webauthn",
    ),
    path(
        "account/second-factor/passkeys/<int:pk>/rename/",
        passkeys.edit_webauthn,
        name="mfa_edit_webauthn",
    ),
    path(
        "account/second-factor/passkeys/<int:pk>/remove/",
        passkeys.remove_webauthn,
        name="mfa_remove_webauthn",
    ),
]
