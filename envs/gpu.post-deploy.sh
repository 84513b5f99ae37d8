#!/usr/bin/env bash
# Runs in the new environment, in the folder of the workflow.
set -euo pipefail
python -m pip install --no-deps --no-build-isolation --editable .
