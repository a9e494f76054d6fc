"""Hunt: `python -m tests.hunt [--seconds 3600] [--first 0]`, or as a part of `make fuzz`.

Inputs of each kind are sent to a real server, alone and in twenties. It prints what it found: the
name of an input holds its number, from which `tests/hunt/cases.py` makes it again.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from tests.e2e.process import Server, running
from tests.hunt import cases
from tests.hunt.clients import Case, Outcome, send
from tests.hunt.watch import MIB, Lingering, Memory, Probes

MODELS = Path(__file__).parents[2] / "models"
TIMEOUTS = (
    *("--header-timeout-seconds", "2", "--body-timeout-seconds", "2"),
    *("--keep-alive-seconds", "1", "--request-timeout-ms", "10000"),
)
CONNECTION_SECONDS = 25.0
"""All of these one after the other, five for a client that goes on sending, and some to spare."""
FREE_BYTES = 64 * MIB
BYTES_PER_BYTE = 8
DECODED_BYTES = 256 * MIB
PROBE_SECONDS = 0.5
MANY = 20
SETTLE_SECONDS = 10
KEPT_BYTES = 64 * MIB
"""In the end, when memory has been trimmed."""
DECODED = ("--max-decoded-bytes", f"{DECODED_BYTES}")
"""Of the option."""

Round = Sequence[Case]
"""Cases that are sent at the same time."""


@dataclass
class Hunt:
    """A server that is hunted, and what was found."""

    server: Server
    memory: Memory
    probes: Probes
    lingering: Lingering
    addresses: dict[str, tuple[str, int]]
    pool: ThreadPoolExecutor
    statuses: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    """What came closest to its limit: a share of it, and which case it was."""
    logged: int = 0

    def send(self, cases: Round) -> None:
        """Send them; a late probe counts when it is late again, as the machine may be busy."""
        if self._sent(cases) and self._sent(cases):
            self._find(cases, f"a probe took {self.probes.longest:.2f} s")
        for name in self.lingering.overdue():
            self.findings.append(f"{name}: the connection is open after {CONNECTION_SECONDS:g} s")
        self._check_log(cases)

    def _sent(self, cases: Round) -> bool:
        """Send them and hold everything but probes against its limit; whether one was late."""
        before = self.memory.resident()
        self.memory.begin()
        self.probes.begin()
        outcomes = list(self.pool.map(send, cases, [self.addresses] * len(cases)))
        self.probes.wait()
        late = self.probes.longest
        grown = self.memory.peak() - before
        sent = sum(outcome.sent for outcome in outcomes)
        allowed = FREE_BYTES + BYTES_PER_BYTE * sent
        allowed += DECODED_BYTES * any(case.decodes for case in cases)
        if grown > allowed:
            self._find(cases, f"{grown / MIB:+.0f} MiB for {sent:,} bytes sent")
        self._note("memory", grown / allowed, f"{_named(cases)}: {grown / MIB:+.0f} MiB, {sent:,}")
        self._note("probe", late / PROBE_SECONDS, f"{_named(cases)}: {late * 1000:.0f} ms")
        for case, outcome in zip(cases, outcomes, strict=True):
            self._keep(case, outcome)
        return late > PROBE_SECONDS

    def _keep(self, case: Case, outcome: Outcome) -> None:
        self.statuses.update(outcome.statuses)
        if "500" in outcome.statuses or "not HTTP" in outcome.statuses:
            self._find([case], f"answered {outcome.statuses}")
        if outcome.connection is not None:
            self.lingering.add(case.name, outcome.connection)

    def _check_log(self, cases: Round) -> None:
        new = self.server.log[self.logged :]
        self.logged += len(new)
        if any("Traceback" in line or "unexpected error" in line for line in new):
            self._find(cases, f"the log has\n{''.join(new)[:3000]}")
        if self.server.process.poll() is not None:
            raise RuntimeError(f"the server ended after {_named(cases)}: {self.server.log[-20:]}")

    def _find(self, cases: Round, what: str) -> None:
        self.findings.append(f"{_named(cases)}: {what}")

    def _note(self, limit: str, share: float, what: str) -> None:
        self.worst[limit] = max(self.worst.get(limit, (0.0, "")), (share, what))


def _named(cases: Round) -> str:
    return cases[0].name if len(cases) == 1 else f"{len(cases)} × {cases[0].name}"


@contextmanager
def hunting() -> Iterator[Hunt]:
    """A server with the default limits of sizes, and short ones of time."""
    options = (*TIMEOUTS, *DECODED)
    with (
        running("--models", str(MODELS), "--grpc-port", "0", *options) as server,
        ThreadPoolExecutor(MANY) as pool,
        Probes(server).asking() as probes,
    ):
        host, port = server.grpc_address.split(":")
        addresses = {"http": server.address, "grpc": (host, int(port))}
        lingering = Lingering(server, CONNECTION_SECONDS)
        hunt = Hunt(server, Memory(server), probes, lingering, addresses, pool)
        for round_ in list(rounds(0))[:24]:  # warm up
            hunt._sent(round_)
        hunt.findings.clear()
        hunt.worst.clear()
        before = hunt.memory.resident()
        yield hunt
        for name in lingering.finish():
            hunt.findings.append(f"{name}: the connection is never closed")
        ending = time.monotonic() + SETTLE_SECONDS
        while (grown := hunt.memory.resident() - before) > KEPT_BYTES:
            if time.monotonic() < ending:
                time.sleep(0.1)
                continue
            hunt.findings.append(f"{grown / MIB:+.0f} MiB stay after all")
            break


def known() -> Iterator[Round]:
    """What once cost too much, alone and in twenties."""
    pictures = cases.large_pictures()
    for case in chain(cases.known(), pictures):
        yield [case]
        yield [case] * MANY


def rounds(number: int) -> Iterator[Round]:
    """A case of each kind, alone and in twenties; of images, twenty different ones."""
    for kind, make in cases.KINDS.items():
        if kind == "picture":
            yield [make(number * MANY + index) for index in range(MANY)]
        else:
            case = make(number)
            yield [case]
            yield [case] * MANY


def _print(findings: Sequence[str]) -> None:
    for finding in findings:
        print(f"FOUND: {finding}", flush=True)


def report(hunt: Hunt, sent: int) -> None:
    print(f"{sent} rounds; {dict(hunt.statuses.most_common())}")
    for limit, (share, what) in hunt.worst.items():
        print(f"closest to the limit of {limit}: {share:.0%}, {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", default="", help="a part of the names of what is sent")
    asked = parser.parse_args()
    ending = time.monotonic() + asked.seconds
    endless: Iterable[Round] = chain.from_iterable(rounds(number) for number in count(asked.first))
    sent = 0
    with hunting() as hunt:
        for round_ in chain(known(), endless):
            if time.monotonic() > ending:
                break
            if asked.only in round_[0].name:
                found = len(hunt.findings)
                hunt.send(round_)
                sent += 1
                _print(hunt.findings[found:])
        found = len(hunt.findings)
    _print(hunt.findings[found:])
    report(hunt, sent)
    return 1 if hunt.findings else 0


if __name__ == "__main__":
    sys.exit(main())
