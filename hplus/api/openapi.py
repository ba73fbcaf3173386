"""The OpenAPI schemas, from the same pydantic classes as the AsyncAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import extend_schema

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
