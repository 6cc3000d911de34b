"""Addresses of the console."""

from django.urls import path

from moderation.console.views import case, queue

app_name = "console"
urlpatterns = [
    path("", queue.queue, name="queue"),
    path("next/", queue.claim_next, name="next"),
    path("decisions/<str:code>/bank/", case.bank, name="bank"),
    path("cases/<str:code>/", case.case, name="case"),
    path("cases/<str:code>/claim/", case.claim, name="claim"),
    path("cases/<str:code>/renew/", case.renew, name="renew"),
    path("cases/<str:code>/release/", case.release, name="release"),
    path("cases/<str:code>/decide/", case.decide, name="decide"),
    path("cases/<str:code>/answer/", case.answer, name="answer"),
]
