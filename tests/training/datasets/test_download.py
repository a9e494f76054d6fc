"""Downloads from real servers on loopback that behave badly in the ways that servers do."""

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from logitserve_training.datasets.download import RemoteFile, download
from logitserve_training.errors import DataMissingError
from logitserve_training.progress import Reporter

CONTENT = bytes(range(256)) * 400
FILE = RemoteFile("pictures.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Mirror(BaseHTTPRequestHandler):
    """Serves `content`; the class attributes say how badly."""

    content = CONTENT
    breaks_off: int | None = None
    """How many of the first answers end after half of it."""
    status = 200
    announces_length = True
    requests: list[str]
    """The path of each."""

    def do_GET(self) -> None:
        self.requests.append(self.path)
        self.send_response(self.status)
        if self.announces_length:
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        is_half = len(self.requests) <= (self.breaks_off or 0)
        self.wfile.write(self.content[: len(self.content) // 2] if is_half else self.content)

    def log_message(self, *_: object) -> None:
        pass


Serve = Callable[..., tuple[str, list[str]]]


@contextmanager
def serving(**behavior: object) -> Iterator[tuple[str, list[str]]]:
    requests: list[str] = []
    handler = type("Handler", (Mirror,), behavior | {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", requests
        server.shutdown()
        thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a mirror; gives its address and the list of paths that it is asked for."""
    with ExitStack() as stack:
        yield lambda **behavior: stack.enter_context(serving(**behavior))


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def reporter(log: io.StringIO) -> Reporter:
    return Reporter(Console(file=log))


def test_a_file_is_fetched_once(
    serve: Serve, tmp_path: Path, reporter: Reporter, log: io.StringIO
) -> None:
    mirror, requests = serve()
    folder = tmp_path / "deep" / "cache"
    for _ in range(2):
        download([FILE], [mirror], folder, reporter)
    assert (folder / FILE.name).read_bytes() == CONTENT
    assert requests == ["/pictures.gz"]
    assert "pictures.gz: 0.1 MB" in log.getvalue()


@pytest.mark.parametrize("announces_length", [True, False])
def test_a_transfer_that_breaks_off_is_repeated(
    serve: Serve, tmp_path: Path, reporter: Reporter, *, announces_length: bool
) -> None:
    mirror, requests = serve(breaks_off=1, announces_length=announces_length)
    download([FILE], [mirror], tmp_path, reporter)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert len(requests) == 2


@pytest.mark.parametrize(
    "case",
    [
        ({"content": b"x" * len(CONTENT)}, "its SHA-256 is not"),
        ({"content": CONTENT * 3}, "its SHA-256 is not"),
        ({"status": 404}, "the status is 404"),
        ({"breaks_off": 9}, "peer closed connection"),
    ],
)
def test_the_next_mirror_is_tried(
    serve: Serve,
    tmp_path: Path,
    reporter: Reporter,
    log: io.StringIO,
    case: tuple[dict[str, object], str],
) -> None:
    behavior, reason = case
    bad, _ = serve(**behavior)
    good, _ = serve()
    download([FILE], [bad, good], tmp_path, reporter)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert not list(tmp_path.glob("*.part"))
    assert reason in log.getvalue()


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(
    serve: Serve, tmp_path: Path, reporter: Reporter
) -> None:
    here, _ = serve()
    download([FILE], [here], tmp_path, reporter)
    other = RemoteFile("labels.gz", 10, "0" * 64)
    nowhere = "http://127.0.0.1:1/"
    with pytest.raises(DataMissingError) as caught:
        download([FILE, other], [nowhere], tmp_path, reporter)
    message = str(caught.value)
    assert "fetch labels.gz on a machine with a network" in message
    assert nowhere in message
    assert f"put them into {tmp_path}" in message
    assert "\n" not in message


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, reporter: Reporter) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataMissingError, match=r"cannot write to .*file"):
        download([FILE], ["http://127.0.0.1:1/"], tmp_path / "file" / "cache", reporter)
