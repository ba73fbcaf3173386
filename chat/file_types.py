"""What a file is, by its content: the types that are stored, and the names they leave under."""

from __future__ import annotations

import mimetypes
import re
from pathlib import PurePosixPath

import filetype

from chat.file_metadata import track_kinds
from hplus.errors import ValidationFailed

HEAD_BYTES = 8192
TEXT = "text/plain"
# Each type that is stored, with the extensions under which it may leave; the first is added where none fits.
EXTENSIONS = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png",),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    "image/heic": (".heic", ".heif"),
    "image/heif": (".heif", ".heic"),
    "image/avif": (".avif",),
    "audio/mpeg": (".mp3", ".mpga"),
    "audio/mp4": (".m4a", ".mp4", ".3gp"),
    "audio/ogg": (".ogg", ".oga", ".opus"),
    "audio/webm": (".webm", ".weba"),
    "audio/x-wav": (".wav",),
    "audio/aac": (".aac",),
    "audio/amr": (".amr", ".awb"),
    "audio/x-caf": (".caf",),
    "audio/x-flac": (".flac",),
    "video/mp4": (".mp4", ".m4v"),
    "video/quicktime": (".mov", ".qt"),
    "video/webm": (".webm",),
    "video/3gpp": (".3gp", ".3gpp"),
    "application/pdf": (".pdf",),
    "application/zip": (".zip",),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (".docx",),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": (".xlsx",),
    TEXT: (".txt", ".csv", ".md", ".log"),
}
# Beginnings of files that the library does not know, as phones write them.
_BEGINNINGS = {
    "audio/x-caf": re.compile(rb"caff\x00\x01"),
    "audio/amr": re.compile(rb"#!AMR(-WB)?\n"),
    "image/heif": re.compile(rb"....ftyp(mif1|msf1|heif)", re.DOTALL),
    "image/heic": re.compile(rb"....ftyp(heic|heix|heim|heis|hevc|hevx)", re.DOTALL),
    "video/3gpp": re.compile(rb"....ftyp3g", re.DOTALL),
    "video/mp4": re.compile(rb"....ftyp(iso|mp4|dash|avc1|MSNV|cmf)", re.DOTALL),
}
_WITH_OR_WITHOUT_PICTURE = {"video/mp4": "audio/mp4", "video/3gpp": "audio/mp4", "video/webm": "audio/webm"}


def content_type_of(content: bytes) -> str:
    """Return the type of a file by its content, not its name. Raises ValidationFailed if not allowed."""
    head = content[:HEAD_BYTES]
    guess = filetype.guess(head)
    found = _beginning(head) or (guess.mime if guess else _text_type(head))
    if found not in EXTENSIONS:
        raise ValidationFailed("This type of file is not taken.", field="file", reason=f"is {found}")
    return _without_picture(content, found)


def _beginning(head: bytes) -> str | None:
    return next((kind for kind, pattern in _BEGINNINGS.items() if pattern.match(head)), None)


def _without_picture(content: bytes, found: str) -> str:
    """A voice note comes in the same container as a video; what it is, its tracks say."""
    audio = _WITH_OR_WITHOUT_PICTURE.get(found)
    return audio if audio and track_kinds(content, found) == {"audio"} else found


def _text_type(head: bytes) -> str:
    """`text/plain` for UTF-8 without NUL and without markup that a browser would run."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        text = head.decode("utf-8", "ignore") if undecodable.start >= len(head) - 3 else "\x00"
    is_markup = text.lstrip("\ufeff \t\r\n").startswith("<")
    return "application/octet-stream" if "\x00" in text or is_markup else TEXT


def safe_name(name: str, content_type: str) -> str:
    """The client's name without paths, quotes and control characters, with an extension of its type."""
    printable = "".join(c for c in name if c.isprintable() and c not in '/\\"')
    clean = printable.strip(". ")[-200:] or "file"
    extension = PurePosixPath(clean).suffix.lower()
    fitting = EXTENSIONS[content_type]
    if extension in fitting:
        return clean
    of_another_type = extension and mimetypes.guess_type(f"x{extension}")[0]
    return (clean[: -len(extension)] if of_another_type else clean) + fitting[0]
