"""What is wrong in a file that people write, in words: the key, what stands there, and what is allowed.

Knows the shapes that pydantic checks and how YAML misleads; reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

FULL_WIDTH = "：，、“”‘’％【】｛｝＃"
"""Signs of a Chinese keyboard that look like those of YAML and are others."""


class Fault(NamedTuple):
    """One thing that is wrong: the keys that lead to it, what stands there and what is allowed."""

    path: tuple[str, ...]
    text: str


def tell_faults(error: ValidationError, shape: type[BaseModel], content: Mapping[Any, Any]) -> list[Fault]:
    """What is wrong in a content that does not fit a shape, each fault once."""
    found = [(fault, _find(shape, content, fault["loc"])) for fault in error.errors()]
    # Of a key that may be a number or a mapping pydantic complains twice, of a bad entry once more as an empty list.
    meant = [(fault, place) for fault, place in found if place.is_meant and not (fault["type"] == "too_short" and place.value)]
    return [
        Fault(place.path, _say(fault["type"], fault.get("ctx", {}), fault["msg"], place, shape) + _signs(place.value))
        for fault, place in meant or found
    ]


def _signs(value: Any) -> str:
    signs = [sign for sign in FULL_WIDTH if isinstance(value, str) and sign in value]
    return f"; {' '.join(signs)} is full-width, YAML wants half-width signs" if signs else ""


@dataclass(frozen=True)
class _Place:
    """A key of a file: the shape it stands in, what its value should be, and what it is."""

    path: tuple[str, ...]
    parent: Any
    expected: Any
    value: Any
    is_meant: bool
    also: Any = None
    """The mapping that could stand there instead, where a single value was written."""
    is_key: bool = False
    """It is the key itself that is wrong."""


def _find(shape: Any, content: Any, loc: tuple[int | str, ...]) -> _Place:
    path: list[str] = []
    parent, expected, value, is_meant, also = None, shape, content, True, None
    is_key = False
    for part in loc:
        kinds = _kinds(expected)
        if len(kinds) > 1:  # which of several kinds was tried, not a key of the file
            chosen = next((kind for kind in kinds if part in (_name(kind), *_tags(kind))), None)
            is_mapping = _is_mapping(chosen)
            if all(_is_mapping(kind) for kind in kinds):
                is_mapping = isinstance(value, dict)
            is_meant = is_meant and is_mapping == isinstance(value, dict)
            also = None if is_mapping else next((kind for kind in kinds if _is_mapping(kind)), None)
            expected = chosen or next((kind for kind in kinds if not _is_mapping(kind)), None)
            continue
        parent, also = (kinds[0] if kinds else None), None
        if part == "[key]":  # pydantic's word for the key itself
            is_key = True
            continue
        path.append(str(part))
        expected = _below(parent, part)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return _Place(tuple(path), parent, expected, value, is_meant, also, is_key)


def _kinds(expected: Any) -> list[Any]:
    """The kinds of value that an annotation allows beside none."""
    while get_origin(expected) is Annotated:
        expected = get_args(expected)[0]
    if get_origin(expected) in (Union, UnionType):
        return [kind for member in get_args(expected) if member is not NoneType for kind in _kinds(member)]
    return [] if expected is None else [expected]


def _is_mapping(kind: Any) -> bool:
    return _is_shape(kind) or get_origin(kind) is dict


def _is_shape(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _tags(kind: Any) -> tuple[Any, ...]:
    """The values of `kind:` by which a mapping says which of several it is."""
    return get_args(kind.model_fields["kind"].annotation) if _is_shape(kind) and "kind" in kind.model_fields else ()


def _below(parent: Any, part: int | str) -> Any:
    if _is_shape(parent):
        fields = {field.alias or name: field for name, field in parent.model_fields.items()} | parent.model_fields
        return fields[part].annotation if part in fields else None
    entries = [kind for kind in get_args(parent) if kind is not ...]
    return entries[-1] if entries else None


def keys_of(shape: Any, *, is_required: bool = False) -> list[str]:
    """The keys that a shape knows, or needs, as files write them."""
    fields = shape.model_fields.items()
    return [field.alias or name for name, field in fields if field.is_required() or not is_required]


def _homes(shape: Any, key: str, above: tuple[str, ...] = ()) -> list[str]:
    """Below which keys of a file a key could stand."""
    found = []
    for name, field in shape.model_fields.items():
        for kind in _kinds(field.annotation):
            inner = next((k for arg in get_args(kind) for k in _kinds(arg) if _is_shape(k)), None)
            below = kind if _is_shape(kind) else inner
            if below is not None and len(above) < 3:
                here = (*above, field.alias or name)
                found += ([".".join(here)] if key in keys_of(below) else []) + _homes(below, key, here)
    return list(dict.fromkeys(found))


def _say(kind: str, context: Mapping[str, Any], message: str, place: _Place, shape: type[BaseModel]) -> str:
    value, expected = place.value, _kinds(place.expected)
    if place.is_key:
        return "this key is read as no text; put it in quotes"
    match kind:
        case "missing":
            return f"is missing; it takes {_wanted(place.expected)}"
        case "extra_forbidden":
            keys = keys_of(place.parent) if _is_shape(place.parent) else []
            homes = [home for home in _homes(shape, place.path[-1]) if home != ".".join(place.path[:-1])]
            near = _near(place.path[-1], keys, 0.85)
            near = near or (f"it belongs below {', '.join(homes[:4])}; " if homes else _near(place.path[-1], keys))
            which = f" with kind: {_tags(place.parent)[0]}" if _tags(place.parent) else ""
            return f"unknown key; {near}allowed here{which}: {', '.join(keys)}"
        case "literal_error":
            allowed = [str(choice) for choice in get_args(expected[0])] if expected else []
            or_mapping = f", or {_wanted(place.also)}" if place.also else ""
            return f"{found_words(value)} is not allowed; {_near(value, allowed)}allowed: {', '.join(allowed)}{or_mapping}"
        case "union_tag_invalid" | "union_tag_not_found":
            tags = [str(tag) for each in expected for tag in _tags(each)]
            if kind == "union_tag_not_found":
                return f"kind is missing; allowed: {', '.join(tags)}"
            return f"kind {context['tag']!r} is not allowed; {_near(context['tag'], tags)}allowed: {', '.join(tags)}"
        case "string_pattern_mismatch":
            form = _FORMS.get(context["pattern"], f"does not fit the pattern {context['pattern']}")
            return f"{value!r} {form}"
        case "greater_than_equal" | "greater_than":
            return f"{value} is too small; at least {context['ge']}" if "ge" in context else message
        case "less_than_equal":
            return f"{value} is too large; at most {context['le']}"
        case "too_short":
            return f"is empty; it takes {_wanted(place.expected)}"
        case "string_too_short":
            return "is empty; write a text"
        case "value_error":
            return message.removeprefix("Value error, ")
    if kind.split("_")[0] in ("string", "int", "bool", "date", "time", "list", "tuple", "dict", "model", "is"):
        or_mapping = f" or {_wanted(place.also)}" if place.also else ""
        if kind == "string_type" and value is not None and not isinstance(value, (dict, list)):
            return f"expected text{or_mapping}; found {found_words(value)}; put it in quotes"
        return f"expected {_wanted(place.expected)}{or_mapping}; found {found_words(value)}"
    return message


_FORMS = {
    r"^[a-z][a-z0-9_]*$": "does not fit; small Latin letters, digits and _ are allowed, a letter first, such as daily_risk",
    r"^[a-z][a-z_]*$": "does not fit; small Latin letters and _ are allowed, a letter first, such as under_litigation",
    r"^(0[1-9]|1[0-2])-[0-3][0-9]$": 'does not fit; write month and day in quotes, such as "11-30"',
}
"""What a pattern asks for."""


def _near(value: Any, allowed: list[str], likeness: float = 0.6) -> str:
    near = get_close_matches(str(value), allowed, 1, likeness)
    return f"did you mean {near[0]}? " if near else ""


def found_words(value: Any) -> str:
    """What YAML read at a place."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return f"a mapping with the keys {', '.join(map(str, value))}"
        case list():
            return f"a list of {len(value)}"
        case str():
            return repr(value)
        case date():
            return f"the day {value}"
    return f"the number {value}"


def _wanted(expected: Any) -> str:
    """What a key takes, in words."""
    kinds = _kinds(expected)
    if len(kinds) > 1:
        if all(_tags(kind) for kind in kinds):
            return f"a mapping with kind: {' or '.join(str(tag) for kind in kinds for tag in _tags(kind))}"
        return " or ".join(_wanted(kind) for kind in kinds)
    if not kinds:
        return "a value"
    (kind,) = kinds
    if _is_shape(kind):
        return f"a mapping with the keys {', '.join(keys_of(kind))}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (list, tuple):
        return f"a list, each entry {_wanted(get_args(kind)[0])}"
    words = {bool: "true or false", int: "a whole number", str: "text", date: "a day such as 2026-01-01"}
    return words.get(kind, 'a time such as "17:30"' if kind is time else "a mapping")
