#!/bin/sh
# Resolves pyproject.toml anew into the two lock files: names, versions and hashes, no addresses.
set -eu
python=$1
"$python" -m pip install -q uv
for extra in '' dev; do
    "$python" -m uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
        ${extra:+--extra "$extra"} pyproject.toml \
        -o "deploy/requirements${extra:+-$extra}.lock"
done
