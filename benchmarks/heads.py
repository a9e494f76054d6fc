"""What a head costs a request, parsed and found again: `python benchmarks/heads.py`."""

import time
from collections.abc import Callable

import httptools

from logitserve_service.http.known_heads import KnownHeads

CALLS = 100_000
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: image/png\r\n"
    b"Content-Length: 224\r\n\r\n"
)
REQUEST = HEAD + bytes(224)


class Request:
    """What a parser tells of a request, as in a scope."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""

    def on_message_begin(self) -> None:
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        path = httptools.parse_url(self.url).path
        self.scope = {
            "method": "POST",
            "http_version": "1.1",
            "path": path.decode("ascii"),
            "raw_path": path,
            "query_string": b"",
            "headers": self.headers,
        }


def microseconds(call: Callable[[bytes], object]) -> float:
    """CPU time of a call."""
    begun = time.thread_time()
    for _ in range(CALLS):
        call(REQUEST)
    return (time.thread_time() - begun) / CALLS * 1e6


def main() -> None:
    request = Request()
    parser = httptools.HttpRequestParser(request)
    heads = KnownHeads()
    parser.feed_data(REQUEST)
    heads.remember(REQUEST, request.scope)
    print(f"parsed: {microseconds(parser.feed_data):.1f} µs")
    print(f"found again: {microseconds(heads.find):.1f} µs")


if __name__ == "__main__":
    main()
