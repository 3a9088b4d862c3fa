"""The command `eclusa`."""

from __future__ import annotations

import asyncio
import gc
import getpass
import json
import sys
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import httpx
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from service import app as application
from service import connections as configured
from service import (
    documents,
    embedded,
    keys,
    migrations,
    postings,
    progress,
    screen,
    syncs,
    telemetry,
    worker,
    workers,
)
from service.client import ApiClient, ApiError
from service.database import Database
from service.demos import DEMOS
from service.errors import EclusaError, LiveRun, Misconfigured
from service.odoo.client import diagnose
from service.odoo.errors import OdooError
from service.odoo.json2 import Protocol  # noqa: TC001  typer reads the annotation
from service.runtime import open_runtime
from service.settings import Settings
from service.sheets import template as sheet
from service.simulator import app as simulated
from service.simulator import faults
from service.simulator.bulk import BulkOptions
from service.sync.engine import SyncEngine
from service.sync.runs import NewRun, Runs
from service.sync_demo import SyncDemo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine

    from service.posting.chain import Verdict
    from service.posting.ledger import Ledger
    from service.sync.runs import Mode, SyncEvent

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130
NEW_ODOO = 19
VERIFY_PAGE = 1_000

app = typer.Typer(
    no_args_is_help=True,
    help="Posts documents into Odoo in numbered, audited, resumable steps.",
    epilog="Settings come from ECLUSA_… variables; connections from the file ECLUSA_CONFIG.",
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(no_args_is_help=True, help="API keys.")
connections_app = typer.Typer(no_args_is_help=True, help="Connections to Odoo.")
sync_app = typer.Typer(no_args_is_help=True, help="Mirrors of Odoo's rows in PostgreSQL.")
audit_app = typer.Typer(
    no_args_is_help=True, help="What was done, by whom, and whether that was changed."
)
app.add_typer(keys_app, name="keys")
app.add_typer(connections_app, name="connections")
app.add_typer(audit_app, name="audit")
app.add_typer(sync_app, name="sync")

out = Console()
err = Console(stderr=True)


def _collect_less_often() -> None:
    """Look for cycles after 50,000 new objects, not 700, and never in what the imports made.

    Pages of rows are many objects and no cycles: the collector took a third of a sync's time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _run(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a command; known trouble is told in a sentence, not in a traceback."""
    _collect_less_often()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(work)
    except ApiError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(EXIT_FAILED) from error
    except OdooError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(EXIT_FAILED) from error
    except EclusaError as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(EXIT_USAGE) from error
    except httpx.TransportError as error:
        err.print(f"The service cannot be reached: {error}", style="red", markup=False)
        raise typer.Exit(EXIT_UNREACHABLE) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(EXIT_INTERRUPTED) from error
    if code:
        raise typer.Exit(code)


@asynccontextmanager
async def _servers(settings: Settings) -> AsyncIterator[Settings]:
    """Settings with the addresses of the servers; the embedded ones run where none is named."""
    telemetry.configure_logs(settings)
    if settings.database_url and settings.redis_url:
        yield settings
        return
    async with embedded.open_servers(settings.data_dir) as servers:
        here = {
            "database_url": settings.database_url or servers.database_url,
            "redis_url": settings.redis_url or servers.redis_url,
        }
        if servers.owned and settings.database_url is None:
            await migrations.migrate(servers.database_url)
        yield settings.model_copy(update=here)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on")] = None,
    with_worker: Annotated[
        bool | None,
        typer.Option(
            "--worker/--no-worker",
            help="also post documents in this process; by default with the embedded servers only",
        ),
    ] = None,
) -> None:
    """Serve the HTTP API. Without ECLUSA_DATABASE_URL, on embedded servers."""
    given = {"host": host, "port": port}
    settings = Settings().model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    if with_worker is None:
        with_worker = settings.database_url is None
    _run(_serve(settings, with_worker=with_worker))


async def _serve(given: Settings, *, with_worker: bool) -> int:
    async with _servers(given) as settings:
        server = application.server(settings)
        async with asyncio.TaskGroup() as tasks:
            if with_worker:
                tasks.create_task(_work(settings, server.draining), name="worker")
            tasks.create_task(_announce(server), name="announcement")
            await server.serve()
            server.draining.set()
    return 0 if server.started else EXIT_FAILED


