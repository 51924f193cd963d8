"""A process that forks a child for each run it is asked for, and kills it if told to.

It reads lines of JSON: a Feast configuration, the run's end, how many runs at once, and after how
many seconds to kill them. It answers with their process ids at once, and with how they ended.
"""

import json
import os
import signal
import sys
import time
import warnings
from datetime import datetime

warnings.simplefilter("ignore")


def run(config: dict[str, object], until: str) -> None:
    """Bring the view `quotes` online."""
    from feast import FeatureStore, RepoConfig

    store = FeatureStore(config=RepoConfig(**config))
    store.materialize_incremental(datetime.fromisoformat(until), feature_views=["quotes"])


def main() -> None:
    """Serve until stdin ends."""
    # What a run needs, imported once: it takes seconds.
    import feast  # noqa: F401

    import atlas.offline
    import atlas.online.compute_engine  # noqa: F401

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print("ready", file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        children = []
        for _ in range(asked.get("times", 1)):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    run(asked["config"], asked["until"])
                    status = 0
                except Exception as error:
                    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                finally:
                    os._exit(status)
            children.append(child)
        print(json.dumps(children), file=answers)
        if asked["kill_after_s"] is not None:
            time.sleep(asked["kill_after_s"])
            # They are still ours to kill, ended or not: nobody has waited for them.
            for child in children:
                os.kill(child, signal.SIGKILL)
        print(json.dumps([os.waitpid(child, 0)[1] for child in children]), file=answers)


if __name__ == "__main__":
    main()
