#!/bin/sh
# The preflight's facts and verdicts against the real nvidia-smi and libcuda of this machine.
# Needs Python 3.9 and the NVIDIA driver; no Docker, no network, no root, no virtual environment.
# Exit status: 0 everything agrees, 1 something does not, 3 there is no GPU here.
exec python3 "$(dirname "$0")/check.py" "$@"
