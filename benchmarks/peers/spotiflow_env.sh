#!/usr/bin/env bash
# Make the environment of the peer Spotiflow, .venv-spotiflow beside pyproject.toml: its libraries are not ours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
"${PYTHON:-python3.11}" -m venv .venv-spotiflow
.venv-spotiflow/bin/pip install --quiet 'spotiflow==0.6.5'
.venv-spotiflow/bin/python -c 'import spotiflow, torchvision'  # fails where torch and torchvision do not fit
