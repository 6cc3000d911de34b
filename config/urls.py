"""Where the pages are mounted."""

from django.contrib import admin
from django.urls import include, path

handler400 = "moderation.failures.refused"
handler404 = "moderation.failures.absent"
handler500 = "moderation.failures.broken"

urlpatterns = [
    path("", include("moderation.operations.urls")),
    path("", include("moderation.authentication.urls")),
    path("", include("moderation.public.urls")),
    path("studio/", include("moderation.creator.urls")),
    path("console/", include("moderation.console.urls")),
    path("api/", include("moderation.api.urls")),
    path("admin/", admin.site.urls),
]
