"""Events of jobs: live, replayed, and found again whatever Redis loses."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
import socket
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from service import events, jobs
from service.api import stream
from service.events import Event, EventType
from service.posting.ledger import Ledger
from service.posting.step import Actor
from service.simulator.faults import Fault
from tests.factories.processes import command
from tests.factories.running import WAIT_SECONDS, Stage, own_servers, problem, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from service.settings import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

GENERATE = "action_gerar_po_dfe"
AT_ONCE_SECONDS = 6.0
"""Far less than the drain time of 20 s."""

ACTOR = Actor(name="tester")


def ids(told: Sequence[dict[str, Any]]) -> list[int]:
    """The numbers of events."""
    return [event["id"] for event in told]


def counted(last: int, first: int = 1) -> list[int]:
    """All numbers from `first` to `last`."""
    return list(range(first, last + 1))


def path_of(job_id: str) -> str:
    """Where a job's events are."""
    return f"/v1/jobs/{job_id}/events"


async def get_progress(stage: Stage, job_id: str) -> dict[str, Any]:
    """How far a job is."""
    response = await stage.client.get(f"/v1/jobs/{job_id}/progress")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def publish(stage: Stage, job_id: str, event_id: int, **data: Any) -> None:
    """Tell Redis of an event that the database does not have."""
    values = {
        "job_id": job_id,
        "status": "running",
        "step": 3,
        "total_steps": 16,
        "percent": 12,
        "message": "told by Redis",
        "timestamp": dt.datetime.now(dt.UTC).isoformat(),
    }
    event = Event(job_id=UUID(job_id), id=event_id, type=EventType.STEP, data={**values, **data})
    await stage.runtime.events.publish(event)


def silent_ledger(stage: Stage) -> Ledger:
    """A ledger whose records nobody publishes: its process died after each commit."""

    async def silence(*_: object) -> None:
        """Tell nobody."""

    return Ledger(stage.runtime.database, jobs.POSTINGS.enqueue, silence, silence)


@asynccontextmanager
async def following(
    stage: Stage, job_id: str, count: int = 1
) -> AsyncIterator[list[asyncio.Task[list[dict[str, Any]]]]]:
    """Listeners of a job, each a task that answers its events; all listen already."""
    before = stage.api.events.listeners
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stage.all_events(job_id)) for _ in range(count)]
        await stage.listening(before + count)
        yield tasks


# -- live and replayed ---------------------------------------------------------------------------


async def test_a_running_posting_tells_each_step_in_order(working: Stage) -> None:
    """Events 1 to n, none twice, while it runs; the last one is the only `end`."""
    working.simulator.add_fault(Fault(kind="slow", method=GENERATE, seconds=0.3))
    posting = await working.post()

    told = [event async for event in working.events(posting["id"])]

    assert ids(told) == counted(len(told))
    assert [event["event"] for event in told].index("end") == len(told) - 1
    assert (told[0]["action"], told[0]["event"]) == ("accept", "status")
    assert (told[-1]["status"], told[-1]["percent"]) == ("completed", 100)


async def test_events_and_audit_tell_the_same(working: Stage) -> None:
    """Each event has the number, action, step and time of an audit record."""
    posting = await working.post()
    told = await working.finish(posting["id"])

    records = (await working.client.get(f"/v1/postings/{posting['id']}/audit")).json()["items"]

    shared = ("action", "step", "step_name", "attempt", "message", "code", "duration_ms")
    assert [(event["id"], *(event[name] for name in shared)) for event in told] == [
        (record["seq"], *(record[name] for name in shared)) for record in records
    ]


async def test_a_stream_is_one_of_server_sent_events(working: Stage) -> None:
    """Its type, its headers against caches and buffers, and the form of an event."""
    posting = await working.post()
    await working.finish(posting["id"])

    response = await working.client.get(path_of(posting["id"]))

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    retry, first, *_ = response.text.split("\n\n")
    assert retry == "retry: 1000"
    assert [line.split(": ")[0] for line in first.split("\n")] == ["id", "event", "data"]
    assert json.loads(first.split("data: ")[1])["job_id"] == posting["id"]


