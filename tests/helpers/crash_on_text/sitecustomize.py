"""On the path of a process that is to die of certain texts, as of a fault in a library's native code.

`KILL` in a text ends the process, and `RAISE` runs out of memory. `ONCE` ends the first process that meets it, and for
`SHORT` its batch finds no memory: the file that `MANYLABEL_TEST_ONCE` names is there from then on.
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
        said = " ".join(text for text in texts if isinstance(text, str))
        if "KILL" in said or ("ONCE" in said and _first()):
            os.kill(os.getpid(), signal.SIGKILL)
        if "RAISE" in said:
            raise MemoryError("as if")
        if "SHORT" in said and _first():
            raise OutOfMemory("as if")
        return try_encode(self, texts, first_row)

    Tokenizer.try_encode = hostile  # type: ignore[method-assign]


def _first() -> bool:
    try:
        os.close(os.open(os.environ["MANYLABEL_TEST_ONCE"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
