"""The page that explains the API, drawn from its own OpenAPI document."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET


@require_GET
def documentation(request: HttpRequest) -> HttpResponse:
    """Show every operation with its fields."""
    from moderation.api.urls import api

    document = api.get_openapi_schema()
    return render(request, "api/docs.html", {"groups": _groups(document)})


def _groups(document: Any) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for address, item in document["paths"].items():
        for method, operation in item.items():
            entry = {
                "method": method.upper(),
                "path": address,
                "id": operation["operationId"],
                "says": operation.get("description", operation.get("summary", "")),
                "parameters": operation.get("parameters", []),
                "fields": _fields(document, operation),
                "answers": [status for status in operation["responses"] if int(status) < 400],
            }
            groups.setdefault(operation.get("tags", [""])[0], []).append(entry)
    return groups


def _fields(document: Any, operation: Any) -> list[dict[str, Any]]:
    """Return the fields of the body of a request."""
    content = operation.get("requestBody", {}).get("content", {})
    for kind, body in content.items():
        schema = body["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        needed = set(schema.get("required", []))
        return [
            {
                "name": name,
                "kind": field.get("type", "text"),
                "needed": name in needed,
                "most": field.get("maxLength") or field.get("maxItems"),
                "says": field.get("description", ""),
                "as": kind,
            }
            for name, field in schema.get("properties", {}).items()
        ]
    return []
