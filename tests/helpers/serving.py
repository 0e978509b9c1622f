"""`manylabel serve` as a process of its own, for tests that use it as its users do."""

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
    """A running server's URL, without a slash at the end. Ends it as an operator would, and expects it to end well."""
    command = [sys.executable, "-m", "manylabel", "serve", bundle, "--port", 0, *options]
    process = subprocess.Popen(
        [str(each) for each in command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stderr
    said: list[str] = []
    url = None
    for line in process.stderr:
        said.append(line)
        if found := READY.search(line):
            url = found.group()
            break
    if not url:  # it has ended
        process.wait(30)
        process.stderr.close()
    assert url, f"the server did not start: {''.join(said)}"
    drain = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
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
    assert status == 0, "".join(said)
