"""How often somebody may ask: buckets in Redis, the limits of the API, and its admission."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis.asyncio import Redis

from service.rates import Rate, Rates
from tests.factories.running import WAIT_SECONDS, problem, running

if TYPE_CHECKING:
    import pytest

    from service.settings import Settings

PATH = "/v1/postings"
SLOW = Rate(per_second=0.01, burst=5)
STORM = Path(__file__).parents[2] / "benchmarks" / "storm.py"
STORM_SECONDS = 60.0


# -- buckets ---------------------------------------------------------------------------------------


async def test_a_bucket_is_shared_and_grants_no_more_than_it_holds(redis: Redis) -> None:
    """Of a hundred requests at one moment, in two processes, as many as the burst are granted."""
    here, there = Rates(redis), Rates(redis)

    quotas = await asyncio.gather(*(one.take("x", SLOW) for one in (here, there) * 50))

    assert Counter(quota.granted for quota in quotas) == {True: 5, False: 95}
    assert min(quota.remaining for quota in quotas) == 0
    assert {quota.wait_seconds for quota in quotas if not quota.granted} == {100}
    assert (await here.take("y", SLOW)).granted


async def test_a_bucket_fills_with_time(redis: Redis) -> None:
    """By the clock of Redis, and never above its burst."""
    rates, rate = Rates(redis), Rate(per_second=50, burst=2)
    assert [(await rates.take("x", rate)).granted for _ in range(3)] == [True, True, False]

    async with asyncio.timeout(WAIT_SECONDS):
        while (await rates.look("x", rate)).remaining != 2:  # noqa: ASYNC110  Redis is polled
            await asyncio.sleep(0.01)

    assert [(await rates.take("x", rate)).granted for _ in range(3)] == [True, True, False]
    assert await redis.pttl("eclusa:rate:x") > 0


async def test_redis_is_asked_once_for_many(redis: Redis) -> None:
    """Those who come while it is asked share the next call."""
    rates = Rates(redis)
    before = int((await redis.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0))

    await asyncio.gather(*(rates.take("x", SLOW) for _ in range(200)))

    after = int((await redis.info("commandstats"))["cmdstat_eval"]["calls"])
    assert after - before <= 2


async def test_a_look_takes_nothing(redis: Redis) -> None:
    """What is in a bucket can be seen without a change."""
    rates = Rates(redis)

    assert [(await rates.look("x", SLOW)).remaining for _ in range(3)] == [5, 5, 5]


async def test_without_redis_each_process_counts_by_itself() -> None:
    """The same rate holds, and nobody is refused because Redis is away."""
    nowhere = Redis.from_url("redis://127.0.0.1:9", socket_connect_timeout=0.2)
    rates = Rates(nowhere)

    granted = [(await rates.take("x", SLOW)).granted for _ in range(7)]
    elsewhere = (await Rates(nowhere).take("x", SLOW)).granted
    await nowhere.aclose()

    assert granted == [True] * 5 + [False] * 2
    assert elsewhere


# -- the API ---------------------------------------------------------------------------------------


def limited(settings: Settings, **values: Any) -> Settings:
    """Settings with lower limits."""
    return settings.model_copy(update=values)


async def test_a_key_that_asks_too_often_is_told_when_to_ask_again(settings: Settings) -> None:
    """429 with the fields that say what it may; another key is not concerned."""
    slow = limited(settings, rate_limit_per_second=0.1, rate_limit_burst=3)
    async with running(slow, with_worker=False) as stage:
        other = (await stage.runtime.keys.create("other")).secret
        answers = [await stage.client.post(PATH, json=stage.body()) for _ in range(5)]
        bearer = {"Authorization": f"Bearer {other}"}
        elsewhere = await stage.client.get(PATH, headers=bearer)

        assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
        assert problem(answers[4], 429)["code"] == "rate_limited"
        assert 1 <= int(answers[4].headers["retry-after"]) <= 10
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"key";q=3;w=30'}
        assert answers[0].headers["ratelimit"] == '"key";r=2;t=10'
        assert answers[4].headers["ratelimit"].startswith('"key";r=0;t=')
        assert elsewhere.status_code == 200
        assert len(elsewhere.json()["items"]) == 3


async def test_a_key_may_have_a_rate_of_its_own(settings: Settings) -> None:
    """It is given when the key is made, and holds in place of the service's."""
    async with running(settings, with_worker=False) as stage:
        wanted = {"name": "slow", "scopes": ["read"], "requests_per_second": 0.5}
        made = (await stage.client.post("/v1/keys", json=wanted)).json()
        headers = {"Authorization": f"Bearer {made['key']}"}

        answers = [await stage.client.get(PATH, headers=headers) for _ in range(3)]
        never = await stage.client.post("/v1/keys", json={**wanted, "requests_per_second": 0})

        assert made["requests_per_second"] == 0.5
        assert [answer.status_code for answer in answers] == [200, 429, 429]
        assert answers[0].headers["ratelimit-policy"] == '"key";q=1;w=2'
        problem(never, 422, "requests_per_second")


