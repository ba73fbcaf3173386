"""Reads the containers of pictures and videos: removes where and when one was taken, without decoding it.

Only the containers are read: the picture itself stays bit for bit as the phone made it, and its orientation
is kept. What follows the end of a picture, or cannot be read as part of it, is left out: phones append whole
videos there. Formats: JPEG (ITU T.81, Exif 2.32), PNG (3rd edition), GIF89a, WebP (RFC 9649) and the ISO base
media file format (ISO/IEC 14496-12: HEIC, MP4, QuickTime, 3GP).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NO_ORIENTATION = 1
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_JPEG_END, _JPEG_SCAN, _JPEG_COMMENT = 0xD9, 0xDA, 0xFE
_JPEG_KEPT_APPLICATION = {0xE0, 0xEE}  # JFIF and Adobe's colour transform
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PNG_DROPPED = {b"tEXt", b"zTXt", b"iTXt", b"tIME"}
_GIF_KEPT_APPLICATIONS = {b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"}
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04  # flags in the header VP8X
_WEBP_METADATA_FLAGS = _WEBP_EXIF | _WEBP_XMP
_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"moof", b"traf", b"edts", b"dinf", b"stbl"}
_MOST_BOXES_DEEP = 10
_ITEM_METADATA = {b"Exif", b"mime", b"uri "}


def without_metadata(content: bytes, content_type: str) -> bytes:
    """Return the file without place, time, device and comments; a type without such fields is returned as is.

    A malformed file is cut where it stops being readable, never refused.
    """
    clean = _CLEANERS.get(content_type)
    return clean(content) if clean else content


def track_kinds(content: bytes, content_type: str) -> set[str]:
    """Return which of `audio` and `video` the tracks of an MP4, 3GPP or WebM file are; empty without any."""
    if content_type == "video/webm":
        codecs = {"video": b"V_", "audio": b"A_"}
        return {
            kind for kind, prefix in codecs.items() if re.search(b"\x86." + prefix, content[:65536], re.S)
        }
    file, names = bytearray(content), {b"vide": "video", b"soun": "audio"}
    handlers = [
        bytes(file[body + 8 : body + 12])
        for kind, _, body, _ in _boxes(file, 0, len(file))
        if kind == b"hdlr"
    ]
    return {names[handler] for handler in handlers if handler in names}


# Exif


def orientation_of(exif: bytes) -> int:
    """Return the orientation (1 to 8) that a TIFF structure names; 1 where it names none."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        [first] = struct.unpack_from(f"{order}I", exif, 4)
        [count] = struct.unpack_from(f"{order}H", exif, first)
        for at in range(first + 2, first + 2 + 12 * min(count, 200), 12):
            tag, _type, _count, value = struct.unpack_from(f"{order}HHIH", exif, at)
            if tag == 0x0112 and 1 <= value <= 8:
                return int(value)
    except struct.error:
        return NO_ORIENTATION
    return NO_ORIENTATION


def exif_with(orientation: int) -> bytes:
    """Return a TIFF structure that holds the orientation and nothing else."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"II*\x00" + struct.pack("<IH", 8, 1) + entry + b"\x00\x00\x00\x00"


# JPEG


def _clean_jpeg(content: bytes) -> bytes:
    kept, orientation = bytearray(content[:2]), NO_ORIENTATION
    for marker, segment in _jpeg_segments(content):
        if marker == 0xE1 and segment[4:10] == b"Exif\x00\x00":
            orientation = orientation_of(segment[10:])
        if _is_kept_in_jpeg(marker, segment):
            kept += segment
    if orientation == NO_ORIENTATION:
        return bytes(kept)
    exif = b"Exif\x00\x00" + exif_with(orientation)
    return bytes(kept[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + kept[2:])


def _is_kept_in_jpeg(marker: int, segment: bytes) -> bool:
    is_application = 0xE0 <= marker <= 0xEF
    is_profile = marker == 0xE2 and segment[4:16] == b"ICC_PROFILE\x00"
    return is_profile or marker in _JPEG_KEPT_APPLICATION or not (is_application or marker == _JPEG_COMMENT)


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Each segment with its marker, a scan with its data, up to the end of the image."""
    at = 2
    while at + 2 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        end = _end_of_jpeg_segment(content, at, marker)
        if end > len(content):
            return
        yield marker, content[at:end]
        if marker == _JPEG_END:
            return
        at = end


