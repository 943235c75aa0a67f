"""The arrays that pass between packages, one name for each kind."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]  # samples, features, posteriors: shapes are in the docstrings
Doubles = NDArray[np.float64]  # costs, counts, statistics
IntVector = NDArray[np.int32]  # pdf-ids or transition-ids, one for each frame
