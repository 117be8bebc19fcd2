#!/bin/sh
# All tests; what fails is run once more, alone. Many tests start processes, kill them and watch what happens within
# seconds: on a machine that is busy with something else such a test may miss its moment, and one defect of a machine
# must not hide what the other thousands of tests say. A real failure fails twice.
# Usage: tests/run.sh PYTHON
set -u
"$1" -m pytest -q
code=$?
# 1 says that tests ran and some failed; anything else (none collected, interrupted, a fault of pytest) stands.
[ $code -eq 1 ] || exit $code
echo
echo "Some tests failed. Once more, these alone; one that passes now depends on the machine's moment: mend it."
exec "$1" -m pytest -q --last-failed --last-failed-no-failures none
