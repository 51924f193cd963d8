"""Computes regimes in processes that may be killed: each line on standard input is one run.

A line is `DATABASE BLOBS KILL_AFTER`, the last in seconds or `never`. The program forks, kills the
child when its time is up, and prints how it ended and after how many seconds.
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from regime_market import VIEW

from atlas.clickhouse import connect
from atlas.engines import JumpModel
from atlas.materialise import compute_regimes
from atlas.registry import BlobStore


def serve(port: int) -> None:
    for line in sys.stdin:
        database, blobs, kill_after = line.split()
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            with connect(port=port, database=database) as client:
                until = datetime(2030, 1, 1, tzinfo=UTC)
                compute_regimes(client, VIEW, blobs=BlobStore(Path(blobs)), until=until, run="r")
            os._exit(0)
        if kill_after != "never":
            time.sleep(float(kill_after))
            # It may have ended, but it has not been awaited: the number is still its own.
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    # Kernels that a child would load anew belong to its parent.
    JumpModel(2, 1.0, n_starts=1).fit(np.arange(8.0)[:, None]).stream().update([0.0])
    serve(int(sys.argv[1]))
