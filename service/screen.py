"""A posting's steps on a terminal, live; plain lines where there is no terminal."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table
from rich.text import Text

from service import documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from service.keys import Key
    from service.posting.audit import Record
    from service.posting.chain import Verdict
    from service.sync.runs import SyncEvent, SyncRun

SIGNS = {
    "open": ("·", "dim"),
    "start": ("▶", "cyan"),
    "unknown": ("?", "yellow"),
    "fault": ("!", "red"),
    "found": ("=", "green"),
    "done": ("✔", "green"),
    "settle": ("✔", "yellow"),
    "skip": ("-", "dim"),
    "stop": ("✘", "red"),
}
LEGEND = "▶ called  ✔ done  = found done  ? outcome unknown  ! fault  - left out  ✘ stopped"


def sign(action: str) -> Text:
    """One character for what happened last to a step."""
    character, style = SIGNS.get(action, ("·", "dim"))
    return Text(character, style=style)


def line(event: dict[str, Any]) -> str:
    """One event as a line."""
    step = f"{event['step']:>2}/{event['total_steps']}" if event["step"] else "     "
    took = f" ({event['duration_ms']} ms)" if event["duration_ms"] is not None else ""
    name = f"{event['step_name']}: " if event["step_name"] else ""
    return f"{event['id']:>3}  {step}  {event['action']:<12} {name}{event['message']}{took}"


class Steps:
    """The steps of one posting as a table."""

    def __init__(self, posting: dict[str, Any]) -> None:
        self._posting = posting
        self._last: dict[int, dict[str, Any]] = {}
        self._status = posting["status"]

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        self._status = event["status"]
        if event["step"]:
            self._last[event["step"]] = event

    def table(self) -> Table:
        """How it looks now."""
        title = f"{self._posting['document_key']}  {self._status}"
        table = Table("", "step", "", "ms", "", title=title, title_justify="left")
        for step in self._posting["steps"]:
            event = self._last.get(step["number"])
            table.add_row(
                str(step["number"]),
                step["title"],
                sign(event["action"] if event else "open"),
                "" if not event or event["duration_ms"] is None else str(event["duration_ms"]),
                event["message"] if event else "",
            )
        return table


def wrong_rows(problems: Sequence[dict[str, Any]]) -> Table:
    """What is wrong in a file, a row for each fault."""
    table = Table("line", "column", "")
    for found in problems:
        table.add_row(str(found["line"]), Text(found["column"] or ""), Text(found["message"]))
    return table


OUTCOMES = {
    "done": Text("done", style="green"),
    "would_run": Text("would run", style="cyan"),
    "blocked": Text("blocked", style="red"),
    "disabled": Text("disabled", style="dim"),
    "depends": Text("depends", style="yellow"),
}


def plan(planned: dict[str, Any]) -> Table:
    """What a posting would do, a row for each step."""
    table = Table("", "step", "", "", title=planned["document_key"], title_justify="left")
    for step in planned["steps"]:
        outcome = OUTCOMES[step["outcome"]]
        table.add_row(str(step["number"]), step["title"], outcome, Text(_why(step)))
    return table


def _why(step: dict[str, Any]) -> str:
    """What would be called, or why not."""
    lines = []
    if step["depends_on"]:
        lines.append(f"on step {step['depends_on']}")
    if step["message"]:
        lines.append(": ".join(filter(None, (step["code"], step["message"]))))
    if call := step["call"]:
        lines.append(f"{call['model']}.{call['method']} {call['ids']}")
        lines += [
            f"  {name}: {json.dumps(call['before'].get(name))} -> {json.dumps(after)}"
            for name, after in call["after"].items()
        ]
    return "\n".join(lines)


STATUS_STYLES = {"success": "", "warning": "yellow", "error": "red"}


def audit(records: Sequence[Record]) -> Table:
    """Who did what to a posting, a row for each record."""
    table = Table("", "time (UTC)", "who", "fence", "step", "action", "ms", "")
    for record in records:
        table.add_row(
            str(record.seq),
            f"{record.at:%Y-%m-%d %H:%M:%S}",
            record.actor,
            str(record.fence),
            str(record.step or ""),
            record.action,
            "" if record.duration_ms is None else str(record.duration_ms),
            Text(record.message, style=STATUS_STYLES[record.status]),
        )
    return table


def verdict_json(verdict: Verdict) -> str:
    """A verdict as a line of JSON."""
    return documents.to_json({**asdict(verdict), "valid": verdict.valid})


def sync_event(event: SyncEvent) -> str:
    """How far a run of a sync is."""
    counts = f"{event.read} of {max(event.expected, event.read)} rows read"
    return f"{event.action} {event.pages}: {counts}, {event.written} new or changed"


def sync(run: SyncRun) -> str:
    """How a run of a sync has ended."""
    why = f" {run.code}: {run.message}" if run.code else ""
    counts = f"{run.read} rows read, {run.written} new or changed, {run.removed} removed"
    return f"{run.name} on {run.connection}: {run.status}, {counts}{why}"


@contextmanager
def live(
    posting: dict[str, Any], console: Console, *, as_json: bool
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show events as they are handed over: a table, lines, or lines of JSON."""
    if as_json or not console.is_terminal:
        yield lambda event: _print(
            json.dumps(event, ensure_ascii=False) if as_json else line(event)
        )
        return
    steps = Steps(posting)
    with Live(steps.table(), console=console, auto_refresh=False) as shown:

        def show(event: dict[str, Any]) -> None:
            steps.take(event)
            shown.update(steps.table(), refresh=True)

        yield show


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def keys(known: Sequence[Key]) -> Table:
    """Keys, two lines for each, so that nothing of an id is left out in a narrow terminal."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for key in known:
        names = ["all"] if key.connections is None else sorted(key.connections)
        used = f"used {key.last_used_at:%F}" if key.last_used_at else "never used"
        table.add_row(
            f"{key.id}\n{key.prefix}…",
            Text(f"{key.name}\n{' '.join(sorted(key.scopes))} on {' '.join(names)}"),
            Text(f"{used}\n{_valid(key)}{_rate(key)}"),
        )
    return table


def _rate(key: Key) -> str:
    return f", {key.requests_per_second:g}/s" if key.requests_per_second else ""


def _valid(key: Key) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%F} by {key.revoked_by or 'unknown'}"
    return f"until {key.expires_at:%F}" if key.expires_at else "until revoked"
