"""The commands, as processes, on a service with a worker and a simulated Odoo."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import text

from service import keys
from service.scene import TIMINGS, configuration
from service.simulator.app import Simulator, SimulatorSettings
from service.simulator.arrivals import DocumentOptions, SeededDocument
from tests.factories import settling, sheets
from tests.factories.processes import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.database import Database
    from service.settings import Settings

DUE = "2026-12-31"
SECONDS = 40.0


@pytest.fixture
async def odoo(settings: Settings) -> AsyncIterator[Simulator]:
    """A simulated Odoo that the settings' configuration file points to."""
    async with Simulator(SimulatorSettings()) as simulator:
        titles = settling.profile(list(simulator.world.seed.companies.values()), 17)
        times = f"{TIMINGS}\n{titles}\n"
        content = configuration(simulator.world.seed.describe(), simulator.url, times)
        settings.config.write_text(content, encoding="utf-8")
        yield simulator


@pytest.fixture
async def access(
    settings: Settings, odoo: Simulator, database: Database, tmp_path: Path
) -> AsyncIterator[dict[str, str]]:
    """A running service; the variables that let `eclusa post` reach it."""
    assert odoo.url
    key = (await keys.Keys(database).create("cli")).secret
    async with command(settings, tmp_path / "serve.log", "serve", "--worker") as process:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), SECONDS)
        yield {"ECLUSA_API_URL": line.decode().split()[-1], "ECLUSA_API_KEY": key}


async def run(
    settings: Settings, tmp_path: Path, *arguments: str, **more: str
) -> tuple[int, str, str]:
    """Run a command to its end: exit code, standard output, standard error."""
    log = tmp_path / "command.log"
    log.unlink(missing_ok=True)
    async with command(settings, log, *arguments, COLUMNS="200", **more) as process:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode or 0, output.decode(), log.read_text(encoding="utf-8")


def arrive(odoo: Simulator, tmp_path: Path) -> tuple[SeededDocument, str]:
    """A document in Odoo and the path of its XML."""
    [document] = odoo.world.add_documents(DocumentOptions())
    path = tmp_path / "cte.xml"
    path.write_text(document.xml, encoding="utf-8")
    return document, str(path)


