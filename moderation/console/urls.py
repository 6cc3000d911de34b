"""Addresses of the console."""

from django.urls import path

from moderation.console.views import case, claims, group, heat_maps, keys, queue, reporting

app_name = "console"
urlpatterns = [
    path("", queue.queue, name="queue"),
    path("next/", queue.claim_next, name="next"),
    path("views/", queue.save_filter, name="save-filter"),
    path("views/<int:saved>/forget/", queue.forget_filter, name="forget-filter"),
    path("cases/<str:code>/take-over/", claims.take_over, name="take-over"),
    path("cases/<str:code>/assign/", claims.assign, name="assign"),
    path("cases/<str:code>/escalate/", claims.escalate, name="escalate"),
    path("cases/<str:code>/ask/", claims.ask, name="ask"),
    path("decisions/<str:code>/bank/", case.bank, name="bank"),
    path("evidence/<str:code>/", reporting.evidence, name="evidence"),
    path("reports/<str:code>/unfounded/", reporting.unfounded, name="unfounded"),
    path("misuse/", reporting.misuse, name="misuse"),
    path("misuse/<str:code>/", reporting.settle, name="settle-measure"),
    path("letters/", reporting.letters, name="letters"),
    path("letters/<str:code>/resend/", reporting.resend, name="resend-letter"),
    path("cases/<str:code>/", case.case, name="case"),
    path("keys/", keys.keys, name="keys"),
    path("findings/<int:finding>/verdict/", case.verdict, name="verdict"),
    path("cases/<str:code>/peek/", case.peek, name="peek"),
    path("cases/<str:code>/together/", group.group, name="group"),
    path("cases/<str:code>/claim/", case.claim, name="claim"),
    path("cases/<str:code>/renew/", case.renew, name="renew"),
    path("cases/<str:code>/release/", case.release, name="release"),
    path("cases/<str:code>/decide/", case.decide, name="decide"),
    path("cases/<str:code>/findings/<int:finding>/heatmap/", heat_maps.heat_map, name="heatmap"),
    path(
        "cases/<str:code>/findings/<int:finding>/heatmap.png",
        heat_maps.drawing,
        name="heatmap-png",
    ),
    path("cases/<str:code>/answer/", case.answer, name="answer"),
]