@pytest.mark.parametrize("last", [0, 1, 5, 32])
async def test_a_listener_goes_on_after_its_last_event(working: Stage, last: int) -> None:
    """`Last-Event-ID: 5` begins at 6, whether Redis has the events or only the database."""
    posting = await working.post()
    count = len(await working.finish(posting["id"]))

    from_redis = await working.all_events(posting["id"], last)
    await working.runtime.redis.flushall()
    from_database = await working.all_events(posting["id"], last)

    assert ids(from_redis) == counted(count, last + 1)
    assert from_database == from_redis


@pytest.mark.parametrize("beyond", [0, 1, 1000])
async def test_nothing_is_left_after_the_end(working: Stage, beyond: int) -> None:
    """204 tells a browser's EventSource not to come back."""
    posting = await working.post()
    count = len(await working.finish(posting["id"]))

    response = await working.client.get(
        path_of(posting["id"]), headers={"Last-Event-ID": str(count + beyond)}
    )

    assert (response.status_code, response.content) == (204, b"")


async def test_a_listener_that_was_ahead_goes_on_with_what_comes(idle: Stage) -> None:
    """A number above all events of a live job is taken for the last one."""
    posting = await idle.post()
    told = asyncio.create_task(idle.all_events(posting["id"], 1000))
    await idle.listening(1)

    await idle.stop_posting(posting["id"])

    assert ids(await told) == [2]


async def test_a_stream_goes_past_the_ends_before_a_resume(idle: Stage) -> None:
    """Only the end with which the posting stands closes the stream."""
    posting = await idle.post()
    await idle.stop_posting(posting["id"])
    await idle.client.post(f"/v1/postings/{posting['id']}/resume")

    async with following(idle, posting["id"]) as [listener]:
        await idle.stop_posting(posting["id"])

    told = listener.result()
    assert [event["action"] for event in told] == ["accept", "rollback", "resume", "rollback"]
    assert [event["event"] for event in told] == ["status", "end", "status", "end"]


# -- what Redis loses ----------------------------------------------------------------------------


async def test_a_replay_with_gaps_in_redis_has_none(working: Stage) -> None:
    """What Redis kept in part is taken from the database in whole."""
    posting = await working.post()
    told = await working.finish(posting["id"])
    key = f"eclusa:{{{posting['id']}}}:events"
    assert await working.runtime.redis.xdel(key, "7-0", "8-0", f"{len(told)}-0") == 3

    assert await working.all_events(posting["id"]) == told


async def test_an_event_that_nobody_published_arrives(idle: Stage) -> None:
    """It is found by comparing with the database."""
    posting = await idle.post()
    async with following(idle, posting["id"]) as [listener]:
        await silent_ledger(idle).roll_back(UUID(posting["id"]), ACTOR)

    assert ids(listener.result()) == [1, 2]


async def test_an_event_after_lost_ones_brings_them_all(idle: Stage) -> None:
    """A listener that sees a gap asks the database; nothing is told twice."""
    posting = await idle.post()
    async with following(idle, posting["id"]) as [listener]:
        silent = silent_ledger(idle)
        await silent.roll_back(UUID(posting["id"]), ACTOR)
        await silent.resume(UUID(posting["id"]), ACTOR)
        await idle.stop_posting(posting["id"])

    assert ids(listener.result()) == [1, 2, 3, 4]


async def test_live_events_arrive_after_redis_was_emptied(idle: Stage) -> None:
    """Its streams begin anew; the listeners stay."""
    posting = await idle.post()
    async with following(idle, posting["id"]) as [listener]:
        await idle.runtime.redis.flushall()
        await idle.stop_posting(posting["id"])

    assert ids(listener.result()) == [1, 2]


async def test_a_posting_is_told_whole_while_redis_goes_and_comes(tmp_path: Path) -> None:
    """Redis stops in the middle of a posting and comes back empty: events 1 to n all the same."""
    async with own_servers(tmp_path) as (servers, settings), running(settings) as stage:
        stage.simulator.add_fault(Fault(kind="slow", method=GENERATE, seconds=0.5))
        posting = await stage.post()
        told: list[dict[str, Any]] = []
        async with asyncio.timeout(WAIT_SECONDS), aclosing(stage.events(posting["id"])) as live:
            async for event in live:
                told.append(event)
                if (event["step"], event["action"]) == (6, "start"):
                    await servers.stop_redis()
                    await servers.start_redis()

    assert ids(told) == counted(len(told))
    assert told[-1]["status"] == "completed"