async def test_an_address_that_sends_wrong_keys_is_not_listened_to(settings: Settings) -> None:
    """Its next unknown key is not even looked for; a key that was valid here before still is."""
    async with running(limited(settings, refused_keys_per_minute=3), with_worker=False) as stage:
        unused = (await stage.runtime.keys.create("unused")).secret
        assert (await stage.client.get(PATH)).status_code == 200

        async def ask(secret: str | None) -> int:
            headers = {"Authorization": f"Bearer {secret}" if secret else ""}
            return (await stage.client.get(PATH, headers=headers)).status_code

        wrong = [await ask(f"eclusa_{uuid4().hex}") for _ in range(5)]

        assert wrong == [401, 401, 401, 429, 429]
        assert await ask(unused) == 429
        assert await ask(stage.key) == 200
        assert await ask(None) == 401
        refused = await stage.client.get(PATH, headers={"Authorization": "Bearer x"})
        assert problem(refused, 429)["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 20


async def test_a_process_takes_no_more_requests_than_it_holds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is refused at once, but `/healthz`; open event streams take no place."""
    async with running(limited(settings, requests_at_once=2), with_worker=False) as stage:
        posting = await stage.post()
        stream = asyncio.create_task(stage.all_events(posting["id"]))
        await stage.listening(1)
        free, waiting = asyncio.Event(), 0
        page = stage.api.ledger.page

        async def wait(**options: Any) -> Any:
            nonlocal waiting
            waiting += 1
            await free.wait()
            return await page(**options)

        monkeypatch.setattr(stage.api.ledger, "page", wait)
        slow = [asyncio.create_task(stage.client.get(PATH)) for _ in range(2)]
        await stage.until(lambda: waiting == 2)

        refused = await stage.client.post(PATH, json=stage.body())
        healthy = await stage.client.get("/healthz")
        free.set()
        taken = await asyncio.gather(*slow)
        await stage.stop_posting(posting["id"])

        assert problem(refused, 429)["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert healthy.status_code == 200
        assert [answer.status_code for answer in taken] == [200, 200]
        assert (await stream)[-1]["event"] == "end"
        assert len((await stage.client.get(PATH)).json()["items"]) == 1


async def test_a_key_is_looked_for_once_at_a_time(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is no longer remembered costs one query, however many ask with it."""
    async with running(settings, with_worker=False) as stage:
        find, looked = stage.api.keys._find, 0

        async def count(digest: str) -> Any:
            nonlocal looked
            looked += 1
            return await find(digest)

        monkeypatch.setattr(stage.api.keys, "_find", count)
        answers = await asyncio.gather(*(stage.client.get(PATH) for _ in range(20)))

        assert {answer.status_code for answer in answers} == {200}
        assert looked == 1


async def test_a_storm_of_postings_is_held() -> None:
    """The benchmark, smaller: all is answered, nothing fails, and what was accepted is there."""
    storm = await asyncio.create_subprocess_exec(
        *(sys.executable, str(STORM), "--rate", "500", "--seconds", "2"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await asyncio.wait_for(storm.communicate(), STORM_SECONDS)

    assert storm.returncode == 0, printed.decode()
    assert "it held" in printed.decode()