def _end_of_jpeg_segment(content: bytes, at: int, marker: int) -> int:
    if marker == 0xFF:
        return at + 1  # a fill byte
    if marker in _JPEG_STANDALONE or marker == _JPEG_END:
        return at + 2
    if at + 4 > len(content):
        return len(content) + 1
    end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
    if marker != _JPEG_SCAN:
        return end
    after = _AFTER_SCAN.search(content, end)
    return after.start() if after else len(content)


# PNG


def _clean_png(content: bytes) -> bytes:
    kept = bytearray(PNG_SIGNATURE)
    for kind, chunk in _png_chunks(content):
        if kind == b"eXIf":
            kept += _png_orientation(orientation_of(chunk[8:-4]))
        elif kind not in _PNG_DROPPED:
            kept += chunk
    return bytes(kept)


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, kind = len(PNG_SIGNATURE), b""
    while at + 12 <= len(content) and kind != b"IEND":
        end = at + 12 + int.from_bytes(content[at : at + 4])
        kind = content[at + 4 : at + 8]
        if end > len(content):
            return
        yield kind, content[at:end]
        at = end


def _png_orientation(orientation: int) -> bytes:
    if orientation == NO_ORIENTATION:
        return b""
    exif = exif_with(orientation)
    return struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))


# GIF


def _clean_gif(content: bytes) -> bytes:
    at = 13 + _gif_colours(content, 10)
    kept = bytearray(content[:at])
    while at < len(content) and content[at] in b"\x21\x2c":
        end = _end_of_gif_block(content, at)
        is_comment = content[at : at + 2] == b"\x21\xfe"
        is_application = content[at : at + 2] == b"\x21\xff"
        is_dropped = is_comment or (
            is_application and content[at + 3 : at + 14] not in _GIF_KEPT_APPLICATIONS
        )
        if not is_dropped:
            kept += content[at:end]
        at = end
    return bytes(kept) + b"\x3b"


def _gif_colours(content: bytes, at: int) -> int:
    """Bytes of the colour table whose flags stand there."""
    flags = content[at] if at < len(content) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_gif_block(content: bytes, at: int) -> int:
    is_image = content[at] == 0x2C
    at += 10 + _gif_colours(content, at + 9) + 1 if is_image else 2
    while at < len(content) and content[at]:
        at += 1 + content[at]
    return at + 1


# WebP


def _clean_webp(content: bytes) -> bytes:
    kept, exif = bytearray(b"WEBP"), b""
    chunks = list(_riff_chunks(content))
    for kind, chunk in chunks:
        if kind == b"EXIF":
            exif = _webp_orientation(orientation_of(chunk[8:].removeprefix(b"Exif\x00\x00")))
    for kind, chunk in chunks:
        if kind == b"VP8X" and len(chunk) > 9:
            flags = chunk[8] & ~_WEBP_METADATA_FLAGS | (_WEBP_EXIF if exif else 0)
            kept += chunk[:8] + bytes([flags]) + chunk[9:]
        elif kind not in (b"EXIF", b"XMP "):
            kept += chunk
    kept += exif
    return b"RIFF" + struct.pack("<I", len(kept)) + bytes(kept)


def _webp_orientation(orientation: int) -> bytes:
    exif = exif_with(orientation)
    return b"" if orientation == NO_ORIENTATION else b"EXIF" + struct.pack("<I", len(exif)) + exif


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if at + 8 + size > len(content):
            return
        yield content[at : at + 4], content[at:end]
        at = end


# ISO base media: HEIC pictures and videos


def _clean_video(content: bytes) -> bytes:
    """Overwrite user data, metadata and vendor boxes in place, so that no offset of a sample changes."""
    file = bytearray(content)
    for kind, start, body, end in _boxes(file, 0, len(file)):
        if kind in (b"udta", b"meta", b"uuid"):
            _blank(file, start, body, end)
    return bytes(file)


