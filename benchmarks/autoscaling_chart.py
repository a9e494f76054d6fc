"""The chart of the simulated day."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLORS = ("#d97706", "#0d9488", "#2563eb")
DEMAND = "#cbd5e1"
MINUTE, HOUR = 60, 3600
BEFORE, AFTER = 1 * MINUTE, 10 * MINUTE
"""Of the spike's begin, in the charts that show it from near."""


class Course(Protocol):
    """What is drawn of a day, by the second."""

    demand: list[float]
    capacity: list[float]
    refused: list[float]


def draw(
    near: Mapping[str, Course], day: Course, *, replica: float, spike: int, path: Path
) -> None:
    """Replicas against demand.

    Args:
        near: rule → a day, of which the spike is shown.
        day: another one, which is shown from end to end.
        replica: requests/s that one can.
        spike: the second that it begins in.
        path: of the picture.
    """
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplot_mosaic(
        [["near", "day"], ["refused", "day"]], height_ratios=(2.4, 1), width_ratios=(1.2, 1)
    )
    window = slice(spike - BEFORE, spike + AFTER)
    minutes = [second / MINUTE for second in range(-BEFORE, AFTER)]
    demand = next(iter(near.values())).demand[window]
    _demand(axes["near"], minutes, [requests / replica for requests in demand])
    for (name, course), color in zip(near.items(), COLORS, strict=True):
        style: dict[str, Any] = {"color": color, "linewidth": 1.8, "label": name}
        ready = [requests / replica for requests in course.capacity[window]]
        axes["near"].plot(minutes, ready, drawstyle="steps-post", **style)
        lost = [100 * r / d for r, d in zip(course.refused[window], demand, strict=True)]
        axes["refused"].plot(minutes, lost, **style)
    hours = [second / HOUR for second in range(0, len(day.demand), MINUTE)]
    _demand(axes["day"], hours, [requests / replica for requests in day.demand[::MINUTE]])
    ready = [requests / replica for requests in day.capacity[::MINUTE]]
    axes["day"].plot(hours, ready, drawstyle="steps-post", color=COLORS[-1], linewidth=1.8)
    _finish(axes)
    figure.savefig(path, dpi=130)


def _demand(axes: Axes, times: list[float], replicas: list[float]) -> None:
    axes.fill_between(times, replicas, color=DEMAND, linewidth=0, label="demand")


def _finish(axes: Mapping[str, Axes]) -> None:
    titles = {
        "near": "Ready replicas as shipped, and the demand in replicas",
        "refused": "Refused, % of each second's requests",
        "day": "The day at 1,000,000/s, on both",
    }
    for name, title in titles.items():
        axes[name].set_title(title, fontsize=10, loc="left")
        axes[name].spines[["top", "right"]].set_visible(False)
        axes[name].tick_params(labelsize=8)
        axes[name].set_ylim(bottom=0)
        axes[name].margins(x=0.01)
        axes[name].yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes["near"].sharex(axes["refused"])
    axes["near"].tick_params(labelbottom=False)
    axes["near"].legend(facecolor="white", framealpha=1, fontsize=9, loc="lower right")
    axes["refused"].set_xlabel("minutes since the spike began", fontsize=9)
    axes["day"].set_xlabel("hour of the day", fontsize=9)
    axes["day"].set_xticks(range(0, 25, 4))