async def _announce(server: application.Server) -> None:
    """Print where the server listens, for people and for programs that started it."""
    await server.settled.wait()
    for host, port in server.addresses:
        sys.stdout.write(f"Eclusa at http://{host}:{port}\n")
    sys.stdout.flush()


async def _work(settings: Settings, stopping: asyncio.Event) -> None:
    async with open_runtime(settings) as runtime:
        await worker.run(runtime, stopping)


@app.command("worker")
def work() -> None:
    """Post documents until SIGTERM; start as many of these as are needed, anywhere."""
    _run(_worker(Settings()))


async def _worker(given: Settings) -> None:
    stopping = asyncio.Event()
    async with _servers(given) as settings:
        with worker.stop_signals(stopping):
            await _work(settings, stopping)


@app.command()
def migrate() -> None:
    """Bring the database's schema to this version."""
    _run(_migrate(Settings()))


async def _migrate(given: Settings) -> None:
    async with _servers(given) as settings:
        url = str(settings.database_url)
        before = await migrations.current(url)
        await migrations.migrate(url)
        out.print(f"{before or 'empty'} -> {await migrations.current(url)}")


@app.command()
def openapi(
    check: Annotated[
        Path | None, typer.Option(help="compare with this file; exit 1 when it is not current")
    ] = None,
) -> None:
    """Print the OpenAPI document."""
    document = application.create_app(Settings()).openapi()
    text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if check is None:
        sys.stdout.write(text)
    elif not check.exists() or check.read_text(encoding="utf-8") != text:
        err.print(f"{check} is not current: run `make openapi`", style="red")
        raise typer.Exit(EXIT_FAILED)


