import numpy as np
import numpy.typing as npt

def unfilter(data: bytes, rows: npt.NDArray[np.uint8], first: int, step: int) -> None: ...
