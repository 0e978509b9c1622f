"""`manylabel serve` as a separate process, for tests that use it as users do."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY = re.compile(r"https?://[\w.]+:\d+")


@contextmanager
def serving(bundle: Path, *options: object, **environment: str) -> Iterator[str]:
    """Run a server and yield its URL; then send SIGTERM, and check that the server exits with status 0."""
    command = [sys.executable, "-m", "manylabel", "serve", bundle, "--port", 0, *options]
    process = subprocess.Popen(
        [str(each) for each in command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stderr
    log: list[str] = []
    url = None
    for line in process.stderr:
        log.append(line)
        if match := READY.search(line):
            url = match.group()
            break
    if not url:  # the process has exited
        process.wait(30)
        process.stderr.close()
    assert url, f"the server did not start: {''.join(log)}"
    drain = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
    drain.start()
    try:
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(30)
        finally:
            process.kill()
            drain.join(10)
            process.stderr.close()
    assert status == 0, "".join(log)
