"""The durations of the steps of a request."""

from dataclasses import dataclass


@dataclass(slots=True)
class Timing:
    """Seconds of each step of a request, from the queue to the response body."""

    preprocessing: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    output: float = 0.0

    def add(self, other: "Timing") -> None:
        """Add the durations of another part of the request."""
        self.preprocessing += other.preprocessing
        self.queue += other.queue
        self.inference += other.inference
        self.output += other.output


_LINE = b"server-timing: decode;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f\r\n"


def server_timing(timing: Timing) -> bytes:
    """Return the header line `Server-Timing` (W3C Server Timing), in milliseconds."""
    milliseconds = timing.preprocessing * 1000, timing.queue * 1000, timing.inference * 1000
    return _LINE % milliseconds
