#!/usr/bin/env bash
# Build what a release publishes: dist/ (a wheel and the source) and sbom/asr-bn.cdx.json (all that the wheel installs).
set -euo pipefail
cd "$(dirname "$0")/.."
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
rm -rf dist sbom
mkdir sbom
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --disable-pip-version-check build==1.6.1 twine==7.0.0 cyclonedx-bom==7.5.0
"$work/tools/bin/python" -m build --outdir dist .
"$work/tools/bin/twine" check --strict dist/*
python3 -m venv "$work/installed"
"$work/installed/bin/pip" install --quiet --disable-pip-version-check dist/*.whl
"$work/installed/bin/asr-bn" --help > /dev/null
"$work/tools/bin/cyclonedx-py" environment "$work/installed" --pyproject pyproject.toml --output-reproducible \
    --output-file sbom/asr-bn.cdx.json
