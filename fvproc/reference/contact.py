"""The twin's contact models: deflection against position, solved by Newton to the end, nothing kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fvproc._core.settings import Law

_Function = Callable[[np.ndarray], np.ndarray]
_JKR = 3


@dataclass(frozen=True)
class Contact:
    """A contact in lengths: law, compliance B, adhesion a = F_adh/k, the film's reach; see `_core/model.pxd`."""

    law: Law
    compliance: float
    adhesion: float
    reach: float = 0.0

    @property
    def tau(self) -> float:
        """χ = τ·p."""
        return self.reach * self.compliance ** (0.5 * self.law.reach_power) if self.law.film else 0.0

    @property
    def alpha(self) -> float:
        """√a, with its sign."""
        return math.copysign(math.sqrt(abs(self.adhesion)), self.adhesion)

    def _factor(self, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f(χ) of the film and χ·df/dχ."""
        x, series, polynomial = self.tau * root, self.law.series, np.polynomial.polynomial
        f = polynomial.polyval(np.minimum(x, self.law.end), series)
        return f, np.where(x < self.law.end, x * polynomial.polyval(x, polynomial.polyder(series)), 0.0)

    def load(self, root: np.ndarray) -> np.ndarray:
        """F/k + a of a root; F/k with JKR."""
        if self.law.kind == _JKR:
            return root**6 - 2.0 * self.alpha * root**3
        load = root**self.law.load_power
        return load * self._factor(root)[0] if self.law.film else load

    def load_rate(self, root: np.ndarray) -> np.ndarray:
        """Derivative of `load`."""
        if self.law.kind == _JKR:
            return 6.0 * root**5 - 6.0 * self.alpha * root**2
        n = self.law.load_power
        if not self.law.film:
            return n * root ** (n - 1)
        f, x_df = self._factor(root)
        return root ** (n - 1) * (n * f + x_df)

    def shape_rate(self, root: np.ndarray) -> np.ndarray:
        """Derivative of `shape`."""
        if self.law.kind == _JKR:
            return 4.0 * root**3 - 4.0 / 3.0 * self.alpha
        return self.law.depth_power * root ** (self.law.depth_power - 1)

    def shape(self, root: np.ndarray) -> np.ndarray:
        """Indentation over B."""
        if self.law.kind == _JKR:
            return root**4 - 4.0 / 3.0 * self.alpha * root
        return root**self.law.depth_power

    def root_of_load(self, q: np.ndarray) -> np.ndarray:
        """Root at the load q = F/k + a > 0."""
        q = np.maximum(np.asarray(q, float), 0.0)
        if self.law.kind == _JKR:
            return np.cbrt(self.alpha + np.sqrt(q))
        high = q ** (1.0 / self.law.load_power)  # f >= 1
        return _solve(self.load, self.load_rate, q, np.zeros_like(high), high) if self.law.film else high

    @property
    def last_root(self) -> float:
        """Root at which the tip jumps off."""
        if self.law.kind != _JKR or self.alpha <= 0:
            return 0.0

        b, alpha = self.compliance, self.alpha
        high = np.array([alpha ** (1.0 / 3.0)])
        return float(
            _solve(
                lambda u: 6.0 * u * u * (u**3 - alpha) + b * (4.0 * u**3 - 4.0 / 3.0 * alpha),
                lambda u: 30.0 * u**4 - 12.0 * alpha * u + 12.0 * b * u * u,
                np.zeros(1),
                high / 3.0 ** (1.0 / 3.0),
                high,
            )[0]
        )

    @property
    def end(self) -> float:
        """z − z0 at the jump."""
        if self.law.kind != _JKR:
            return -self.adhesion
        last = np.array([self.last_root])
        return float((self.load(last) + self.compliance * self.shape(last))[0])

    def roots(self, travel: np.ndarray | float) -> np.ndarray:
        """Root at z − z0 = `travel`, where that is beyond the jump the last one."""
        travel = np.asarray(travel, float)
        jkr, last = self.law.kind == _JKR, self.last_root
        wanted = np.maximum(travel, self.end) + (0.0 if jkr else self.adhesion)
        b = self.compliance
        high = np.full_like(wanted, max(last, 1e-9))
        while np.any(short := self.load(high) + b * self.shape(high) < wanted):
            high = np.where(short, 2.0 * high, high)
        root = _solve(
            lambda p: self.load(p) + b * self.shape(p),
            lambda p: self.load_rate(p) + b * self.shape_rate(p),
            wanted,
            np.full_like(wanted, last),
            high,
        )
        # the kernel keeps away from where the force of JKR's contact turns round
        return np.maximum(root, 1.02 * last + 1e-9) if jkr else root

    def slope(self, root: np.ndarray) -> np.ndarray:
        """∂d/∂z at a root."""
        load, depth = self.load_rate(root), self.compliance * self.shape_rate(root)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(load + depth > 0, load / (load + depth), 0.0)

    def of_compliance(self, root: np.ndarray) -> np.ndarray:
        """∂d/∂B at a place: through the root, and in a film through χ."""
        in_film: np.ndarray | float = 0.0
        if self.law.film:
            in_film = root**self.law.load_power * self._factor(root)[1] * 0.5 * self.law.reach_power / self.compliance
        return in_film - self.slope(root) * (in_film + self.shape(root))

    def of_adhesion(self, root: np.ndarray) -> np.ndarray:
        """∂d/∂a at a place; ∂d/∂√a with JKR."""
        if self.law.kind == _JKR:
            return -2.0 * root**3 + self.slope(root) * (2.0 * root**3 + 4.0 / 3.0 * self.compliance * root)
        return self.slope(root) - 1.0

    @property
    def end_of(self) -> tuple[float, float]:
        """Derivatives of `end` by B and by a (√a with JKR)."""
        if self.law.kind != _JKR:
            return 0.0, -1.0
        u = self.last_root
        return u**4 - 4.0 / 3.0 * self.alpha * u, -2.0 * u**3 - 4.0 / 3.0 * self.compliance * u

    def deflection(self, travel: np.ndarray | float) -> np.ndarray:
        """F/k at z − z0 = `travel`."""
        load = self.load(self.roots(travel))
        return load if self.law.kind == _JKR else load - self.adhesion


def _solve(f: _Function, rate: _Function, wanted: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Solve f(x) = wanted for a convex, rising f, by Newton's steps from above, until they end."""
    x = np.where(wanted > f(low), high, low)
    for _ in range(100):
        with np.errstate(divide="ignore", invalid="ignore"):
            step = (f(x) - wanted) / rate(x)
        following = np.maximum(np.where(np.isfinite(step), x - step, x), low)
        if not np.any(np.abs(following - x) > 1e-15 * np.abs(x)):
            break
        x = following
    return x
