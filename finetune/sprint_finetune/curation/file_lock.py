"""A lock on an open file, by which only one process at a time works on it."""

from typing import IO


def locked(file: IO[bytes]) -> bool:
    """Take the lock, which is released when the process ends. Always True on systems without file locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
