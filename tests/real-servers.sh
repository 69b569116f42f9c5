#!/usr/bin/env bash
# real-servers.sh [DIRECTORY]
#
# Installs real OpenHands agent servers below DIRECTORY (default: target/real-servers), each in a virtual environment
# of its own: 1.58.0 and 1.40.0. What they depend on is pinned too, in tests/support/openhands-*.txt. Does nothing for one
# that is complete already. Prints a line for each on stdout:
#
#     1.58.0 DIRECTORY/1.58.0/bin/python
#
# Needs a Python >= 3.12 and a package index (pip's own settings apply). If either is missing it says so on stderr
# and exits 3. `cargo test --test conformance` finds the servers in target/real-servers, or where WSFLEET_REAL_SERVERS says.
set -u

here=$(cd "$(dirname "$0")" && pwd) || exit 2

fail() {
    {
        echo
        echo "****************************************************************"
        echo "*** real-servers.sh: NO REAL AGENT SERVERS"
        echo "*** $1"
        echo "****************************************************************"
        [ -n "${2:-}" ] && [ -s "$2" ] && tail -n 20 "$2"
    } >&2
    exit 3
}

[ $# -le 1 ] || { echo "usage: $0 [DIRECTORY]" >&2; exit 2; }
directory=${1:-$here/../target/real-servers}
mkdir -p "$directory" || fail "cannot create the directory $directory"
directory=$(cd "$directory" && pwd) || fail "cannot enter the directory $directory"

python_ok() {
    [ -n "$1" ] && [ -x "$1" ] &&
        "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

find_python() {
    # 3.13 and 3.12 are known to work, so they come before anything newer; pyenv's too.
    for name in python3.13 python3.12; do
        candidate=$(command -v "$name" 2>/dev/null) || continue
        python_ok "$candidate" && { echo "$candidate"; return 0; }
    done
    for pattern in '3.13*' '3.12*' '*'; do
        # shellcheck disable=SC2086
        for candidate in "${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}"/versions/$pattern/bin/python; do
            python_ok "$candidate" && { echo "$candidate"; return 0; }
        done
    done
    for name in python3 python; do
        candidate=$(command -v "$name" 2>/dev/null) || continue
        python_ok "$candidate" && { echo "$candidate"; return 0; }
    done
    return 1
}

log=$(mktemp) || fail "cannot create a temporary file"
trap 'rm -f "$log"' EXIT
python=

# Left to itself it asks the network in a thread while it is imported, and what the thread says of a failure can break
# the import.
loads() {
    for try in 1 2 3; do
        LITELLM_LOCAL_MODEL_COST_MAP=True "$1/bin/python" -c 'import openhands.agent_server.bash_router' >"$log" 2>&1 && return 0
    done
    return 1
}

make_server() {
    version=$1
    pins=$here/support/openhands-$version.txt
    venv=$directory/$version
    stamp=$venv/.pins
    if [ -x "$venv/bin/python" ] && cmp -s "$pins" "$stamp"; then
        echo "$version $venv/bin/python"
        return 0
    fi
    if [ -z "$python" ]; then
        python=$(find_python) || fail "no Python >= 3.12 found (looked for python3.13 and python3.12 on PATH, then for pyenv's, then for python3)"
    fi
    echo "real-servers.sh: installing $version into $venv with $python" >&2
    "$python" -m venv --clear "$venv" >"$log" 2>&1 || fail "could not create the environment $venv" "$log"
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins" >"$log" 2>&1; then
        fail "could not install $version (the end of what pip said follows)" "$log"
    fi
    loads "$venv" || fail "$version is installed but does not load" "$log"
    cp "$pins" "$stamp" || fail "cannot write $stamp"
    echo "$version $venv/bin/python"
}

make_server 1.58.0
make_server 1.40.0
