"""Checks configurations against their pydantic model, and says in one sentence what is wrong and what was meant."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

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
    """One sentence about one problem: an unknown key first, since it explains others, then the deepest value."""
    problems = error.errors(include_url=False)
    deepest = max(problems, key=lambda each: len(_path(each["loc"], values)))
    problem = next((each for each in problems if each["type"] == "extra_forbidden"), deepest)
    kind, location = problem["type"], problem["loc"]
    path = _path(location, values)
    if kind == "extra_forbidden":
        known = sorted({name for model in _models_at(schema, location[:-1]) for name in model.model_fields})
        return f"unknown key '{'.'.join(path)}' in {where}: {_remedy(path[-1], known, 'known keys are')}"
    if kind == "missing":
        return f"'{'.'.join([*path, str(location[-1])])}' is missing in {where}: it is required."
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _wrong_tag(schema, problem, path, where)
    reason = problem["msg"].removeprefix("Value error, ")
    if kind == "model_type":
        known = sorted({name for model in _models_at(schema, location) for name in model.model_fields})
        reason = f"give keys and values instead; the keys are {', '.join(map(repr, known))}"
    reason = reason[:1].lower() + reason[1:]
    name, value = ".".join(path), problem["input"]
    if kind == "value_error" and isinstance(value, Mapping):
        # Values that do not fit each other; the reason names them.
        subject = f"'{name}' in {where}" if path else where
    else:
        subject = f"'{name}: {value!r}' in {where}" if path else f"{value!r} as {where}"
    # A reason of our own may be a sentence already, or a question.
    return f"{subject} is not valid: {reason}" + ("" if reason.endswith((".", "?")) else ".")


def _wrong_tag(schema: type[BaseModel], problem: ErrorDetails, path: list[str], where: str) -> str:
    """The sentence about a missing or unknown value of the key that tells the members of a union apart."""
    context = problem["ctx"]
    key = str(context["discriminator"]).strip("'")
    name = ".".join([*path, key])
    tags = _tags(_models_at(schema, problem["loc"]), key)
    if "tag" not in context:
        return f"'{name}' is missing in {where}: choose one of {', '.join(map(repr, tags))}."
    tag = str(context["tag"])
    return f"'{name}: {tag}' in {where} is not valid: {_remedy(tag, tags, 'choose one of')}"


def _path(location: Sequence[int | str], values: Any) -> list[str]:
    """The user's keys in an error's location, which also names the members of unions that pydantic tried."""
    path = []
    for part in location:
        is_key = isinstance(values, Mapping) and part in values
        if is_key or (isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)):
            path.append(str(part))
            values = values[part]
    return path


def _remedy(given: str, known: Sequence[str], otherwise: str) -> str:
    """The nearest of the known words as a question, or all of them."""
    nearest = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else f"{otherwise} {', '.join(map(repr, known))}."


def _models_at(schema: type[BaseModel], location: Sequence[int | str]) -> list[type[BaseModel]]:
    """Models that describe the part of `schema` at a location; tags of unions in it choose between their members."""
    candidates = list(_models_in(schema))
    for part in location:
        inner = [
            model
            for candidate in candidates
            if part in candidate.model_fields
            for model in _models_in(candidate.model_fields[str(part)].annotation)
        ]
        tagged = [model for model in candidates if any(part in _tags([model], key) for key in model.model_fields)]
        candidates = inner or tagged or candidates
    return candidates


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Pydantic models named in a type annotation, unions and containers included."""
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        yield from _models_in(annotation.model_fields["root"].annotation)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _tags(models: Sequence[type[BaseModel]], key: str) -> list[str]:
    """Literals that the models' field `key` is fixed to, by which the members of a union are told apart."""
    annotations = [model.model_fields[key].annotation for model in models if key in model.model_fields]
    return [tag for each in annotations if get_origin(each) is Literal for tag in get_args(each)]
