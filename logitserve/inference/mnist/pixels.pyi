import numpy as np
from numpy.typing import NDArray

def total(image: NDArray[np.uint8]) -> int: ...
