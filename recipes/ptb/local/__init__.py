"""What ``run.py`` is made of: texts, experiments, random search, report."""
