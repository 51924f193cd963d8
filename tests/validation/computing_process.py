"""Computes features in processes that may be killed: each line on standard input is one run.

A line is `DATABASE KILL_AFTER`, the last in seconds or `never`. The program forks, kills the child
when its time is up, and prints how it ended and after how many seconds.
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime

from feature_market import VIEW

from atlas.clickhouse import connect, quarantine
from atlas.materialise import compute_history, history

history.CHUNK_BARS = 700
quarantine._BLOCK_ROWS = 20


def serve(port: int) -> None:
    for line in sys.stdin:
        database, kill_after = line.split()
        began = time.perf_counter()
        child = os.fork()
        if child == 0:
            with connect(port=port, database=database) as client:
                compute_history(client, VIEW, until=datetime(2030, 1, 1, tzinfo=UTC), run="r")
            os._exit(0)
        if kill_after != "never":
            time.sleep(float(kill_after))
            # It may have ended, but it has not been awaited: the number is still its own.
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
