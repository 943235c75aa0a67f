"""What a recipe shows at its end: ``results.json``, ``figure1.png`` and ``report.html``."""
