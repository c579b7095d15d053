"""How far a product in the engine's arithmetic may be from the same product in float64."""

import numpy as np

#: Half a unit in the last place of fp16, relative: what one rounding may change.
HALF = 2.0**-11
#: The same of fp32.
SINGLE = 2.0**-24
#: Half the distance of fp16's smallest numbers.
TINY = 2.0**-25


def product(w, x):
    """w @ x in float64, and a bound for each element of the result in fp16.

    Each factor is rounded to fp16 (twice HALF on every term, and the product of both, which the
    factor 1.01 covers; below fp16's normal range TINY instead), sums of n terms are in fp32 (n
    SINGLE), and the result is rounded to fp16 once.
    """
    w, x = np.asarray(w, np.float64), np.asarray(x, np.float64)
    terms = np.abs(w) @ np.abs(x)
    tiny = TINY * (np.abs(w).sum(axis=1, keepdims=True) + np.abs(x).sum(axis=0, keepdims=True))
    inner = terms * (2 * 1.01 * HALF + w.shape[1] * SINGLE) + tiny
    y = w @ x
    return y, inner + (np.abs(y) + inner) * HALF + TINY


def check_product(got, w, x):
    """Fails unless `got` is w @ x within the bound."""
    want, bound = product(w, x)
    error = np.abs(np.asarray(got, np.float64) - want)
    worst = np.unravel_index(np.argmax(error - bound), error.shape)
    assert (error <= bound).all(), f"{worst}: off by {error[worst]}, bound {bound[worst]}"