@app.command()
def post(
    due: Annotated[str | None, typer.Option(help="due date of a freight bill, YYYY-MM-DD")] = None,
    xml: Annotated[
        Path | None, typer.Option(help="file of the CTe", exists=True, dir_okay=False)
    ] = None,
    key: Annotated[str | None, typer.Option(help="access key, instead of the file")] = None,
    invoice: Annotated[str | None, typer.Option(help="the carrier's invoice number")] = None,
    expense: Annotated[
        str | None, typer.Option(help="your number of the expense, for freight_expense")
    ] = None,
    connection: Annotated[
        str, typer.Option(help="which Odoo", envvar="ECLUSA_CONNECTION")
    ] = "main",
    kind: Annotated[str, typer.Option(help="kind of posting")] = "freight_cte",
    file: Annotated[
        Path | None,
        typer.Option(
            help="many documents: CSV or XLSX, see --template", exists=True, dir_okay=False
        ),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="post the right rows although others are wrong")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="take a file that was accepted before")
    ] = False,
    template: Annotated[
        Path | None,
        typer.Option(
            help="write the header of such a file, and an example, to this one (.xlsx or .csv)",
            dir_okay=False,
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="your own name for the document, or the file")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch/--no-watch", help="show the steps live")] = True,
    plan: Annotated[
        bool, typer.Option("--plan", help="show what would be done, and do nothing")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON only")] = False,
) -> None:
    """Post a freight bill, and watch it. Exit 0 when it completed, 1 when it stopped.

    With --plan: exit 1 when a step is blocked. With --file: exit 1 when nothing was accepted; wrong
    rows are told by line.
    """
    if template is not None:
        _write_template(kind, template)
        return
    if file is not None:
        form = {"kind": kind, "connection": connection, "reference": reference}
        flags = {"partial": partial, "again": again}
        _run(_post_file(Settings(), file, {**form, **flags}, as_json=as_json))
        return
    if due is None:
        raise typer.BadParameter("a freight bill needs --due; many documents come with --file")
    given = {
        "xml": xml.read_text(encoding="utf-8-sig", errors="surrogateescape") if xml else None,
        "access_key": key,
        "due_date": due,
        "carrier_invoice": invoice,
        "expense": expense,
    }
    body = {
        "kind": kind,
        "connection": connection,
        "reference": reference,
        "input": {name: value for name, value in given.items() if value is not None},
    }
    if plan:
        _run(_plan(Settings(), body, as_json=as_json))
    else:
        _run(_post(Settings(), body, follow=follow, as_json=as_json))


def _write_template(kind: str, path: Path) -> None:
    """Write an empty sheet of a kind; it replaces no file."""
    definition = postings.catalog().get(kind)
    if definition is None or not definition.columns:
        raise typer.BadParameter(f"there is no sheet of {kind}; known: {', '.join(_sheet_kinds())}")
    makers = {".xlsx": sheet.xlsx, ".csv": sheet.csv_text}
    if path.suffix.lower() not in makers:
        raise typer.BadParameter("a template ends in .xlsx or .csv")
    try:
        with path.open("xb") as target:
            target.write(makers[path.suffix.lower()](definition.columns))
    except FileExistsError as error:
        raise typer.BadParameter(f"{path} is there already") from error
    out.print(str(path), markup=False)


def _sheet_kinds() -> list[str]:
    return [kind for kind, definition in postings.catalog().items() if definition.columns]


async def _post_file(
    settings: Settings, file: Path, form: dict[str, Any], *, as_json: bool
) -> int | None:
    """Send a file, and show the rows that are wrong in it."""
    content = await asyncio.to_thread(file.read_bytes)
    fields = {name: value for name, value in form.items() if value is not None}
    try:
        async with _client(settings) as client:
            batch = await client.call(
                "POST", "/v1/postings/batch", data=fields, files={"file": (file.name, content)}
            )
    except ApiError as error:
        if as_json or error.problem.get("code") != "invalid_rows":
            raise
        out.print(screen.wrong_rows(error.problem["errors"]))
        err.print(str(error.problem["detail"]), style="red", markup=False)
        return EXIT_FAILED
    if as_json:
        sys.stdout.write(json.dumps(batch, ensure_ascii=False) + "\n")
        return None
    if wrong := [found for item in batch["items"] for found in item["problems"]]:
        out.print(screen.wrong_rows(wrong))
    answers = ", ".join(f"{count} {answer}" for answer, count in batch["answers"].items())
    out.print(f"{batch['id']}  {answers}", markup=False)
    return None


async def _plan(settings: Settings, body: dict[str, Any], *, as_json: bool) -> int | None:
    async with _client(settings) as client:
        planned = await client.call("POST", "/v1/postings/plan", json=body)
    if as_json:
        sys.stdout.write(json.dumps(planned, ensure_ascii=False) + "\n")
    else:
        out.print(screen.plan(planned))
    blocked = any(step["outcome"] == "blocked" for step in planned["steps"])
    return EXIT_FAILED if blocked else None


async def _post(
    settings: Settings, body: dict[str, Any], *, follow: bool, as_json: bool
) -> int | None:
    async with _client(settings) as client:
        posting = await client.call("POST", "/v1/postings", json=body)
        if follow and posting["status"] != "completed":
            return await _watch(client, posting["id"], as_json=as_json)
        _show(posting, as_json=as_json)
        return None


@app.command()
def watch(
    posting_id: Annotated[str, typer.Argument(help="the posting's id")],
    as_json: Annotated[bool, typer.Option("--json", help="print the events as JSON lines")] = False,
) -> None:
    """Show the steps of a posting as they happen. Exit 0 when it completed, 1 when it stopped."""
    _run(_watch_only(Settings(), posting_id, as_json=as_json))


async def _watch_only(settings: Settings, posting_id: str, *, as_json: bool) -> int | None:
    async with _client(settings) as client:
        return await _watch(client, posting_id, as_json=as_json)


async def _watch(client: ApiClient, posting_id: str, *, as_json: bool) -> int | None:
    posting = await client.call("GET", f"/v1/postings/{posting_id}")
    with screen.live(posting, out, as_json=as_json) as show:
        async for event in client.follow(posting_id):
            show(event)
    ended = await client.call("GET", f"/v1/postings/{posting_id}")
    if not as_json:
        _show(ended, as_json=False)
    return None if ended["status"] == "completed" else EXIT_FAILED


def _show(posting: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(posting, ensure_ascii=False) + "\n")
        return
    out.print(f"{posting['id']}  {posting['status']}", markup=False)
    if posting["message"]:
        out.print(f"{posting['code']}: {posting['message']}", markup=False)


def _client(settings: Settings) -> ApiClient:
    if settings.api_key is None:
        raise Misconfigured("set ECLUSA_API_KEY to a key that `eclusa keys create` made")
    return ApiClient(settings.api_url, settings.api_key.get_secret_value())


@app.command()
def simulator(
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one")] = 8069,
    version: Annotated[int, typer.Option(help="17 or 19", min=17, max=19)] = 17,
    documents: Annotated[int, typer.Option(help="CTe documents to begin with", min=0)] = 10,
    sale_lines: Annotated[int, typer.Option(help="lines of sales orders to begin with", min=0)] = 0,
    purchase_lines: Annotated[
        int, typer.Option(help="lines of purchase orders to begin with", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="the same seed, the same documents")] = 1,
    duration: Annotated[
        list[str] | None,
        typer.Option(help="how long a method computes, METHOD=SECONDS; repeatable"),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="a trouble, such as kind=slow,method=action_post,seconds=5; repeatable"),
    ] = None,
) -> None:
    """Serve an Odoo that fits in memory, for trying out and for tests."""
    pairs = [text.rpartition("=") for text in duration or []]
    try:
        settings = simulated.SimulatorSettings(
            port=port,
            version=19 if version == NEW_ODOO else 17,
            documents=documents,
            rows=BulkOptions(sale_lines=sale_lines, purchase_lines=purchase_lines),
            seed=seed,
            durations={name: float(seconds) for name, _, seconds in pairs},
            faults=tuple(faults.from_text(text) for text in fault or []),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    _run(simulated.serve(settings, announce=_announce_simulator))


def _announce_simulator(running: simulated.Simulator) -> None:
    sys.stdout.write(f"simulated Odoo {running.world.version} at {running.url}\n")
    sys.stdout.flush()


@app.command()
def demo(
    kind: Annotated[str, typer.Option(help=f"kind of posting: {', '.join(DEMOS)}")] = "freight_cte",
    keep: Annotated[bool, typer.Option(help="stay up afterwards, until Ctrl-C")] = False,
    documents: Annotated[int, typer.Option(help="additional clean documents", min=0)] = 0,
    protocol: Annotated[
        Protocol, typer.Option(help="of the calls to Odoo: 17 for jsonrpc, 19 for the others")
    ] = "jsonrpc",
) -> None:
    """Post documents into a simulated Odoo, with kills, timeouts and double clicks."""
    if kind not in DEMOS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(DEMOS)}", param_hint="--kind")
    _run(DEMOS[kind](out, keep=keep, more_documents=documents, protocol=protocol).run())


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="who will use it")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                f"what it is for: {', '.join(keys.SCOPES)}; repeatable. admin implies all others; "
                "without this option, the key has all but admin"
            )
        ),
    ] = None,
    connection: Annotated[
        list[str] | None,
        typer.Option(help="which Odoo it is for, repeatable; without it, all there are"),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(help="how long it is valid; without it, until revoked", min=1, max=36_500),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="requests a second; without it, as the service is set", min=0.01),
    ] = None,
) -> None:
    """Make a key and print it, once."""
    for one in set(scope or ()) - set(keys.SCOPES):
        raise typer.BadParameter(f"there is no scope {one!r}; known: {', '.join(keys.SCOPES)}")
    known = _configured(Settings()).names
    for one in set(connection or ()) - set(known):
        raise typer.BadParameter(f"there is no connection {one!r}; known: {', '.join(known)}")
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    async def create(book: keys.Keys) -> None:
        issued = await book.create(
            name,
            scopes=[one for one in keys.SCOPES if one in (scope or keys.DEFAULT_SCOPES)],
            connections=connection or None,
            expires_at=expires_at,
            requests_per_second=rate,
            actor=getpass.getuser(),
        )
        sys.stdout.write(issued.secret + "\n")

    _run(_with_keys(create))