async def test_post_shows_the_steps_and_ends_with_zero(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """All sixteen steps are printed, then the posting's id and status."""
    _, path = arrive(odoo, tmp_path)

    code, output, _ = await run(settings, tmp_path, "post", "--xml", path, "--due", DUE, **access)

    assert code == 0
    assert all(f"{number:>2}/16" in output for number in range(1, 17))
    assert output.rstrip().endswith("completed")


async def test_post_prints_json_lines_on_demand(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """Every line is an event; the last one tells that the posting completed."""
    _, path = arrive(odoo, tmp_path)

    code, output, _ = await run(
        settings, tmp_path, "post", "--xml", path, "--due", DUE, "--json", **access
    )

    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["status"] == "completed"


async def test_post_of_a_posted_document_shows_it(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """Nothing is posted again."""
    document, path = arrive(odoo, tmp_path)
    await run(settings, tmp_path, "post", "--xml", path, "--due", DUE, **access)

    code, output, _ = await run(
        settings, tmp_path, "post", "--key", document.key, "--due", DUE, **access
    )

    assert (code, output.split()[-1]) == (0, "completed")


async def test_post_that_stops_says_why_and_ends_with_one(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """The code and the sentence for a person are the last line."""
    [document] = odoo.world.add_documents(DocumentOptions(status="07"))

    code, output, _ = await run(
        settings, tmp_path, "post", "--key", document.key, "--due", DUE, **access
    )

    assert code == 1
    assert "dfe_rejected: " in output.splitlines()[-1]


async def test_a_plan_is_printed_and_nothing_is_posted(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """A row for each step, with the call that it would make; --json prints the same as data."""
    document, path = arrive(odoo, tmp_path)

    code, output, _ = await run(
        settings, tmp_path, "post", "--xml", path, "--due", DUE, "--plan", **access
    )
    _, text, _ = await run(
        settings, tmp_path, "post", "--xml", path, "--due", DUE, "--plan", "--json", **access
    )

    assert code == 0
    assert "action_gerar_po_dfe" in output
    assert "cobr_dup_dvenc" in output
    planned = json.loads(text)
    assert len(planned["steps"]) == 16
    assert (planned["document_key"], planned["posting_id"]) == (document.key, None)


async def test_a_plan_with_a_blocked_step_ends_with_one(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """And says which, with its code."""
    [document] = odoo.world.add_documents(DocumentOptions(status="07"))

    code, output, _ = await run(
        settings, tmp_path, "post", "--key", document.key, "--due", DUE, "--plan", **access
    )

    assert code == 1
    assert "dfe_rejected" in output


async def test_wrong_rows_of_a_file_are_a_table_and_the_others_are_posted(
    settings: Settings, access: dict[str, str], tmp_path: Path
) -> None:
    """Exit 1 while nothing is posted; with --partial the batch's id."""
    file = tmp_path / "titles.xlsx"
    rows = [sheets.row(1), sheets.row(2, valor="1.234"), sheets.row(3)]
    file.write_bytes(sheets.xlsx(*rows))
    post = ("post", "--file", str(file), "--kind", "title_settlement")

    code, table, why = await run(settings, tmp_path, *post, **access)
    done = await run(settings, tmp_path, *post, "--partial", **access)

    assert (code, "1 of 3 rows are wrong: nothing was posted" in why) == (1, True)
    assert all(part in table for part in ("3", "valor", "two ways"))
    assert (done[0], "2 accepted, 1 invalid" in done[1], "valor" in done[1]) == (0, True, True)


async def test_watch_shows_a_posting_from_its_beginning(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """Also when it is over."""
    _, path = arrive(odoo, tmp_path)
    _, output, _ = await run(
        settings, tmp_path, "post", "--xml", path, "--due", DUE, "--no-watch", "--json", **access
    )
    posting_id = json.loads(output)["id"]

    code, output, _ = await run(settings, tmp_path, "watch", posting_id, **access)

    assert code == 0
    assert "accepted" in output.splitlines()[0]


async def test_wrong_input_is_told_by_field(
    settings: Settings, access: dict[str, str], tmp_path: Path
) -> None:
    """On standard error, with exit code 1 and without a traceback."""
    code, _, errors = await run(
        settings, tmp_path, "post", "--key", "123", "--due", "soon", **access
    )

    assert code == 1
    assert "input.due_date" in errors
    assert "Traceback" not in errors


async def test_without_a_key_it_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    """Exit code 2, and the variable that is missing."""
    code, _, errors = await run(settings, tmp_path, "post", "--key", "1", "--due", DUE)

    assert code == 2
    assert "ECLUSA_API_KEY" in errors


async def test_a_service_that_is_not_there_is_exit_code_three(
    settings: Settings, tmp_path: Path
) -> None:
    """And a sentence."""
    access = {"ECLUSA_API_URL": "http://127.0.0.1:9", "ECLUSA_API_KEY": "x"}

    code, _, errors = await run(settings, tmp_path, "watch", "1", **access)

    assert code == 3
    assert "cannot be reached" in errors


async def test_a_connection_is_tested_from_address_to_rights(
    settings: Settings, odoo: Simulator, tmp_path: Path
) -> None:
    """Every check is a line; all is well with the simulator."""
    assert odoo.url

    code, output, _ = await run(settings, tmp_path, "connections", "test", "main")

    assert code == 0
    checks = ["address", "odoo", "database", "login", "rights"]
    assert [check for check in checks if check in output] == checks
    assert "FAIL" not in output


async def test_a_wrong_secret_is_found_by_the_test(
    settings: Settings, odoo: Simulator, tmp_path: Path
) -> None:
    """Exit code 1, and what to check."""
    assert odoo.url
    content = settings.config.read_text(encoding="utf-8")
    content = content.replace('secret = "admin"', 'secret = "wrong"')
    settings.config.write_text(content, encoding="utf-8")

    code, output, _ = await run(settings, tmp_path, "connections", "test", "main")

    assert code == 1
    assert "check the login and the secret" in output


async def test_an_unknown_connection_is_told_with_the_known_ones(
    settings: Settings, odoo: Simulator, tmp_path: Path
) -> None:
    """Exit code 2."""
    assert odoo.url

    code, _, errors = await run(settings, tmp_path, "connections", "test", "nope")

    assert code == 2
    assert "known: main" in errors


async def test_keys_are_made_listed_and_revoked(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """A key is shown once; the list has its name and its beginning."""
    code, secret, _ = await run(settings, tmp_path, "keys", "create", "tms")
    assert code == 0

    _, listed, _ = await run(settings, tmp_path, "keys", "list")

    assert "tms" in listed
    assert secret.strip()[: keys.SHOWN_CHARACTERS] in listed
    assert secret.strip() not in listed

    book = keys.Keys(database)
    [tms] = [key for key in await book.list() if key.name == "tms"]
    assert str(tms.id) in listed
    assert (await run(settings, tmp_path, "keys", "revoke", str(tms.id)))[0] == 0
    assert (await book.get(tms.id)).revoked_at is not None


async def test_a_key_is_made_for_some_scopes_connections_and_days(
    settings: Settings, odoo: Simulator, database: Database, tmp_path: Path
) -> None:
    """What is not there is told with what is; what is left out is all but admin, everywhere."""
    assert odoo.url
    given = ("--scope", "read", "--scope", "post", "--connection", "main", "--days", "7")

    (code, _, _), *wrong = await asyncio.gather(
        run(settings, tmp_path, "keys", "create", "narrow", *given),
        run(settings, tmp_path, "keys", "create", "wrong", "--scope", "all"),
        run(settings, tmp_path, "keys", "create", "wrong", "--connection", "nowhere"),
    )

    assert code == 0
    book = keys.Keys(database)
    narrow = next(key for key in await book.list() if key.name == "narrow")
    assert sorted(narrow.scopes) == ["post", "read"]
    assert narrow.connections == frozenset({"main"})
    assert narrow.expires_at is not None
    assert (narrow.expires_at - narrow.created_at).days in {6, 7}
    assert [code for code, _, _ in wrong] == [2, 2]
    assert "known:" in wrong[0][2]
    usual = (await book.create("usual")).key
    assert sorted(usual.scopes) == ["call", "post", "read", "sync"]
    assert usual.connections is None


async def test_migrate_says_what_it_did(settings: Settings, tmp_path: Path) -> None:
    """A current database stays as it is."""
    code, output, _ = await run(settings, tmp_path, "migrate")

    assert code == 0
    assert "->" in output


async def test_audit_verify_names_what_was_tampered_with(
    settings: Settings,
    odoo: Simulator,
    access: dict[str, str],
    database: Database,
    tmp_path: Path,
) -> None:
    """All chains are whole at first; then the changed record is named, and the command fails."""
    _, path = arrive(odoo, tmp_path)
    _, output, _ = await run(settings, tmp_path, "post", "--xml", path, "--due", DUE, **access)
    posting_id = output.splitlines()[-1].split()[0]

    whole, before, _ = await run(settings, tmp_path, "audit", "verify")
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE audit_record SET actor = 'nobody' WHERE seq = 5"))
    broken, after, _ = await run(settings, tmp_path, "audit", "verify", posting_id)
    as_json, line, _ = await run(settings, tmp_path, "audit", "verify", "--json")

    assert (whole, broken, as_json) == (0, 1, 1)
    assert "1 postings," in before
    assert "all chains are whole" in before
    assert f"{posting_id}  changed  record 5" in after
    verdict = json.loads(line)
    assert (verdict["posting_id"], verdict["valid"]) == (posting_id, False)
    assert verdict["damages"][0]["seq"] == 5


async def test_audit_show_tells_who_did_what(
    settings: Settings, odoo: Simulator, access: dict[str, str], tmp_path: Path
) -> None:
    """A row for each record; as JSON with every field; an unknown posting is refused."""
    _, path = arrive(odoo, tmp_path)
    _, output, _ = await run(settings, tmp_path, "post", "--xml", path, "--due", DUE, **access)
    posting_id = output.splitlines()[-1].split()[0]

    code, table, _ = await run(settings, tmp_path, "audit", "show", posting_id)
    _, lines, _ = await run(settings, tmp_path, "audit", "show", posting_id, "--json")
    missing, _, complaint = await run(settings, tmp_path, "audit", "show", str(uuid4()))

    assert (code, missing) == (0, 2)
    assert "accepted" in table
    assert "claimed by" in table
    records = [json.loads(line) for line in lines.splitlines()]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert (records[0]["actor"], records[-1]["action"]) == ("cli", "complete")
    assert "there is no posting" in complaint
