"""Coverage-guided fuzzing of everything that parses bytes from outside: ``python -m fuzz.run TARGET``.

A target is a function ``target(data: bytes) -> None`` that raises nothing, whatever the bytes: it catches the
one error that its parser documents.  Each ``targets_AREA.py`` lists its own in ``TARGETS``, and
``corpus/TARGET/`` holds small files of ours to begin with.  The tests run those, too.
"""
