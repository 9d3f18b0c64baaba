from numpy import ndarray

from fvproc._core.settings import KernelSettings
from fvproc.volume import RawTile

FLAGS: dict[str, int]

def record_layout() -> tuple[dict[str, int], int]: ...
def fit(raw: RawTile, settings: KernelSettings, fatal: ndarray, records: ndarray) -> None: ...
def explain(
    raw: RawTile, settings: KernelSettings, fatal: ndarray, records: ndarray
) -> tuple[list[tuple[ndarray, ndarray]], ndarray, ndarray]: ...
