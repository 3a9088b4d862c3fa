"""The example of the configuration file is one that can be used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from service import connections, postings, syncs
from service.postings.freight_cte import FREIGHT_CTE
from service.postings.freight_expense import FREIGHT_EXPENSE

if TYPE_CHECKING:
    import pytest

EXAMPLE = Path(__file__).parents[2] / "eclusa.example.toml"
KIND = FREIGHT_CTE.kind


async def test_the_example_is_accepted_with_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both connections, both ways to give a secret, and both profiles pass every check."""
    monkeypatch.setenv("ECLUSA_SECRET_MAIN", "from the environment")
    config = connections.load(EXAMPLE)
    book = connections.Connections(config, postings.catalog(), syncs.catalog())

    secrets = {name: one.connection(name).secret for name, one in config.connections.items()}
    companies = {
        name: len(FREIGHT_CTE.profile_model.model_validate(one.profiles[KIND]).companies)
        for name, one in config.connections.items()
    }
    await book.close()

    assert secrets == {"main": "from the environment", "staging": "admin"}
    assert companies == {"main": 2, "staging": 1}


def test_the_values_that_the_example_comments_out_are_the_defaults(tmp_path: Path) -> None:
    """Switched on, they change nothing."""
    switched_on = tmp_path / "eclusa.toml"
    text = EXAMPLE.read_text(encoding="utf-8")
    switched_on.write_text(re.sub(r"(?m)^# (?=\w+ = )", "", text), encoding="utf-8")
    given, spelled_out = connections.load(EXAMPLE), connections.load(switched_on)

    profiles = [
        [
            kind.profile_model.model_validate(config.connections["main"].profiles[kind.kind])
            for kind in (FREIGHT_CTE, FREIGHT_EXPENSE)
        ]
        for config in (given, spelled_out)
    ]
    plain = [
        config.connections["main"].model_copy(update={"profiles": {}})
        for config in (given, spelled_out)
    ]

    assert switched_on.read_text(encoding="utf-8") != text
    assert profiles[0] == profiles[1]
    assert plain[0] == plain[1]


def test_the_times_of_the_example_are_those_of_the_steps() -> None:
    """The file says that it shows the defaults of two steps."""
    values = connections.load(EXAMPLE).connections["main"].profiles[KIND]
    timings = FREIGHT_CTE.profile_model.model_validate(values).timings
    steps = {step.name: step for step in FREIGHT_CTE.steps}

    assert set(timings) == {"generate_order", "post_bill"}
    assert all(steps[name].timed(timing) == steps[name] for name, timing in timings.items())
