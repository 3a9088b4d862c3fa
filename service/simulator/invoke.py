"""Calling a method of a model by name, and refusing a wrong call in Odoo's words."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from service.simulator import errors
from service.simulator.orm import NEW_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.simulator.orm import Environment, Model

# Version 17 of the partner's own `write` calls its argument differently from all other models.
OLD_PARAMETER_NAMES = {"Partner.write": ("'vals'", "'values'")}
CLASS_NAMES = {"Partner": "ResPartner", "User": "ResUsers", "Model": "BaseModel"}


def invoke(
    env: Environment, model_name: str, method: str, args: Any, kwargs: Mapping[str, Any]
) -> Any:
    """Call a public method; the first argument of a record method is an id or a list of ids."""
    if model_name not in env:
        raise errors.UserError(f"Object {model_name} doesn't exist")
    if not isinstance(args, list | tuple):
        raise errors.type_error(_not_a_list(env.version, args))
    model = env[model_name]
    function = public(model, method)
    positional = list(args)
    if function.__dict__["odoo_kind"] == "record":
        positional = _with_ids(positional)
    _check_arguments(env.version, function, positional, kwargs)
    return function(model, *positional, **kwargs)


def record_ids(args: Any) -> tuple[int, ...]:
    """Return the ids a call is about, as far as its first argument tells."""
    first = args[0] if isinstance(args, list | tuple) and args else ()
    listed = first if isinstance(first, list | tuple) else (first,)
    return tuple(one for one in listed if isinstance(one, int) and not isinstance(one, bool))


def _not_a_list(version: int, args: Any) -> str:
    kind = type(args).__name__
    if version >= NEW_VERSION:
        return f"'{kind}' object is not subscriptable"
    return f"Value after * must be an iterable, not {kind}"


def public(model: Model, method: str) -> Callable[..., Any]:
    """Return the function of a method that clients may call."""
    new = model.env.version >= NEW_VERSION
    if method.startswith("_"):
        shown = f"'{model.model}.{method}'" if new else method
        raise errors.AccessError(f"Private methods (such as {shown}) cannot be called remotely.")
    function: Callable[..., Any] | None = getattr(type(model), method, None)
    if function is None or "odoo_kind" not in getattr(function, "__dict__", {}):
        message = (
            f"The method '{model.model}.{method}' does not exist"
            if new
            else f"The method '{method}' does not exist on the model '{model.model}'"
        )
        raise errors.PythonError("AttributeError", message)
    return function


def _with_ids(positional: list[Any]) -> list[Any]:
    if not positional:
        raise errors.PythonError("IndexError", "list index out of range")
    ids = positional[0]
    listed = list(ids) if isinstance(ids, list | tuple) else [ids] if ids else []
    return [listed, *positional[1:]]


def complaint(
    function: Callable[..., Any], positional: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return what is wrong with the arguments, in Python's words."""
    try:
        inspect.signature(function).bind(None, *positional, **kwargs)
    except TypeError as error:
        return str(error)
    return None


def _check_arguments(
    version: int, function: Callable[..., Any], positional: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    wrong = complaint(function, positional, kwargs)
    if wrong is not None:
        raise errors.type_error(_argument_message(version, function, wrong))


def _argument_message(version: int, function: Callable[..., Any], wrong: str) -> str:
    class_name, _, method = function.__qualname__.partition(".")
    wrong = wrong.replace("missing a required argument:", "missing 1 required positional argument:")
    if version < NEW_VERSION:
        new, old = OLD_PARAMETER_NAMES.get(function.__qualname__, ("", ""))
        wrong = wrong.replace(new, old) if new else wrong
    return f"{CLASS_NAMES.get(class_name, class_name)}.{method}() {wrong}"
