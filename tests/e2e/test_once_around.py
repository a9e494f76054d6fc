"""The example of docs/monitoring.md: each line as it is written."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

from tests.e2e.metrics import wait_until
from tests.e2e.process import clean_environment, running

GUIDE = (Path(__file__).parents[2] / "docs/monitoring.md").read_text().partition("## Example")[2]
COLORS = {"ripe": (200, 60, 50), "unripe": (70, 150, 60)}


def fruit(kind: str, generator: np.random.Generator) -> Image.Image:
    """A disk of its color on gray."""
    image = Image.new("RGB", (24, 24), (120, 110, 100))
    left, top = generator.uniform(2, 9, 2)
    size = generator.uniform(9, 13)
    color = tuple(int(level + generator.normal(0, 15)) for level in COLORS[kind])
    ImageDraw.Draw(image).ellipse((left, top, left + size, top + size), fill=color)
    noisy = np.asarray(image, np.float64) + generator.normal(0, 6, (24, 24, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write(folder: Path, count: int, *, swapped: bool = False) -> None:
    """Pictures of both kinds; of a camera that swaps red and blue."""
    generator = np.random.default_rng(count)
    for kind in COLORS:
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            image = fruit(kind, generator)
            if swapped:
                image = Image.merge("RGB", image.split()[::-1])
            image.save(folder / kind / f"{number}.png")


def test_once_around(tmp_path: Path) -> None:
    train, then = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    (ask,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    *train, serve = train.splitlines()
    write(tmp_path / "pictures", 60)
    write(tmp_path / "new-pictures", 80, swapped=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(script: str, **environment: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=clean_environment(PATH=path, **environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("\n".join(train))
    options = shlex.split(serve)[2:]
    options[options.index("answers.db")] = str(tmp_path / "answers.db")
    with running("--models", str(tmp_path / "models"), *options) as server:
        (tmp_path / "ask.py").write_text(ask.replace("http://localhost:8000", server.url))
        run("python ask.py")
        told = run(then, LOGITSERVE_URL=server.url)
        assert "accepted 160" in told
        assert "ALARM: it is below that" in told
        assert "worse than its card states" in told
        assert "no estimate without labels: the margins" in told
        assert "mine/2 is better" in told
        rollout = json.loads(run("logitserve models rollout mine --json"))
        assert rollout["live"] == "2"

        def answer(file: Path) -> dict[str, Any]:
            url = f"{server.url}/models/mine/predict"
            return dict(httpx.post(url, content=file.read_bytes(), timeout=30).json())

        files = sorted((tmp_path / "new-pictures").glob("*/*.png"))
        wait_until(lambda: answer(files[0])["version"] == "2")
        right = [answer(file)["predictions"][0]["label"] == file.parent.name for file in files]
        assert np.mean(right) > 0.9
