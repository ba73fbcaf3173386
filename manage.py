#!/usr/bin/env python
"""The command line of HPlus; `manage.py help` lists the commands."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import OperationalError, ProgrammingError

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hplus.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as wrong:
        sys.exit(f"HPlus can't start: {wrong}")
    except (OperationalError, ProgrammingError) as broken:
        if "--traceback" in sys.argv:
            raise
        first_line = str(broken).partition("\n")[0]
        sys.exit(
            f"The database does not answer as it should ({first_line}). `manage.py doctor` says what to do."
        )
