"""Addresses that anybody may open."""

from django.urls import path

from moderation.public import appeals, reporting, views

urlpatterns = [
    path("", views.home, name="home"),
    path("models/<str:code>/", views.model, name="model"),
    path("models/<str:code>/report/", reporting.report, name="report"),
    path("models/<str:code>/files/<str:file>/", views.download, name="download"),
    path("download/<str:signed>/", views.download_signed, name="download-signed"),
    path("previews/<str:code>/", views.preview, name="preview"),
    path("reports/<str:token>/", reporting.report_status, name="report-status"),
    path("reports/<str:token>/change/", reporting.report_change, name="report-change"),
    path("likeness/", reporting.likeness, name="likeness"),
    path("likeness/sent/", reporting.likeness_sent, name="likeness-sent"),
    path("likeness/<str:token>/", reporting.likeness_page, name="likeness-page"),
    path("likeness/<str:token>/change/", reporting.likeness_change, name="likeness-change"),
    path("reports/<str:token>/appeal/", reporting.report_appeal, name="report-appeal"),
    path("reports/<str:token>/files/<str:code>/", appeals.report_appeal_file, name="report-file"),
    path("policy/", views.policy, name="policy"),
    path("transparency/", views.transparency, name="transparency"),
    path("adult/", views.adult, name="adult"),
]
