"""`python -m service.simulator`: an Odoo in memory, on a port."""

from __future__ import annotations

import argparse
import asyncio
import sys

from service.simulator import faults
from service.simulator.app import Simulator, SimulatorSettings, serve
from service.simulator.bulk import BulkOptions

BULK = {
    "sale_lines": "how many lines of sales orders to start with",
    "purchase_lines": "how many lines of purchase orders to start with",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    defaults = SimulatorSettings()
    command = argparse.ArgumentParser(prog="python -m service.simulator", description=__doc__)
    command.add_argument("--host", default=defaults.host)
    command.add_argument("--port", type=int, default=defaults.port, help="0 takes a free one")
    command.add_argument("--version", type=int, choices=(17, 19), default=defaults.version)
    command.add_argument("--database", default=defaults.database)
    command.add_argument("--login", default=defaults.login)
    command.add_argument("--password", default=defaults.password)
    command.add_argument("--documents", type=int, default=0, help="how many CT-e to start with")
    command.add_argument("--seed", type=int, default=defaults.seed, help="which CT-e")
    for name, what in BULK.items():
        command.add_argument(f"--{name.replace('_', '-')}", type=int, default=0, help=what)
    command.add_argument("--no-keep-alive", action="store_true", help="HTTP/1.0, then close")
    command.add_argument(
        "--duration",
        action="append",
        default=[],
        metavar="METHOD=SECONDS",
        help="how long a method computes",
    )
    command.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="kind=KIND,model=MODEL,method=METHOD,seconds=N",
        help=f"kinds: {', '.join(faults.KINDS)}",
    )
    return command


def settings_of(arguments: argparse.Namespace) -> SimulatorSettings:
    """Return the settings that a command line asks for; ValueError when it makes no sense."""
    pairs = (text.rpartition("=") for text in arguments.duration)
    return SimulatorSettings(
        host=arguments.host,
        port=arguments.port,
        version=arguments.version,
        database=arguments.database,
        login=arguments.login,
        password=arguments.password,
        documents=arguments.documents,
        rows=BulkOptions(**{name: getattr(arguments, name) for name in BULK}),
        seed=arguments.seed,
        keep_alive=not arguments.no_keep_alive,
        durations={name: float(seconds) for name, _, seconds in pairs},
        faults=tuple(faults.from_text(text) for text in arguments.fault),
    )


def announce(simulator: Simulator) -> None:
    """Print where the simulator listens, for people and for programs that started it."""
    sys.stdout.write(f"simulator of Odoo {simulator.world.version} at {simulator.url}\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM."""
    command = parser()
    arguments = command.parse_args(argv)
    try:
        settings = settings_of(arguments)
    except ValueError as error:
        command.error(str(error))
    asyncio.run(serve(settings, announce=announce))


if __name__ == "__main__":
    main()
