"""Text from a file or a file name, made safe to print.

A terminal obeys control characters: escape sequences move its cursor, change its title, or hide what was printed. Marks
of writing direction reorder a line. Lone surrogates, which stand for undecodable bytes of a file name, stop `print`.
"""

import re

# C0 and C1 controls, separators of lines and paragraphs, marks of direction, surrogates
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(value: object) -> str:
    r"""`str(value)` with every character that a terminal obeys written as an escape: a line break as `\n`."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(value))
