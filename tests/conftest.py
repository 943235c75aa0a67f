"""One thread a test: the tensors are tiny, and more threads than cores only wait for each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
