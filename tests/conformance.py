"""`make conformance`: the public suites against a platform of their own, with a moto server for S3 and SQS.

`WEIR_CONFORMANCE_DIR` names the folder of the suites (default: `../shared/conformance`); arguments choose
suites and are passed on to pytest, e.g. `make conformance SUITES="lake -k sql"`.
"""

import os
import subprocess
import sys
import tempfile
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
    return Path(os.environ.get("WEIR_CONFORMANCE_DIR", ROOT.parent / "shared" / "conformance"))


def run(folder: Path, arguments: list[str]) -> int:
    """The worst exit code of the chosen suites."""
    chosen = [argument for argument in arguments if argument in SUITES] or list(SUITES)
    rest = [argument for argument in arguments if argument not in SUITES]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = AWS | {"WEIR_AWS_ENDPOINT_URL": f"http://{host}:{port}", "WEIR_DEMO": "0"}
    codes: list[int] = []
    try:
        with tempfile.TemporaryDirectory() as work, started(Path(work), **settings) as platform:
            environment = os.environ | settings | {"WEIR_URL": platform.url}
            for suite in chosen:
                command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
                command += ["--rootdir", str(folder / suite), *rest, "."]
                codes.append(
                    subprocess.run(command, cwd=folder / suite, env=environment, check=False).returncode
                )
    finally:
        server.stop()
    return max(codes)


if __name__ == "__main__":
    if not suites_folder().is_dir():
        sys.exit(f"There are no suites in {suites_folder()}; set WEIR_CONFORMANCE_DIR")
    sys.exit(run(suites_folder(), sys.argv[1:]))
