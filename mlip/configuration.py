"""Checks configurations against their pydantic model, and says in one sentence what is wrong and what was meant."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mlip.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)


def parse_config(schema: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """Check `values` against `schema`.

    Args:
        schema: The pydantic model to build.
        values: Plain keys and values, as read from YAML or JSON.
        where: What is being read, for the error's sentence, for example "the model configuration".

    Raises:
        ConfigError: naming the first key that is unknown (with the nearest known one) or holds a wrong value.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(schema, values, where, error)) from None


def _sentence(schema: type[BaseModel], values: Mapping[str, Any], where: str, error: ValidationError) -> str:
    """One sentence about the first problem found; an unknown key comes first, since it explains others."""
    problems = error.errors(include_url=False)
    problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    path = ".".join(str(part) for part in problem["loc"] if not _is_union_tag(part, values, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        *parents, key = problem["loc"]
        known = _keys_at(schema, [str(part) for part in parents])
        nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
        remedy = f"did you mean '{nearest[0]}'?" if nearest else f"known keys are {', '.join(known)}."
        return f"unknown key '{path}' in {where}: {remedy}"
    reason = problem["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if problem["type"] == "missing" or not path:
        return f"{where} has a problem{f' at {path!r}' if path else ''}: {reason}."
    return f"'{path}: {problem['input']!r}' in {where} is not valid: {reason}."


def _is_union_tag(part: Any, values: Mapping[str, Any], location: tuple[Any, ...]) -> bool:
    """Whether a part of an error's location is the tag of a union (an architecture's name) and no key of the user's."""
    current: Any = values
    for step in location:
        if step == part and not (isinstance(current, Mapping) and step in current) and step is not location[-1]:
            return not isinstance(step, int)
        if isinstance(current, Mapping) and step in current:
            current = current[step]
    return False


def _keys_at(schema: type[BaseModel], path: list[str]) -> list[str]:
    """Keys that the part of `schema` at `path` knows; tags of unions in the path choose between its members."""
    candidates: list[type[BaseModel]] = [schema]
    for part in path:
        inner = [
            model
            for candidate in candidates
            if part in candidate.model_fields
            for model in _models_in(candidate.model_fields[part].annotation)
        ]
        if inner:
            candidates = inner
            continue
        tagged = [model for model in candidates if _has_tag(model, part)]
        candidates = tagged or candidates
    return sorted({key for candidate in candidates for key in candidate.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Pydantic models named in a type annotation, unions and containers included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    """Whether one of the model's fields is fixed to the literal `tag`."""
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())
