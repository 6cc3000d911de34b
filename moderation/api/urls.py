"""The API, its OpenAPI document, and the page that explains it."""

from typing import Any

from django.urls import path
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from moderation.api import events, fairness, models, views
from moderation.api.problems import handlers_add


class WeighhouseAPI(NinjaAPI):
    """The API, whose document says of every POST that it needs an ``Idempotency-Key``."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """Return the OpenAPI document."""
        document = super().get_openapi_schema(**options)
        for path_item in document["paths"].values():
            if "post" in path_item:
                path_item["post"].setdefault("parameters", []).append(IDEMPOTENCY_KEY)
        for path_item in document["paths"].values():
            for operation in path_item.values():
                for status, response in operation.get("responses", {}).items():
                    if int(status) >= 400 and "content" in response:
                        content = response["content"]
                        content["application/problem+json"] = content.pop("application/json")
        return document


IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": True,
    "description": "Chosen anew for each request, repeated when it is sent again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 100, "pattern": "^[!-~]+$"},
}

api = WeighhouseAPI(
    title="Weighhouse",
    version="1",
    urls_namespace="api-1",
    docs_url=None,
    openapi_url="/openapi.json",
    description="Submit versions, read findings and decisions, file reports and appeals.",
)
for part in (models.router, fairness.router, events.router):
    api.add_router("", part)
handlers_add(api)

urlpatterns = [
    path("v1/docs/", views.documentation, name="api-docs"),
    path("v1/", api.urls),
]
