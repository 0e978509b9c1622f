"""Lone surrogates: half a character, which Python strings may hold and UTF-8 cannot."""

import re

LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def valid_unicode(text: str) -> str:
    r"""Return the text with U+FFFD in place of lone surrogates.

    Example:
        >>> valid_unicode("late \ud83d")
        'late �'
    """
    return LONE_SURROGATE.sub("\ufffd", text)
