"""What people send pictures with: each client as it comes, three different pictures, right answers.

The clients of the Open Inference Protocol are in test_protocol_clients.py and test_grpc.py.
"""

import base64
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.browser import launched
from tests.e2e.conftest import Reference
from tests.e2e.process import Server
from tests.e2e.profiles import ROOT
from tests.tiny_models import png

SECONDS = 120
COUNT = 3
STRICT = "--strict --target es2022 --module nodenext --types node"
PROGRAMS = ROOT / "tests/e2e/clients"
PYTHON = ".venv/protocol-clients/bin/python"
GENERATOR = ".venv/protocol-clients/bin/openapi-python-client"
NODE = ROOT / ".venv/protocol-clients/node/node_modules"


@dataclass(frozen=True, slots=True)
class Row:
    """A client: a shell command; it gets the address and the files, and prints an answer a line."""

    command: str
    program: str = "sh"
    """That must be there."""
    before: tuple[str, ...] = ()
    """Commands that make the client, in a folder with `openapi.json`."""


def each(command: str) -> str:
    """For each file `$f`, with the address `$url`."""
    return f'url=$1; shift; for f in "$@"; do {command} && echo; done'


CLIENTS = {
    "curl": Row(each('curl -fsS -F "file=@$f" $url/predict'), "curl"),
    "curl, offering HTTP/2": Row(each('curl --http2 -fsS -F "file=@$f" $url/predict'), "curl"),
    "curl, packed": Row(
        each(
            'gzip -c "$f" | curl -fsS -H "Content-Encoding: gzip" -H "Content-Type: image/png" '
            "--data-binary @- $url/predict"
        ),
        "curl",
    ),
    "wget": Row(
        each('wget -qO- --header "Content-Type: image/png" --post-file "$f" $url/predict'), "wget"
    ),
    **{
        library: Row(f'{PYTHON} {PROGRAMS}/python_http.py {library} "$@"')
        for library in ("requests", "httpx", "aiohttp")
    },
    "openapi-python-client": Row(
        f'{PYTHON} {PROGRAMS}/python_http.py generated "$@"',
        before=(f"{GENERATOR} generate --path openapi.json --meta none --output-path generated",),
    ),
    "node, fetch": Row(f'node {PROGRAMS}/node_http.mjs fetch "$@"', "node"),
    "node, axios": Row('node node_http.mjs axios "$@"', "npm"),
    "openapi-typescript": Row(
        'node generated.js "$@"',
        "npm",
        before=(
            "node node_modules/openapi-typescript/bin/cli.js openapi.json -o schema.ts",
            f"node node_modules/typescript/bin/tsc {STRICT} generated.ts",
        ),
    ),
    "java": Row(f'java {PROGRAMS}/Http.java "$@"', "java"),
    "go": Row(f'go run {PROGRAMS}/http.go "$@"', "go"),
}


@pytest.fixture(scope="module")
def files(references: dict[str, Reference], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number}.png" for number in range(COUNT)]
    images = references["digits"].images[different(references)]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(png(image))
    return paths


def different(references: dict[str, Reference]) -> list[int]:
    """Pictures with different answers."""
    labels = references["digits"].probabilities.argmax(axis=1)
    return [int(index) for index in np.unique(labels, return_index=True)[1][:COUNT]]


def assert_right(answers: list[str], references: dict[str, Reference]) -> None:
    predictions = [json.loads(answer)["predictions"] for answer in answers]
    found = [list(only["probabilities"].values()) for (only,) in predictions]
    expected = references["digits"].probabilities[different(references)]
    assert len(expected) == COUNT
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.usefixtures("clients")
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client(
    server: Server,
    files: list[Path],
    references: dict[str, Reference],
    tmp_path: Path,
    name: str,
) -> None:
    row = CLIENTS[name]
    if not shutil.which(row.program) or (row.program == "npm" and not NODE.is_dir()):
        pytest.skip(f"{name} is NOT TESTED, for there is no {row.program}")
    (tmp_path / "openapi.json").write_text(server.client.get("/openapi.json").text)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "node_modules").symlink_to(NODE)
    for file in ("node_http.mjs", "generated.ts", "package.json"):
        shutil.copy(PROGRAMS / file, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "GO111MODULE": "off", "no_proxy": "*"}

    def run(command: str, *arguments: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command, name, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for command in row.before:
        run(command)
    assert_right(run(row.command, server.url, *map(str, files)).splitlines(), references)


def test_a_form_of_a_browser(
    server: Server, files: list[Path], references: dict[str, Reference]
) -> None:
    with launched() as browser:
        page = browser.new_page()
        page.goto(server.url)
        answers = page.evaluate(
            """async (files) => {
                const answers = [];
                for (const file of files) {
                    const bytes = Uint8Array.from(atob(file), (c) => c.charCodeAt(0));
                    const form = new FormData();
                    form.append('file', new File([bytes], 'drawn.png', { type: 'image/png' }));
                    const response = await fetch('predict', { method: 'POST', body: form });
                    answers.push(await response.text());
                }
                return answers;
            }""",
            [base64.b64encode(path.read_bytes()).decode() for path in files],
        )
    assert_right(answers, references)
