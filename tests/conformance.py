"""`make conformance`: the public suites against a platform of their own, with a moto server for S3 and SQS.

`WEIR_CONFORMANCE_DIR` names the folder of the suites (default: `../shared/conformance`); arguments choose
suites and are passed on to pytest, e.g. `make conformance SUITES="lake -k sql"`.
"""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer
from tests.starting import ROOT, started

AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SUITES = ("lake", "engine")


def suites_folder() -> Path:
    # Resolved: behind a link pytest names its tests by another path.
    return Path(os.environ.get("WEIR_CONFORMANCE_DIR", ROOT.parent / "shared" / "conformance")).resolve()


@contextmanager
def environment_of_a_platform() -> Iterator[dict[str, str]]:
    """What the suites are told of a platform that runs for the length of the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = AWS | {"WEIR_AWS_ENDPOINT_URL": f"http://{host}:{port}", "WEIR_DEMO": "0"}
    try:
        with tempfile.TemporaryDirectory() as work, started(Path(work), **settings) as platform:
            yield os.environ | settings | {"WEIR_URL": platform.url}
    finally:
        server.stop()


def command_of(suite: Path, arguments: list[str]) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", str(suite)]
    return [*command, *arguments, "."]


def run(folder: Path, arguments: list[str]) -> int:
    """The worst exit code of the chosen suites."""
    chosen = [argument for argument in arguments if argument in SUITES] or list(SUITES)
    rest = [argument for argument in arguments if argument not in SUITES]
    with environment_of_a_platform() as environment:
        return max(
            subprocess.run(
                command_of(folder / suite, rest), cwd=folder / suite, env=environment, check=False
            ).returncode
            for suite in chosen
        )


if __name__ == "__main__":
    if not suites_folder().is_dir():
        sys.exit(f"There are no suites in {suites_folder()}; set WEIR_CONFORMANCE_DIR")
    sys.exit(run(suites_folder(), sys.argv[1:]))
