"""Why a posting stops, in sentences that a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.odoo import errors
from service.posting.step import Blocked

if TYPE_CHECKING:
    from service.posting.ledger import Entry
    from service.posting.step import AnyStep

ADVICE: dict[type[errors.OdooError], str] = {
    errors.Unreachable: "Check that Odoo runs and that its address is right",
    errors.TimedOut: "Odoo is too slow or overloaded",
    errors.GatewayError: "The proxy in front of Odoo gets no answer from it",
    errors.UnexpectedAnswer: "Check that the connection's address is that of an Odoo server",
    errors.UnknownDatabase: "Check the connection's database name",
    errors.AuthenticationFailed: "Check the connection's login and secret",
    errors.AccessDenied: "Give the integration's user the right that Odoo names",
    errors.MissingRecord: "A record was deleted in Odoo meanwhile",
    errors.LockConflict: "Somebody else is changing the same records",
}


def of_error(error: errors.OdooError) -> Blocked:
    """Odoo could not be asked, or refused."""
    advice = next(
        (ADVICE[kind] for kind in type(error).__mro__ if kind in ADVICE),
        "Mend in Odoo what it names",
    )
    return Blocked(error.code, f"{advice}, then resume. Odoo said: {error.message}")


def outcome_unknown(step: AnyStep, entry: Entry) -> Blocked:
    """The settle time has passed, and the effect of a sent call was not seen."""
    call = entry.call or {}
    return Blocked(
        "outcome_unknown",
        f"{call.get('model')}.{call.get('method')} was called for step {step.number} "
        f"({step.title}) and its effect did not appear within "
        f"{step.settle.limit.total_seconds():.0f} s. Look in Odoo whether it still works on it; "
        "resume when it does not: the step will be looked at once more and then called again.",
        "needs_attention",
    )


def does_not_converge(step: AnyStep) -> Blocked:
    """The effect of a step vanishes as often as it is brought about."""
    return Blocked(
        "does_not_converge",
        f"After {step.most_calls} calls, step {step.number} ({step.title}) is still not done: "
        "something in Odoo changes the values back.",
        "needs_attention",
    )


def definition_changed(step: AnyStep, started_as: str) -> Blocked:
    """The step in doubt was started by another version of the definition."""
    return Blocked(
        "definition_changed",
        f"Step {step.number} was started as {started_as!r} and is {step.name!r} now. "
        "Look in Odoo whether its effect is there, then roll back and resume.",
        "needs_attention",
    )


def internal_error(error: Exception) -> Blocked:
    """A defect of Eclusa or of a definition."""
    return Blocked(
        "internal_error",
        f"Eclusa itself failed ({type(error).__name__}); its log has the details. "
        "Nothing is repeated blindly: resume once it is mended.",
    )


def not_deployed(detail: str) -> Blocked:
    """The configuration has no place for the posting any more."""
    return Blocked("not_deployed", f"{detail}. Mend the configuration, then resume.")