@keys_app.command("list")
def list_keys() -> None:
    """Show whose keys there are, what they allow, and whether they are used."""

    async def show(book: keys.Keys) -> None:
        out.print(screen.keys(await book.list()))

    _run(_with_keys(show))


@keys_app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="the key's id")]) -> None:
    """Refuse a key from now on."""

    async def revoke(book: keys.Keys) -> None:
        await book.revoke(_uuid(key_id), getpass.getuser())

    _run(_with_keys(revoke))


async def _with_keys(use: Callable[[keys.Keys], Awaitable[None]]) -> None:
    async with _servers(Settings()) as settings:
        database = Database(str(settings.database_url))
        try:
            await use(keys.Keys(database))
        finally:
            await database.close()


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an id") from error


@audit_app.command("show")
def show_audit(
    posting_id: Annotated[str, typer.Argument(help="the posting's id")],
    as_json: Annotated[
        bool, typer.Option("--json", help="print every field, a line of JSON for each record")
    ] = False,
) -> None:
    """Show who did what to a posting, oldest first."""
    _run(_show_audit(_uuid(posting_id), as_json=as_json))


async def _show_audit(posting_id: UUID, *, as_json: bool) -> None:
    async with _servers(Settings()) as settings, open_runtime(settings) as runtime:
        await runtime.ledger.get(posting_id)
        records = await runtime.ledger.history(posting_id)
    if as_json:
        for record in records:
            sys.stdout.write(documents.to_json(record.__dict__) + "\n")
    else:
        out.print(screen.audit(records))


