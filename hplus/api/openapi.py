"""The OpenAPI schemas, from the same pydantic classes as the AsyncAPI document."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpResponse
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from hplus.api.documents import document_response
from hplus.protocol import wire


def described(body: type[wire.Shape] | None, response: type[wire.Shape] | None, **more: Any) -> Any:
    """Decorate a view with the schemas of its body and its response."""
    return extend_schema(request=body, responses=response or {204: None}, **more)


def _shapes(base: type[wire.Shape]) -> dict[str, type[wire.Shape]]:
    """Every shape by its name, so that a nested shape and a top-level one share a component."""
    found = {sub.__name__: sub for sub in base.__subclasses__()}
    for sub in base.__subclasses__():
        found.update(_shapes(sub))
    return found


class ShapeSchema(OpenApiSerializerExtension):
    """Lets drf-spectacular read pydantic classes."""

    target_class = "hplus.protocol.wire.Shape"
    match_subclasses = True

    def get_name(self, auto_schema: Any, direction: str) -> str:
        return str(self.target.__name__)

    def map_serializer(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        schema = self.target.model_json_schema(
            ref_template="#/components/schemas/{model}",
            mode="validation" if direction == "request" else "serialization",
        )
        for name, part in schema.pop("$defs", {}).items():
            shape = _shapes(wire.Shape).get(name, name)
            component = ResolvedComponent(name, ResolvedComponent.SCHEMA, schema=part, object=shape)
            auto_schema.registry.register_on_missing(component)
        return dict(schema)


class SchemaView(APIView):
    """The OpenAPI document for anybody, made once; YAML, or JSON where `format` or Accept says so."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        asked = request.GET.get("format", "")
        is_json = asked == "json" or (not asked and "json" in request.headers.get("Accept", ""))
        content_type = f"application/vnd.oai.openapi{'+json' if is_json else ''}; charset=utf-8"
        return document_response(request._request, _openapi(is_json), content_type)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Choose no format: the view chooses it itself."""
        return super().perform_content_negotiation(request, force=True)


@cache  # views do not change while they run
def _openapi(is_json: bool) -> bytes:
    renderer = OpenApiJsonRenderer() if is_json else OpenApiYamlRenderer()
    rendered: bytes = renderer.render(SchemaGenerator().get_schema(public=True), renderer_context={})
    return rendered
