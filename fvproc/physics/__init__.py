"""The contact models: force over indentation, and the load on a cantilever over its travel, with derivatives.

Coordinates of the cantilever, lengths in m: q = P/k is the contact's load P = F + F_adh over the spring constant,
r = F_adh/k the reach of the adhesion, c = z − z0 + r the travel. The indentation is δ = z − z0 − F/k, so that
c = q + δ. A half space without adhesion of its own is δ = B·q^(1/m), with the compliance B = (k/K)^(1/m) in
m^(1 − 1/m), from P = K·δ^m. The deflection is q − r; with the derivatives of `Response`, ∂q/∂z0 = −by_travel and
∂q/∂F_adh = (by_travel + by_reach)/k.
"""

from fvproc.physics.contact import (
    EXPONENT,
    Numbers,
    Response,
    compliance,
    confinement,
    contact_force,
    film_coefficients,
    film_factor,
    film_load,
    load,
    prefactor,
    reduced_modulus,
)
from fvproc.physics.jkr import (
    jkr_contact,
    jkr_jump,
    jkr_load,
)
from fvproc.physics.layer import film_factor_solved, solved_coefficients
from fvproc.physics.validity import (
    EQUILIBRIUM_DISTANCE,
    film_holds,
    film_limit,
    paraboloid_excess,
    tabor_parameter,
    work_of_adhesion,
)

__all__ = [
    "EQUILIBRIUM_DISTANCE",
    "EXPONENT",
    "Numbers",
    "Response",
    "compliance",
    "confinement",
    "contact_force",
    "film_coefficients",
    "film_factor",
    "film_factor_solved",
    "film_holds",
    "film_limit",
    "film_load",
    "jkr_contact",
    "jkr_jump",
    "jkr_load",
    "load",
    "paraboloid_excess",
    "prefactor",
    "reduced_modulus",
    "solved_coefficients",
    "tabor_parameter",
    "work_of_adhesion",
]
