"""The project's own commands as processes, ended with the test."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from service.settings import Settings

END_SECONDS = 20.0


def environment(settings: Settings) -> dict[str, str]:
    """The variables that give a process these settings."""
    return {
        **os.environ,
        "ECLUSA_DATABASE_URL": str(settings.database_url),
        "ECLUSA_REDIS_URL": str(settings.redis_url),
        "ECLUSA_CONFIG": str(settings.config),
        "ECLUSA_HEARTBEAT_SECONDS": str(settings.heartbeat_seconds),
        "ECLUSA_LOCK_TTL_SECONDS": str(settings.lock_ttl_seconds),
        "ECLUSA_HOST": "127.0.0.1",
        "ECLUSA_PORT": "0",
    }


@asynccontextmanager
async def command(
    settings: Settings, log: Path, *arguments: str, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `eclusa ARGUMENTS`; its standard error goes to `log`. Killed if it does not end."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "service",
            *arguments,
            env={**environment(settings), **more},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
