"""Manifest: whose log this is, and where it starts. One small file, always replaced whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

from quorumlog.proto.checksum import crc32c, masked
from quorumlog.storage.errors import Damaged, UnknownVersion, WrongIdentity
from quorumlog.storage.format import (
    INSTALLING,
    MANIFEST,
    MANIFEST_BYTES,
    MANIFEST_MAGIC,
    SUM,
    VERSION,
    first_chain,
)

NAME = "manifest"


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log a directory holds. The cluster id is 16 bytes; the group is always 0 so far."""

    cluster_id: bytes
    group: int = 0

    def check(self, cluster_id: bytes, group: int, name: str) -> None:
        """Raise WrongIdentity where a file says otherwise."""
        if (cluster_id, group) != (self.cluster_id, self.group):
            raise WrongIdentity(
                f"{name}: expected cluster {self.cluster_id.hex()}, group {self.group}; "
                f"got cluster {cluster_id.hex()}, group {group}"
            )


@dataclass(frozen=True, slots=True)
class Manifest:
    """The first kept segment, and the entry before it (index `first_base - 1`), which is not kept."""

    first_base: int
    first_ordinal: int
    previous_term: int
    previous_chain: int
    is_installing: bool = False  # all that is here gives way to a new beginning (install.py)

    def installed(self) -> Manifest:
        """Return the same, without the flag."""
        return replace(self, is_installing=False)

    @classmethod
    def initial(cls, identity: LogIdentity) -> Manifest:
        """Return that of a new log: before entry 1 stands one of index 0 and term 0."""
        return cls(1, 1, 0, first_chain(identity.cluster_id, identity.group))

    def encode(self, identity: LogIdentity) -> bytes:
        """Return the file's bytes."""
        fields = MANIFEST.pack(
            MANIFEST_MAGIC,
            VERSION,
            INSTALLING if self.is_installing else 0,
            MANIFEST_BYTES,
            identity.cluster_id,
            identity.group,
            self.first_ordinal,
            self.first_base,
            self.previous_term,
            self.previous_chain,
        )
        return fields + SUM.pack(masked(crc32c(fields)))

    @classmethod
    def decode(cls, data: bytes, identity: LogIdentity) -> Manifest:
        """Read the file's bytes. Raises Damaged, UnknownVersion or WrongIdentity."""
        if len(data) != MANIFEST_BYTES:
            raise Damaged(NAME, 0, None, f"size: expected {MANIFEST_BYTES}, got {len(data)}")
        magic, version, flags, _, cluster_id, group, ordinal, base, term, chain = MANIFEST.unpack_from(data)
        (stated,) = SUM.unpack_from(data, MANIFEST.size)
        actual = masked(crc32c(data[: MANIFEST.size]))
        if magic != MANIFEST_MAGIC or stated != actual:
            raise Damaged(NAME, 0, None, f"magic {magic!r}, crc {stated:#010x} stated, got {actual:#010x}")
        if version != VERSION:
            raise UnknownVersion(f"{NAME}: version: expected {VERSION}, got {version}")
        if flags & ~INSTALLING:
            raise UnknownVersion(f"{NAME}: flags: expected at most {INSTALLING}, got {flags}")
        identity.check(cluster_id, group, NAME)
        return cls(base, ordinal, term, chain, is_installing=bool(flags & INSTALLING))