@audit_app.command("verify")
def verify_audit(
    posting_id: Annotated[
        str | None, typer.Argument(help="the posting's id; without it, all postings")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print a line of JSON for each posting")
    ] = False,
) -> None:
    """Find audit records that were changed, removed or reordered. Exit 1 when there are any."""
    wanted = None if posting_id is None else _uuid(posting_id)
    _run(_verify_audit(wanted, as_json=as_json))


async def _verify_audit(wanted: UUID | None, *, as_json: bool) -> int | None:
    postings_seen = records = broken = 0
    async with (
        _servers(Settings()) as settings,
        open_runtime(settings) as runtime,
        aclosing(_verdicts(runtime.ledger, wanted)) as verdicts,
    ):
        async for verdict in verdicts:
            postings_seen, records = postings_seen + 1, records + verdict.records
            broken += not verdict.valid
            if as_json:
                sys.stdout.write(screen.verdict_json(verdict) + "\n")
            for damage in () if as_json else verdict.damages:
                out.print(f"{verdict.posting_id}  {damage.kind}  {damage.message}", markup=False)
            if postings_seen % VERIFY_PAGE == 0:
                err.print(f"{postings_seen} postings verified", markup=False)
    if not as_json:
        end = f"broken in {broken} of them" if broken else "all chains are whole"
        out.print(f"{postings_seen} postings, {records} records: {end}", markup=False)
    return EXIT_FAILED if broken else None


async def _verdicts(ledger: Ledger, wanted: UUID | None) -> AsyncGenerator[Verdict]:
    """The verdict on one posting, or on all."""
    if wanted is not None:
        yield await ledger.verify(wanted)
        return
    last: UUID | None = None
    while page := await ledger.ids(last, VERIFY_PAGE):
        for last in page:
            yield await ledger.verify(last)


