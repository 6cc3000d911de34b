"""Addresses of the console."""

from django.urls import path

from moderation.console import views

app_name = "console"
urlpatterns = [
    path("", views.queue, name="queue"),
    path("next/", views.claim_next, name="next"),
    path("decisions/<str:code>/bank/", views.bank, name="bank"),
    path("cases/<str:code>/", views.case, name="case"),
    path("cases/<str:code>/claim/", views.claim, name="claim"),
    path("cases/<str:code>/renew/", views.renew, name="renew"),
    path("cases/<str:code>/release/", views.release, name="release"),
    path("cases/<str:code>/decide/", views.decide, name="decide"),
    path("cases/<str:code>/answer/", views.answer, name="answer"),
]
