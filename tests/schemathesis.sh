#!/bin/sh
# Sends what schemathesis makes of the description of the API to a service with two workspaces of its own: no answer is a 5xx, and
# none is one that the description does not know. schemathesis is installed into target/schemathesis unless
# WSFLEET_SCHEMATHESIS names it; that takes a Python of 3.12 or newer, which PYTHON may name.
#
#   tests/schemathesis.sh [WSFLEET] [EXAMPLES]
set -eu
cd "$(dirname "$0")/.."
wsfleet=$(realpath "${1:-target/debug/wsfleet}")
examples=${2:-15}
schemathesis=${WSFLEET_SCHEMATHESIS:-$PWD/target/schemathesis/bin/schemathesis}
if [ ! -x "$schemathesis" ]; then
  "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || {
    echo "a Python of 3.12 or newer is needed: name one as PYTHON" >&2
    exit 2
  }
  "${PYTHON:-python3}" -m venv target/schemathesis
  target/schemathesis/bin/pip install --quiet 'schemathesis>=4,<5'
fi
root=$(mktemp -d)
service=
trap 'test -z "$service" || kill "$service" 2>/dev/null || true; rm -rf "$root"' EXIT
mkdir "$root/files" "$root/here"
# Workspaces that are added may only be where nothing is: what happens on those that are there is what is tested.
(cd "$root/here" && exec "$wsfleet" serve --local 2 --port 0 --state-dir "$root/state" --allow-host 192.0.2.1 >"$root/address" 2>"$root/log") &
service=$!
for _ in $(seq 100); do
  [ -s "$root/address" ] && break
  sleep 0.1
done
[ -s "$root/address" ] || { cat "$root/log" >&2; exit 1; }
url=$(sed -n '1s/.* //p' "$root/address")
export WSFLEET_SCHEMATHESIS_ROOT="$root/files" SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH="$PWD/tests" PYTHONDONTWRITEBYTECODE=1
# What it keeps for another time is kept in the temporary folder. The events of the fleet have no end to wait for.
cd "$root"
"$schemathesis" run "$url/openapi.json" --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method \
  --exclude-path /v1/events --max-examples "$examples" --seed 1 --phases examples,coverage,fuzzing --request-timeout 60 --workers 2 \
  --suppress-health-check all --warnings off --max-time "${WSFLEET_SCHEMATHESIS_SECONDS:-120}" --no-color
kill -0 "$service" || { echo "the service has ended" >&2; exit 1; }
