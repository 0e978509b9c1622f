"""Makes a process crash on certain texts, as from a fault in native code, when this folder is on its path.

`KILL` in a text kills the process, `RAISE` raises MemoryError, `ONCE` kills the first process that reads it, and for
`SHORT` the first batch raises OutOfMemory; the file that `MANYLABEL_TEST_ONCE` names exists from then on.
"""

import os
import signal
from typing import Any

try:
    from manylabel.errors import OutOfMemory
    from manylabel.inference.tokenizer import Tokenizer
except ImportError:
    pass
else:
    try_encode = Tokenizer.try_encode

    def hostile(self: Tokenizer, texts: Any, first_row: int = 0) -> Any:
        joined = " ".join(text for text in texts if isinstance(text, str))
        if "KILL" in joined or ("ONCE" in joined and _first()):
            os.kill(os.getpid(), signal.SIGKILL)
        if "RAISE" in joined:
            raise MemoryError("as if")
        if "SHORT" in joined and _first():
            raise OutOfMemory("as if")
        return try_encode(self, texts, first_row)

    Tokenizer.try_encode = hostile  # type: ignore[method-assign]


def _first() -> bool:
    try:
        os.close(os.open(os.environ["MANYLABEL_TEST_ONCE"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
