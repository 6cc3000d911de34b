"""Addresses of creators. Each form's address stands below that of the page it is on."""

from django.urls import path

from moderation.creator import standing, uploads, views

app_name = "creator"
urlpatterns = [
    path("", views.models, name="models"),
    path("new/", views.create, name="create"),
    path("notices/", views.notices, name="notices"),
    path("notices/read/", views.read_all, name="read-all"),
    path("notices/language/", views.language, name="language"),
    path("notices/<str:code>/", views.notice, name="notice"),
    path("measures/<str:code>/", views.measure, name="measure"),
    path("standing/", standing.standing, name="standing"),
    path("decisions/<str:code>/message/", standing.message, name="appeal-message"),
    path("appeal-files/<str:code>/", standing.appeal_file, name="appeal-file"),
    path("<str:code>/withdraw/", standing.withdraw, name="withdraw"),
    path("decisions/<str:code>/", views.decision, name="decision"),
    path("uploads/<str:code>/", uploads.progress, name="upload"),
    path("uploads/<str:code>/parts/<int:number>/", uploads.part, name="upload-part"),
    path("uploads/<str:code>/complete/", uploads.complete, name="upload-complete"),
    path("<str:code>/uploads/", uploads.begin, name="upload-begin"),
    path("<str:code>/", views.version, name="version"),
    path("<str:version>/inquiries/<str:code>/", views.answer_inquiry, name="answer-inquiry"),
    path("<str:code>/hold/", views.hold, name="hold"),
    path("<str:code>/next/", views.next_version, name="next-version"),
    path("<str:code>/edit/", views.edit, name="edit"),
    path("<str:code>/add/", views.add, name="add"),
    path("<str:code>/remove/<str:item>/", views.remove, name="remove"),
    path("<str:code>/submit/", views.submit, name="submit"),
]
