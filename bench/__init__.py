"""Speed and memory, side by side with peers in one run."""

import asr_bn as asr_bn  # first: it keeps ONNX Runtime, the peers' too, from recording and reporting its use
