"""Addresses that anybody may open."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from moderation.public import views

urlpatterns = [
    path("", views.home, name="home"),
    path("models/<str:code>/", views.model, name="model"),
    path("models/<str:code>/report/", views.report, name="report"),
    path("models/<str:code>/files/<str:file>/", views.download, name="download"),
    path("download/<str:signed>/", views.download_signed, name="download-signed"),
    path("previews/<str:code>/", views.preview, name="preview"),
    path("reports/<str:token>/", views.report_status, name="report-status"),
    path("policy/", views.policy, name="policy"),
    path("adult/", views.adult, name="adult"),
    path("sign-up/", views.sign_up, name="sign-up"),
    path("log-in/", LoginView.as_view(template_name="public/log_in.html"), name="login"),
    path("log-out/", LogoutView.as_view(), name="logout"),
]