async def test_live_events_arrive_while_redis_is_away(tmp_path: Path) -> None:
    """The database is enough for listeners that are there and for one that comes."""
    async with (
        own_servers(tmp_path) as (servers, settings),
        running(settings, with_worker=False) as stage,
    ):
        posting = await stage.post()
        async with following(stage, posting["id"]) as [early]:
            await servers.stop_redis()
            async with following(stage, posting["id"]) as [late]:
                await stage.stop_posting(posting["id"])
        found = await get_progress(stage, posting["id"])

    assert ids(early.result()) == ids(late.result()) == [1, 2]
    assert found["status"] == "rolled_back"


# -- listeners -----------------------------------------------------------------------------------


async def readers(stage: Stage) -> set[str]:
    """The connections that wait for events in Redis."""
    clients: Any = await stage.runtime.redis.client_list()
    return {client["id"] for client in clients if client["cmd"] == "xread"}


async def test_many_listeners_share_one_reader(idle: Stage) -> None:
    """50 listeners of one job all hear everything, over one connection that reads from Redis."""
    posting = await idle.post()
    before = await readers(idle)
    async with following(idle, posting["id"], 50) as listeners:
        during = await readers(idle)
        await idle.stop_posting(posting["id"])

    assert during == before
    assert [ids(listener.result()) for listener in listeners] == [[1, 2]] * 50


async def test_a_listener_that_leaves_is_forgotten(idle: Stage) -> None:
    """Nothing is kept for it; the others go on."""
    posting = await idle.post()
    async with following(idle, posting["id"]) as [staying]:
        leaving = asyncio.create_task(idle.all_events(posting["id"]))
        await idle.listening(2)
        leaving.cancel()
        await idle.listening(1)
        await idle.stop_posting(posting["id"])

    assert ids(staying.result()) == [1, 2]
    await idle.listening(0)


