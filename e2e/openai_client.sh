#!/usr/bin/env bash
# Tries an endpoint with the `openai` package from PyPI, as its users do.
#   e2e/openai_client.sh http://127.0.0.1:8080/v1 [API_KEY]
# Exits 0 when every answer was as it should be. The venv stays in target/openai-client for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:?usage: e2e/openai_client.sh BASE_URL [API_KEY]}
venv=target/openai-client
if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
fi
"$venv/bin/python" -c 'import openai' 2>/dev/null || "$venv/bin/pip" install --quiet 'openai>=1.60,<3'
exec "$venv/bin/python" e2e/openai_client.py "$base" "${2:-none}"
