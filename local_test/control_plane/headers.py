"""The headers of a stranger's archive, looked at before tarfile follows them.

tarfile calls itself for a header that speaks of the next one, keeps for every member what was said for all, and makes a
list of the holes of a sparse file: a few kilobytes of such headers are gigabytes, or an error that nobody expects.
"""

from __future__ import annotations

import tarfile

MIB = 1 << 20
_SHOWN = 100
_EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_MOST_EXTENDED, _MOST_FOR_ALL = 16 * MIB, 4096  # bytes
_MOST_IN_A_ROW = 8


class BadArchive(Exception):
    """Why an archive is not unpacked."""


class Archive(tarfile.TarFile):
    """What its headers said of others so far."""

    said = said_for_all = in_a_row = 0

    def count(self, header: tarfile.TarInfo) -> None:
        """Raises `BadArchive` for headers that only talk of each other: tarfile calls itself once more for each."""
        if header.type == tarfile.XGLTYPE:
            self.said_for_all += header.size
        elif header.type in _EXTENDED:
            self.said += header.size
        else:
            self.in_a_row = 0
            return
        self.in_a_row += 1
        if self.said > _MOST_EXTENDED or self.said_for_all > _MOST_FOR_ALL or self.in_a_row > _MOST_IN_A_ROW:
            raise BadArchive("expected few and short headers before a member, got more")


class Header(tarfile.TarInfo):
    """tarfile names `_proc_member` as what a subclass may override, to look at a header before it is followed."""

    def _proc_member(self, archive: Archive) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise BadArchive(f"must hold files and directories only: {shown(self)} is a special file")
        archive.count(self)
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found

    def _refuse_sparse(self, header: tarfile.TarInfo, *_: object) -> None:
        """tarfile would make a list of the file's holes, however many there are."""
        raise BadArchive(f"must hold files and directories only: {shown(header)} is a special file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def shown(member: tarfile.TarInfo) -> str:
    return ascii(member.name[:_SHOWN])[1:-1]
