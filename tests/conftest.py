"""One thread a test: the tensors are tiny, and more threads than cores only wait for each other.

ONNX Runtime reports nothing, also where a test imports it before asr_bn.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
