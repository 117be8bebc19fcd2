#!/bin/sh
# Makes the environment of the platform from a lock file: `install.sh PYTHON VENV LOCK`.
# Names, versions and hashes come from the lock; where packages come from is pip's own configuration.
set -u
python=$1 venv=$2 lock=$3
log=$venv/install.log

fail() {
    printf 'weir: %s\n' "$1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "Python 3.11 or newer is needed and '$python' was not found; install it or call make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed; $("$python" --version 2>&1) is too old. Call make PYTHON=/path/to/a/newer/python3"

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    printf 'Making the environment in %s\n' "$venv"
    "$python" -m venv --clear "$venv" >/dev/null 2>&1 ||
        fail "Python cannot make an environment here; install its venv module (Debian: apt-get install python3-venv)"
fi

wanted=$(grep -c '^[a-zA-Z0-9].*==' "$lock")
printf 'Installing up to %s packages (%s)\n' "$wanted" "$lock"
if [ -t 1 ]; then end='\r' clear='\033[K'; else end='\n' clear=''; fi
{
    "$venv/bin/python" -m pip install --no-input --progress-bar off --require-hashes --no-deps -r "$lock" 2>&1
    echo "exit $?"
} | tee "$log" | awk -v end="$end" -v clear="$clear" '
    /^Collecting/ { n++; if (end == "\n" && n % 10) next; printf "  %3d %s" clear end, n, $2; fflush() }
    /^Installing collected/ { printf "  unpacking" clear "\n"; fflush() }'
[ "$(tail -n 1 "$log")" = "exit 0" ] || {
    grep -E '^(ERROR|WARNING)' "$log" | tail -n 3 >&2
    fail "The packages could not be installed; is a package index reachable? The whole story is in $log"
}
"$venv/bin/python" -m pip install --no-input -q --no-build-isolation --no-deps -e . >>"$log" 2>&1 ||
    fail "Weir itself could not be installed into $venv; the whole story is in $log"
