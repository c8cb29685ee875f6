"""Root file systems made of this machine's programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path


def programs(tar: tarfile.TarFile, *names: str) -> None:
    """Adds programs to `/bin`, the libraries they need, and the folders every system has."""
    libraries = set()
    for name in names:
        found = os.path.realpath(str(shutil.which(name)))
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
        libraries |= set(re.findall(r"(/\S+) \(", listed))
        tar.add(found, arcname=f"bin/{Path(name).name}")
    for library in sorted(libraries):
        tar.add(os.path.realpath(library), arcname=library)
    for name in ("tmp", "proc", "sys", "dev", "etc"):
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
