"""Schedules: what happens to the documents and the processes of one round, made from a seed.

A schedule is a value. The same seed and number give the same one, so that a violation can be played
again; how the processes interleave is up to the machine.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

EventKind = Literal[
    "kill_worker",
    "pause_worker",
    "kill_api",
    "stop_postgres",
    "stop_redis",
    "flush_redis",
    "odoo_away",
    "odoo_restart",
]
Wish = Literal["none", "cancel", "compensate", "roll_back", "send_again"]

WORKERS = 3
FEWEST_DOCUMENTS = 3
MOST_DOCUMENTS = 6
WINDOW_SECONDS = 2.0
"""Within so long all documents are sent and all events begin."""

DFE = "l10n_br_ciel_it_account.dfe"
ORDER = "purchase.order"
BILL = "account.move"
GENERATE = (DFE, "action_gerar_po_dfe")
NOT_REPEATABLE = (
    GENERATE,
    (ORDER, "button_confirm"),
    (ORDER, "action_create_invoice"),
    (BILL, "action_post"),
)
REPEATABLE = (
    (DFE, "write"),
    (f"{DFE}.line", "write"),
    (f"{DFE}.pagamento", "write"),
    (ORDER, "write"),
    (f"{ORDER}.line", "write"),
    (BILL, "write"),
    (BILL, "onchange_l10n_br_calcular_imposto"),
    (BILL, "onchange_l10n_br_calcular_imposto_btn"),
)
READS = ((DFE, "search_read"), (DFE, "read"), (ORDER, "read"), (BILL, "read"))
LIES = (
    "late_success",
    "late_success",
    "reply_lost",
    "reply_lost",
    "gateway_502",
    "gateway_503",
    "gateway_504",
    "fault_after_commit",
    "slow",
    "slow",
    "missing_result",
    "lock_conflict",
    "serialization_conflict",
    "user_error",
    "access_error",
    "drop_before",
)
OF_READS = ("slow", "reply_lost", "gateway_502", "drop_before")


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document: when it is sent and how often at once, what Odoo does, what people want."""

    at: float
    clicks: int
    faults: tuple[dict[str, Any], ...]
    wish: Wish
    wish_after: float


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens to a process or a server, and how long it lasts."""

    at: float
    kind: EventKind
    seconds: float
    worker: int


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One round. `seed` and `number` make it again."""

    seed: int
    number: int
    documents: tuple[Document, ...]
    events: tuple[Event, ...]

    def describe(self) -> str:
        """The schedule as JSON, for whoever has to find out what went wrong."""
        return json.dumps(asdict(self), indent=1)


def make(seed: int, number: int) -> Schedule:
    """The schedule of that number."""
    dice = random.Random(f"{seed}:{number}")  # noqa: S311  reproducible on purpose
    documents = dice.randint(FEWEST_DOCUMENTS, MOST_DOCUMENTS)
    return Schedule(
        seed=seed,
        number=number,
        documents=tuple(_document(dice) for _ in range(documents)),
        events=tuple(sorted(_events(dice), key=lambda event: event.at)),
    )


def _document(dice: random.Random) -> Document:
    wishes: tuple[Wish, ...] = ("cancel", "compensate", "roll_back", "send_again")
    return Document(
        at=round(dice.uniform(0, WINDOW_SECONDS / 2), 3),
        clicks=dice.choice((1, 1, 2, 3)),
        faults=tuple(_fault(dice) for _ in range(dice.choice((0, 1, 1, 2, 3)))),
        wish=dice.choice(("none", "none", "none", *wishes)),
        wish_after=round(dice.uniform(0, WINDOW_SECONDS), 3),
    )


def _fault(dice: random.Random) -> dict[str, Any]:
    kinds, methods = dice.choices(
        ((LIES, NOT_REPEATABLE), (LIES, REPEATABLE), (OF_READS, READS)), (6, 2, 1)
    )[0]
    model, method = dice.choice(methods)
    kind = dice.choice(kinds)
    fault: dict[str, Any] = {"kind": kind, "model": model, "method": method}
    if kind == "slow":
        fault["seconds"] = round(dice.uniform(0.05, 1.2), 3)
    elif kind == "late_success":
        fault["seconds"] = round(dice.uniform(0.05, 1.5), 3)
        fault["after"] = round(fault["seconds"] + dice.uniform(0.0, 1.5), 3)
    elif kind.startswith("gateway"):
        fault["seconds"] = round(dice.uniform(0.05, 0.6), 3)
        fault["applied"] = dice.random() < 0.8
        fault["after"] = round(fault["seconds"] + dice.uniform(0.0, 1.5), 3)
    elif kind.endswith("conflict"):
        fault["times"] = dice.choice((1, 2))
    return fault


def _events(dice: random.Random) -> list[Event]:
    common = dice.choices((0, 1, 2, 3), (1, 3, 3, 2))[0]
    kinds: list[EventKind] = [
        dice.choice(("kill_worker", "kill_worker", "pause_worker")) for _ in range(common)
    ]
    if dice.random() < 0.35:
        kinds.append(
            dice.choice(
                (
                    "stop_postgres",
                    "stop_redis",
                    "flush_redis",
                    "odoo_away",
                    "odoo_restart",
                    "kill_api",
                )
            )
        )
    return [_event(dice, kind) for kind in kinds]


def _event(dice: random.Random, kind: EventKind) -> Event:
    longest = 4.0 if kind == "pause_worker" else 1.5
    return Event(
        at=round(dice.uniform(0, WINDOW_SECONDS), 3),
        kind=kind,
        seconds=round(dice.uniform(0.1, longest), 3),
        worker=dice.randrange(WORKERS),
    )
