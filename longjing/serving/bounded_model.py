"""Models of requests that cost no more to refuse than to take."""

from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

_MAX_ITEMS = 10_000  # objects, or texts, in one list
_MAX_FIELDS = 1_000  # in one object


def _bound(schema: Any) -> None:
    """Bound the lists and mappings anywhere in a core schema of pydantic's."""
    unseen = [schema]
    while unseen:
        node = unseen.pop()
        if isinstance(node, list | tuple):
            unseen += node
        elif isinstance(node, dict):
            unseen += node.values()
            if node.get("type") in ("list", "dict"):
                node["fail_fast"] = True
                # Ids of tokens may be as many as a context holds.
                if node.get("items_schema", {}).get("type") != "int":
                    node.setdefault("max_length", _MAX_ITEMS)


class BoundedModel(BaseModel):
    """Its lists and mappings are refused at the first element that is wrong, and when there are too many.

    Otherwise each of a million wrong elements would be an error of its own, and be explained: a request of a megabyte
    takes minutes then, and gigabytes.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _bound(handler.resolve_ref_schema(schema))
        return schema

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > _MAX_FIELDS:
            raise ValueError(f"more than {_MAX_FIELDS} fields")
        return data
