import numpy as np
import numpy.typing as npt

def are_normalized(
    images: npt.NDArray[np.uint8], longest: int, tolerance: float, brightest: int
) -> npt.NDArray[np.uint8]: ...
