"""Syncs that need no configuration: what they are made of follows from a few options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.sync.definition import Definition


class NoOptions(BaseModel):
    """For a sync that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class ReadySync:
    """A sync with its options and the tables that migrations made for it.

    `define` is given the options, and the major version of the Odoo that is read.
    """

    name: str
    title: str
    model: str
    define: Callable[[Any, int], Definition]
    options: type[BaseModel] = NoOptions
