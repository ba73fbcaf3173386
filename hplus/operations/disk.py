"""Space on the disk where attachments are stored."""

from __future__ import annotations

import shutil
from pathlib import Path

from django.conf import settings

MEBIBYTE = 1024**2
LOW_BYTES = 1024 * MEBIBYTE  # from here on doctor, /health/ and the metrics warn
LEAST_FREE_BYTES = 256 * MEBIBYTE  # uploads end here: the rest is for what else is written to the disk


def free_bytes() -> int:
    """Bytes that are free where attachments are stored, or will be."""
    media = Path(settings.MEDIA_ROOT).resolve()
    return shutil.disk_usage(next(path for path in (media, *media.parents) if path.exists())).free
