"""What must hold of every document after a round, whatever happened in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOT_REPEATABLE = frozenset({6, 9, 10, 11, 15})
CONCLUSIONS = frozenset({"done", "settle", "fault", "skip", "found"})
OVER = frozenset({"done", "found", "skipped"})


@dataclass
class Findings:
    """What was found wrong, in sentences."""

    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    broken_chains: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return any(vars(self).values())

    def add(self, other: Findings) -> None:
        """Take in what was found elsewhere."""
        for name, sentences in vars(other).items():
            getattr(self, name).extend(sentences)

    def lines(self) -> list[str]:
        """All of it, each line headed by its kind."""
        return [f"{name}: {one}" for name, sentences in vars(self).items() for one in sentences]


@dataclass(frozen=True, kw_only=True)
class History:
    """A posting, its audit, and whether the service calls its chain whole."""

    posting: Mapping[str, Any]
    audit: Sequence[Mapping[str, Any]]
    verdict: Mapping[str, Any]

    @property
    def undone(self) -> int:
        """How many orders were taken back by a compensation."""
        calls = [f"{one['method']} {one['action']}" for one in self.audit]
        return calls.count("button_cancel start")


def judge(
    name: str, amount: Decimal, outcome: Mapping[str, Any], histories: Sequence[History]
) -> Findings:
    """Compare Odoo with all postings of one document; the last of them should be completed."""
    findings = Findings()
    last = histories[-1].posting
    if last["status"] != "completed":
        findings.lost.append(f"{name} is {last['status']} ({last['code']}): {last['message']}")
    _judge_odoo(name, amount, outcome, histories, findings)
    for history in histories:
        _judge_audit(name, history, findings)
    if last["status"] == "completed":
        _judge_facts(name, last, outcome, findings)
    return findings


def _live(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record for record in records if record["state"] != "cancel"]


def _judge_odoo(
    name: str,
    amount: Decimal,
    outcome: Mapping[str, Any],
    histories: Sequence[History],
    findings: Findings,
) -> None:
    undone = sum(history.undone for history in histories)
    for what, state in (("orders", "purchase"), ("bills", "posted")):
        every, live = outcome[what], _live(outcome[what])
        if len(live) > 1 or len(every) > 1 + undone:
            findings.duplicates.append(f"{name} has {len(live)} live of {len(every)} {what}")
        for record in live:
            if record["state"] != state or Decimal(str(record["amount"])) != amount:
                findings.untrue.append(f"{name} has {what} {dict(record)} in Odoo, not {amount}")


def _judge_facts(
    name: str, posting: Mapping[str, Any], outcome: Mapping[str, Any], findings: Findings
) -> None:
    found = {
        "order_id": [record["id"] for record in _live(outcome["orders"])],
        "bill_id": [record["id"] for record in _live(outcome["bills"])],
    }
    for fact, ids in found.items():
        if ids != [posting["facts"][fact]]:
            findings.untrue.append(f"{name}: {fact} is {posting['facts'][fact]}, in Odoo {ids}")
    open_steps = [step["number"] for step in posting["steps"] if step["state"] not in OVER]
    if open_steps:
        findings.untrue.append(f"{name} is completed with the steps {open_steps} open")


def _judge_audit(name: str, history: History, findings: Findings) -> None:
    posting, records = history.posting, history.audit
    if not history.verdict["valid"]:
        findings.broken_chains.append(f"{name}: {history.verdict['damages']}")
    if records[-1]["posting_status"] != posting["status"]:
        findings.untrue.append(f"{name} is {posting['status']}, its audit says otherwise")
    actions = Counter(record["action"] for record in records)
    if actions["complete"] > 1:
        findings.untrue.append(f"{name} was completed {actions['complete']} times")
    fence, open_calls = 0, set()
    for record in records:
        where = f"{name}, record {record['seq']}"
        if record["fence"] < fence:
            findings.untrue.append(f"{where}: written by a worker that was overtaken")
        fence = max(fence, record["fence"])
        step, action = record["step"], record["action"]
        if action == "start" and step in NOT_REPEATABLE:
            if step in open_calls:
                findings.untrue.append(f"{where}: step {step} called again while in doubt")
            open_calls.add(step)
        elif action in CONCLUSIONS:
            open_calls.discard(step)
        elif action == "resume":
            open_calls.clear()  # a person has looked
