from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Gray: TypeAlias = npt.NDArray[np.uint8]

def slopes(ink: Gray) -> tuple[int, float, int]: ...
def strokes(images: Gray) -> npt.NDArray[np.float64]: ...