class SlowClient:
    """A client with a small buffer that reads only when it is told to."""

    def __init__(self, stage: Stage, job_id: str) -> None:
        self._request = (
            f"GET {path_of(job_id)} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {stage.key}\r\n\r\n"
        )
        parts = urlsplit(stage.url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(0)
        self._address = (parts.hostname, parts.port)

    async def __aenter__(self) -> Self:
        """Ask for the events, and take nothing of the answer."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._address)
        await loop.sock_sendall(self._socket, self._request.encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def read(self) -> bytes:
        """All that the server has sent and sends, until it closes or ends the stream."""
        taken = b""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WAIT_SECONDS):
            while not taken.endswith(b"0\r\n\r\n"):
                part = await loop.sock_recv(self._socket, 1 << 20)
                if not part:
                    break
                taken += part
        return taken


async def flood(stage: Stage, job_id: str, until: Callable[[], bool]) -> None:
    """Publish large events of a job, which fill the buffers on the way, until something is so."""
    number = 1
    async with asyncio.timeout(WAIT_SECONDS):
        while not until():
            number += 1
            await publish(stage, job_id, number, message="x" * 200_000)


async def test_a_slow_listener_is_dropped(idle: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many events wait for it the stream ends, without a gap and without an `end`."""
    monkeypatch.setattr(events, "INBOX_EVENTS", 20)
    posting = await idle.post()
    async with SlowClient(idle, posting["id"]) as client:
        await idle.listening(1)
        [inbox] = idle.api.events._inboxes[UUID(posting["id"])]
        await flood(idle, posting["id"], lambda: inbox.overflowed)

        taken = await client.read()

    numbers = [int(line[4:]) for line in taken.split(b"\n") if line.startswith(b"id: ")]
    assert numbers == counted(numbers[-1])
    assert numbers[-1] == inbox.seen
    assert b"event: end" not in taken
    await idle.listening(0)


async def test_a_listener_that_takes_nothing_is_dropped(
    idle: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept for it, and others hear what happens meanwhile."""
    monkeypatch.setattr(stream, "STALLED_SECONDS", 0.2)
    posting = await idle.post()
    async with SlowClient(idle, posting["id"]):
        await idle.listening(1)

        await flood(idle, posting["id"], lambda: idle.api.events.listeners == 0)

    assert idle.api.events.listeners == 0


# -- the end of the server -----------------------------------------------------------------------


async def test_streams_end_at_once_when_the_server_drains(settings: Settings) -> None:
    """All of them, without an `end` event: their clients go on elsewhere."""
    async with running(settings, with_worker=False) as stage:
        posting = await stage.post()
        async with asyncio.timeout(WAIT_SECONDS), following(stage, posting["id"], 20) as listeners:
            loop = asyncio.get_running_loop()
            told_at = loop.time()
            stage.server.handle_exit(signal.SIGTERM, None)
            told = await asyncio.gather(*listeners)
            took = loop.time() - told_at

    assert all(ids(one) in ([], [1]) for one in told)  # some may not have been told of it yet
    assert took < AT_ONCE_SECONDS


async def test_a_listener_that_takes_nothing_does_not_hold_the_server(settings: Settings) -> None:
    """The server ends without waiting for it until the drain time is over."""
    async with running(settings, with_worker=False) as stage:
        posting = await stage.post()
        async with SlowClient(stage, posting["id"]):
            await stage.listening(1)
            [inbox] = stage.api.events._inboxes[UUID(posting["id"])]
            await flood(stage, posting["id"], lambda: inbox.queue.qsize() > 1)
            loop = asyncio.get_running_loop()
            told_at = loop.time()

            stage.server.handle_exit(signal.SIGTERM, None)
            await stage.until(stage.server.lifespan.shutdown_event.is_set)

    assert loop.time() - told_at < AT_ONCE_SECONDS


async def test_a_process_with_open_streams_ends_on_sigterm(idle: Stage, tmp_path: Path) -> None:
    """Exit code 0 within moments, and the streams have ended in order."""
    posting = await idle.post()
    log = tmp_path / "serve.log"
    async with command(idle.runtime.settings, log, "serve", "--no-worker") as process:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS)
        url = line.decode().split()[-1] + path_of(posting["id"])
        async with idle.client.stream("GET", url) as response:
            chunks = response.aiter_text()
            while "id: 1" not in await anext(chunks):
                pass

            process.terminate()

            rest = [chunk async for chunk in chunks]
            code = await asyncio.wait_for(process.wait(), AT_ONCE_SECONDS)

    assert (code, "".join(rest)) == (0, "")


# -- progress ------------------------------------------------------------------------------------


async def test_progress_is_what_redis_was_told_last(idle: Stage) -> None:
    """A fresh view in Redis is answered without asking the database."""
    posting = await idle.post()
    await publish(idle, posting["id"], 9, percent=55, message="half way")

    found = await get_progress(idle, posting["id"])

    assert (found["job_id"], found["percent"], found["message"]) == (
        posting["id"],
        55,
        "half way",
    )


async def test_progress_does_not_go_back(idle: Stage) -> None:
    """An event that Redis is told late changes nothing."""
    posting = await idle.post()
    await publish(idle, posting["id"], 9, percent=55)
    await publish(idle, posting["id"], 8, percent=50)

    assert (await get_progress(idle, posting["id"]))["percent"] == 55


async def test_a_view_of_redis_that_is_old_is_not_believed(idle: Stage) -> None:
    """Redis may have missed what came after it: the database is asked."""
    posting = await idle.post()
    old = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=11)
    await publish(idle, posting["id"], 9, percent=55, timestamp=old.isoformat())

    found = await get_progress(idle, posting["id"])

    assert (found["status"], found["percent"], found["message"]) == ("pending", 0, "accepted")


async def test_progress_is_the_same_from_redis_and_from_the_database(working: Stage) -> None:
    """Of a completed posting, before and after Redis forgot it."""
    posting = await working.post()
    await working.finish(posting["id"])
    from_redis = await get_progress(working, posting["id"])
    await working.runtime.redis.flushall()

    from_database = await get_progress(working, posting["id"])

    assert from_redis == from_database
    wanted = {"status": "completed", "percent": 100, "total_steps": 16}
    assert wanted.items() <= from_database.items()


async def test_a_job_that_nobody_knows_has_neither_events_nor_progress(idle: Stage) -> None:
    """404, also when Redis holds something of that name."""
    job_id = str(uuid4())

    problem(await idle.client.get(f"/v1/jobs/{job_id}/progress"), 404)
    problem(await idle.client.get(path_of(job_id)), 404)
