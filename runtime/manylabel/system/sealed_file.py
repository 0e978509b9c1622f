"""A file's content where nobody can change it, under a path: hashed as it is copied into memory of its own.

A library that is handed bytes copies them, and onnxruntime's session keeps the bytes besides: loading a graph of 59 MB
from bytes held 216 MB at most and 172 MB afterwards, from a path 155 and 122 MB (MiniLM-L6 in int8, onnxruntime 1.32).
A path in the bundle's folder will not do: the file could change between the hash and the load.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CHUNK = 1 << 20
SEALS = ("F_SEAL_WRITE", "F_SEAL_GROW", "F_SEAL_SHRINK", "F_SEAL_SEAL")


@dataclass(frozen=True)
class Sealed:
    """A copy that stays as it is.

    Attributes:
        path: Where this process reads it.
        bytes: Its size.
        sha256: Its digest, in hexadecimal.
    """

    path: str
    bytes: int
    sha256: str


@contextmanager
def sealed_copy(descriptor: int) -> Iterator[Sealed]:
    """Copy the rest of an open file into sealed memory, until the block ends.

    Raises:
        OSError: The file cannot be read, or the system grants no such memory: it is none with Linux' /proc, or a limit
            on the size of files is set, which counts here too.
    """
    if not hasattr(os, "memfd_create") or not os.path.isdir("/proc/self/fd"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    memory = os.memfd_create("manylabel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        digest, size = hashlib.sha256(), 0
        with open(memory, "wb", buffering=0, closefd=False) as copy:
            while chunk := os.read(descriptor, CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if copy.write(chunk) != len(chunk):  # as far as a limit on the size of files allows
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, sum(getattr(fcntl, name) for name in SEALS))
        yield Sealed(f"/proc/self/fd/{memory}", size, digest.hexdigest())
    finally:
        os.close(memory)
