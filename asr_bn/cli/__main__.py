"""``python -m asr_bn.cli VERB``: what ``asr-bn VERB`` is, for launchers that start a module."""

from asr_bn.cli.main import main

main()
