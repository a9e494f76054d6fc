"""L2 penalty as a Gaussian prior, and Occam's razor, in exact computations.

MacKay 1992, "Bayesian interpolation" (Neural Computation 4): the evidence of a model.
"""

from typing import Any, Final

import numpy as np
from scipy.stats import multivariate_normal

from logitserve_training.numerics.section import Floats, Section
from logitserve_training.plots import Panel, figure

NOISE: Final = 0.15
"""Standard deviation of the noise."""
PRECISION: Final = 1.0
"""Precision of the prior, 1/τ²: weights have standard deviation 1."""
_DEGREES: Final = np.arange(10)
_X: Final = np.linspace(-1, 1, 12)
_FINE: Final = np.linspace(-1, 1, 401)
_SETS: Final = 200


def measure() -> Section:
    """Fit polynomials to a few points of a cubic, by maximum likelihood and with the prior."""
    sets = truth(_X) + np.random.default_rng(0).normal(0, NOISE, (_SETS, len(_X)))
    rows = []
    for degree in _DEGREES.tolist():
        phi, fine = features(_X, degree), features(_FINE, degree)
        likely, probable = fitted(phi, sets.T, 0.0), fitted(phi, sets.T, PRECISION)
        errors = [phi @ likely - sets.T] + [
            fine @ w - truth(_FINE)[:, None] for w in (likely, probable)
        ]
        evidence = multivariate_normal(cov=covariance(phi)).logpdf(sets).mean()
        rows.append([str(degree), *(np.sqrt(np.mean(e**2)) for e in errors), evidence])
    columns = ("points, without prior", "truth, without prior", "truth, with prior")
    by_degree = np.array([row[1:] for row in rows], dtype=np.float64).T
    phi, fine = features(_X, 9), features(_FINE, 9)
    posterior = phi.T @ np.linalg.solve(covariance(phi), sets[0]) / PRECISION
    curves = {
        "truth": truth(_FINE),
        "most likely (λ = 0)": fine @ fitted(phi, sets[0], 0.0),
        "most probable (prior)": fine @ posterior,
    }

    def points(axes: Any) -> None:
        axes.plot(_X, sets[0], "o", color="black")

    return Section(
        {
            "prior": rows,
            "difference": np.abs(posterior - fitted(phi, sets[0], PRECISION)).max(),
            "sets": _SETS,
            "best_degree": by_degree[3].argmax(),
            "width": (3_000 * 0.01) ** -0.5,
        },
        {
            "prior": figure(
                "A penalty is a prior, and a model can be too flexible",
                Panel(
                    "degree 9 through 12 points", "x", "y",
                    {name: (_FINE, y) for name, y in curves.items()},
                    y_range=(-1.2, 1.2), also=points,
                ),
                Panel(
                    "error", "degree", "root mean square error",
                    {n: (_DEGREES, y) for n, y in zip(columns, by_degree[:3], strict=True)},
                    log="y",
                ),
                Panel(
                    "evidence (far lower below degree 3)", "degree", "log evidence (nats)",
                    {"": (_DEGREES, by_degree[3])},
                    y_range=(by_degree[3].max() - 4, by_degree[3].max() + 0.5),
                ),
            )
        },
    )  # fmt: skip


def truth(x: Floats) -> Floats:
    """Return the cubic."""
    return 1.5 * x**3 - x


def features(x: Floats, degree: int) -> Floats:
    """Return 1, x, x², …: `[n, degree + 1]`."""
    return np.vander(x, degree + 1, increasing=True)


def fitted(phi: Floats, y: Floats, precision: float) -> Floats:
    """Return the weights minimizing Σ(Φw − y)²/2σ² + precision · Σw²/2; y: `[n]` or `[n, sets]`."""
    # One least squares problem: ΦᵀΦ would square the condition number.
    rows = np.concatenate([phi / NOISE, np.eye(phi.shape[1]) * precision**0.5])
    right = np.concatenate([y / NOISE, np.zeros((phi.shape[1], *y.shape[1:]))])
    weights: Floats = np.linalg.lstsq(rows, right, rcond=None)[0]
    return weights


def covariance(phi: Floats) -> Floats:
    """Return the prior predictive covariance of the points, `[n, n]`."""
    return phi @ phi.T / PRECISION + NOISE**2 * np.eye(len(phi))
