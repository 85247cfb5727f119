"""Text files that people write: UTF-8, with or without a byte order mark; other encodings are named."""

from __future__ import annotations


class EncodingError(ValueError):
    """Bytes that are not UTF-8.

    Attributes:
        line: where, from 1; None for all of the file.
        problem: what was found and what to do, in sentences.
    """

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line, self.problem = line, problem

    def at(self, path: object) -> str:
        """The message about a file."""
        return f"{path}{f', line {self.line}' if self.line else ''}: {self.problem}"


def decoded(content: bytes) -> str:
    """The text of a file's bytes. Raises EncodingError."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        raise EncodingError(
            None, "found a file in UTF-16 or UTF-32; expected UTF-8. Save the file with the encoding UTF-8."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        problem = f"found the byte 0x{byte:02x}, which is not UTF-8 ({bytes([byte]).decode('latin-1')!r} in Latin-1)"
        line = content.count(b"\n", 0, error.start) + 1
        raise EncodingError(line, f"{problem}. Save the file with the encoding UTF-8.") from error
