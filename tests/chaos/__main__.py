"""`python -m tests.chaos --seed 1 --schedules 300`: play schedules, and say what did not hold.

Prints the seed and the schedule of every violation; `--only N` plays one again. Exit 1 when
anything is wrong. The variable ECLUSA_TEST_BREAK breaks the service on purpose (skip-settle,
skip-fence), to see that this is noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.chaos import breakage, schedule
from tests.chaos.lane import Lane, Zygote, open_zygote
from tests.chaos.verdict import Findings

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS_PER_LANE = 20
"""A deployment is made anew after so many rounds, since its Odoo is searched from end to end."""

MOST_VIOLATIONS = 5


@dataclass
class Score:
    """What came out so far."""

    schedules: int = 0
    documents: int = 0
    violations: int = 0
    findings: Findings = field(default_factory=Findings)

    def line(self) -> str:
        """The last line."""
        broken = len(self.findings.broken_chains)
        return (
            f"chaos: {self.schedules} schedules, {self.documents} documents, "
            f"{len(self.findings.duplicates)} duplicates, {len(self.findings.lost)} lost, "
            f"{len(self.findings.untrue)} untrue states, "
            f"chain {'ok' if not broken else f'broken in {broken} postings'}"
        )


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schedules", type=int, default=20)
    parser.add_argument("--only", type=int, help="play this schedule only")
    parser.add_argument("--lanes", type=int, default=3, help="deployments at one time")
    return parser.parse_args(given)


async def run(arguments: argparse.Namespace, folder: Path) -> Score:
    """Play the schedules on several deployments at one time."""
    numbers = range(arguments.schedules) if arguments.only is None else [arguments.only]
    waiting = list(reversed(numbers))
    score = Score()
    broken = os.environ.get(breakage.VARIABLE, "")
    async with open_zygote() as zygote, asyncio.TaskGroup() as lanes:
        for lane in range(min(arguments.lanes, len(waiting))):
            place = folder / f"lane-{lane}"
            lanes.create_task(_play(arguments.seed, waiting, place, zygote, broken, score))
    return score


async def _play(
    seed: int, waiting: list[int], folder: Path, zygote: Zygote, broken: str, score: Score
) -> None:
    generation = 0
    while waiting and score.violations < MOST_VIOLATIONS:
        version: Literal[17, 19] = 17 if generation % 2 == 0 else 19
        lane = Lane(folder / str(generation), zygote, version, broken)
        async with lane.open():
            for _ in range(min(ROUNDS_PER_LANE, len(waiting))):
                if not waiting or score.violations >= MOST_VIOLATIONS:
                    break
                await _round(seed, waiting.pop(), lane, score)
        generation += 1


async def _round(seed: int, number: int, lane: Lane, score: Score) -> None:
    made = schedule.make(seed, number)
    findings, documents = await lane.play(made)
    findings.untrue += [f"{name} ended by itself" for name in lane.dead()]
    score.schedules += 1
    score.documents += documents
    score.findings.add(findings)
    if findings:
        score.violations += 1
        _say(f"seed {seed}, schedule {number}:", *findings.lines(), made.describe())
    if score.schedules % 20 == 0:
        _say(score.line())


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run, and answer the exit code."""
    arguments = _arguments(sys.argv[1:])
    folder = Path(tempfile.mkdtemp(prefix="eclusa-chaos-"))
    began = time.monotonic()
    score = asyncio.run(run(arguments, folder))
    _say(f"took {time.monotonic() - began:.0f} s")
    if score.findings:
        _say(f"logs in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    _say(score.line())
    return 1 if score.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