@sync_app.command("run")
def run_sync(
    name: Annotated[str, typer.Argument(help="a sync, as `eclusa sync list` names them")],
    connection: Annotated[
        str, typer.Option(help="which Odoo", envvar="ECLUSA_CONNECTION")
    ] = "main",
    full: Annotated[
        bool, typer.Option("--full", help="read all rows, not just changed ones")
    ] = False,
    keys: Annotated[
        list[str] | None, typer.Option("--key", help="only the row of this key; may be repeated")
    ] = None,
    accept_removals: Annotated[
        bool, typer.Option("--accept-removals", help="also take many rows away at once")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the run as JSON only")] = False,
) -> None:
    """Bring the table mirror.NAME to what Odoo has. Exit 0 when it is, 1 when the run failed.

    A run that was killed goes on at its page.
    """
    if full and keys:
        raise typer.BadParameter("--full and --key exclude each other")
    mode: Mode = "full" if full else "keys" if keys else "incremental"
    new = NewRun(
        connection=connection,
        name=name,
        mode=mode,
        keys=keys or None,
        actor=getpass.getuser(),
        accept_removals=accept_removals,
    )
    _run(_run_sync(Settings(), new, as_json=as_json))


async def _run_sync(given: Settings, new: NewRun, *, as_json: bool) -> int | None:
    async with _servers(given) as settings, open_runtime(settings) as runtime:
        await runtime.connections.deploy_sync(new.connection, new.name)  # says what is wrong

        async def announce(event: SyncEvent) -> None:
            err.print(screen.sync_event(event), markup=False)
            await runtime.events.publish(progress.run_event(event))

        runs = Runs(runtime.database, _no_queue, announce)
        try:
            run_id = (await runs.start(new)).id
        except LiveRun as live:
            run_id = live.run_id  # goes on with it, unless its worker lives
        worker_name = worker.name()
        async with workers.alive(runtime.database, worker_name, settings.heartbeat / 8):
            engine = SyncEngine(
                runtime.database,
                runs,
                runtime.connections.deploy_sync,
                worker=worker_name,
                silence=settings.heartbeat * 3 / 4,
            )
            await engine.run(run_id)
        ended = await runs.get(run_id)
    if as_json:
        sys.stdout.write(documents.to_json(ended.__dict__) + "\n")
    else:
        out.print(screen.sync(ended), markup=False)
    return None if ended.status == "completed" else EXIT_FAILED


async def _no_queue(*_: Any, **__: Any) -> None:
    """The run is worked on here and now, and taken over by a worker should this process die."""


@sync_app.command("demo")
def demonstrate_sync(
    lines: Annotated[int, typer.Option(help="lines of sales orders", min=1_000)] = 20_000,
) -> None:
    """Mirror a simulated Odoo, change it, mirror the changes, and compare every row.

    Exit 0 when mirror and source are equal, 1 when not.
    """
    _run(SyncDemo(out, lines=lines).run())


@sync_app.command("list")
def list_syncs() -> None:
    """Show the syncs: those that are ready, and those of the configuration file."""
    book = _configured(Settings())
    table = Table("name", "model", "title")
    for name, sync in book.syncs.items():
        table.add_row(name, sync.model, sync.title)
    out.print(table)


def _configured(settings: Settings) -> configured.Connections:
    """What the configuration file says; ends the command when it says something wrong."""
    try:
        config = configured.load(settings.config)
        return configured.Connections(config, postings.catalog(), syncs.catalog())
    except Misconfigured as error:
        err.print(str(error), style="red", markup=False)
        raise typer.Exit(EXIT_USAGE) from error


@connections_app.command("test")
def test_connection(
    name: Annotated[str, typer.Argument(help="a connection of the configuration file")],
) -> None:
    """Say what is wrong with a connection: address, database, login, rights. Exit 1 if anything."""
    _run(_test_connection(Settings(), name))


async def _test_connection(settings: Settings, name: str) -> int | None:
    telemetry.configure_logs(settings)
    book = _configured(settings)
    try:
        findings = await diagnose(book.client(name), book.rights(name))
    finally:
        await book.close()
    for finding in findings:
        sign = "[green]ok[/]  " if finding.ok else "[red]FAIL[/]"
        out.print(f"{sign} {finding.check:9} ", end="")
        out.print(finding.message, markup=False)
    return None if all(finding.ok for finding in findings) else EXIT_FAILED


@connections_app.command("list")
def list_connections() -> None:
    """Show the connections of the configuration file, without secrets."""
    settings = Settings()
    _configured(settings)
    config = configured.load(settings.config)
    table = Table("name", "url", "database", "login", "profiles")
    for name, connection in config.connections.items():
        table.add_row(
            name,
            connection.url,
            connection.database,
            connection.login,
            ", ".join(connection.profiles),
        )
    out.print(table)