def _clean_heic(content: bytes) -> bytes:
    """Overwrite the items that hold Exif and XMP; pictures turn by a property of their own (`irot`)."""
    file = bytearray(content)
    for kind, start, body, end in _boxes(file, 0, len(file)):
        if kind == b"meta":
            for extent_start, extent_end in _metadata_extents(file, body + 4, end):
                size = max(0, min(extent_end, len(file)) - extent_start)
                empty = (b"\x00\x00\x00\x00II*\x00\x08\x00\x00\x00" + bytes(6))[:size]
                file[extent_start : extent_start + size] = empty + bytes(size - len(empty))
        elif kind in (b"udta", b"uuid"):
            _blank(file, start, body, end)
    return bytes(file)


def _blank(file: bytearray, start: int, body: int, end: int) -> None:
    """Make a box an empty one of the same size."""
    file[start + 4 : start + 8] = b"free"
    file[body:end] = bytes(end - body)


def _boxes(file: bytearray, at: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
    """Each box with the positions of its start, content and end; those inside containers follow theirs."""
    while at + 8 <= end:
        size, kind, body = int.from_bytes(file[at : at + 4]), bytes(file[at + 4 : at + 8]), at + 8
        if size == 1:
            size, body = int.from_bytes(file[at + 8 : at + 16]), at + 16
        stop = end if size == 0 else at + size
        if stop > end or stop < body:
            return
        yield kind, at, body, stop
        if kind in _CONTAINERS and depth < _MOST_BOXES_DEEP:
            yield from _boxes(file, body, stop, depth + 1)
        at = stop


def _metadata_extents(file: bytearray, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the items of type Exif and XMP lie in the file (`iinf` names them, `iloc` places them)."""
    inside = {kind: (body, stop) for kind, _start, body, stop in _boxes(file, at, end)}
    if b"iinf" not in inside or b"iloc" not in inside:
        return
    metadata = set(_metadata_items(file, *inside[b"iinf"]))
    in_idat = inside.get(b"idat", (0, 0))[0]
    for item, method, start, stop in _item_locations(file, *inside[b"iloc"]):
        if item in metadata and method in (0, 1):
            base = in_idat if method == 1 else 0
            yield base + start, base + stop


def _metadata_items(file: bytearray, at: int, end: int) -> Iterator[int]:
    count_size = 2 if file[at : at + 1] == b"\x00" else 4
    for kind, _start, body, _stop in _boxes(file, at + 4 + count_size, end):
        version = int.from_bytes(file[body : body + 1])
        id_size = 2 if version == 2 else 4
        kind_at = body + 4 + id_size + 2
        if kind == b"infe" and version >= 2 and bytes(file[kind_at : kind_at + 4]) in _ITEM_METADATA:
            yield int.from_bytes(file[body + 4 : body + 4 + id_size])


class _Fields:
    """Reads big-endian numbers of given sizes one after another."""

    def __init__(self, file: bytearray, at: int) -> None:
        self._file, self.at = file, at

    def number(self, size: int) -> int:
        self.at += size
        return int.from_bytes(self._file[self.at - size : self.at])


def _item_locations(file: bytearray, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Each extent of each item: its id, construction method, start and end."""
    fields = _Fields(file, at)
    version, _flags, sizes = fields.number(1), fields.number(3), fields.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    id_size = 4 if version == 2 else 2
    for _ in range(fields.number(id_size)):
        item = fields.number(id_size)
        method = fields.number(2) & 15 if version else 0
        _reference, base, extents = fields.number(2), fields.number(base_size), fields.number(2)
        for _ in range(extents if length_size else 1):
            _index = fields.number(index_size if version else 0)
            start, length = base + fields.number(offset_size), fields.number(length_size)
            yield item, method, start, start + length
            if fields.at > end:
                return


_CLEANERS: dict[str, Callable[[bytes], bytes]] = {
    "image/jpeg": _clean_jpeg,
    "image/png": _clean_png,
    "image/gif": _clean_gif,
    "image/webp": _clean_webp,
    "image/heic": _clean_heic,
    "image/heif": _clean_heic,
    "image/avif": _clean_heic,
    "audio/mp4": _clean_video,
    "video/mp4": _clean_video,
    "video/quicktime": _clean_video,
    "video/3gpp": _clean_video,
}
