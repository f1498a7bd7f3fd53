from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SegmentFile(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEGMENT_LOG: _ClassVar[SegmentFile]
    SEGMENT_VIEW: _ClassVar[SegmentFile]
    SEGMENT_STATE: _ClassVar[SegmentFile]
SEGMENT_LOG: SegmentFile
SEGMENT_VIEW: SegmentFile
SEGMENT_STATE: SegmentFile

class PeerMessage(_message.Message):
    __slots__ = ("term", "hello", "hello_refused", "request_vote", "vote", "append_entries", "append_reply", "stale_term", "pre_vote", "pre_vote_reply", "timeout_now", "read_index", "read_index_reply", "install_snapshot", "snapshot_reply", "fetch_segment", "segment_chunk")
    TERM_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HELLO_REFUSED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    APPEND_REPLY_FIELD_NUMBER: _ClassVar[int]
    STALE_TERM_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REPLY_FIELD_NUMBER: _ClassVar[int]
    INSTALL_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_REPLY_FIELD_NUMBER: _ClassVar[int]
    FETCH_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    term: int
    hello: Hello
    hello_refused: HelloRefused
    request_vote: RequestVote
    vote: Vote
    append_entries: AppendEntries
    append_reply: AppendReply
    stale_term: StaleTerm
    pre_vote: PreVote
    pre_vote_reply: PreVoteReply
    timeout_now: TimeoutNow
    read_index: ReadIndex
    read_index_reply: ReadIndexReply
    install_snapshot: InstallSnapshot
    snapshot_reply: SnapshotReply
    fetch_segment: FetchSegment
    segment_chunk: SegmentChunk
    def __init__(self, term: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., hello_refused: _Optional[_Union[HelloRefused, _Mapping]] = ..., request_vote: _Optional[_Union[RequestVote, _Mapping]] = ..., vote: _Optional[_Union[Vote, _Mapping]] = ..., append_entries: _Optional[_Union[AppendEntries, _Mapping]] = ..., append_reply: _Optional[_Union[AppendReply, _Mapping]] = ..., stale_term: _Optional[_Union[StaleTerm, _Mapping]] = ..., pre_vote: _Optional[_Union[PreVote, _Mapping]] = ..., pre_vote_reply: _Optional[_Union[PreVoteReply, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ..., read_index: _Optional[_Union[ReadIndex, _Mapping]] = ..., read_index_reply: _Optional[_Union[ReadIndexReply, _Mapping]] = ..., install_snapshot: _Optional[_Union[InstallSnapshot, _Mapping]] = ..., snapshot_reply: _Optional[_Union[SnapshotReply, _Mapping]] = ..., fetch_segment: _Optional[_Union[FetchSegment, _Mapping]] = ..., segment_chunk: _Optional[_Union[SegmentChunk, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "cluster_id", "group", "node_id", "directory_id", "client_address", "session", "configuration")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    cluster_id: bytes
    group: int
    node_id: str
    directory_id: bytes
    client_address: str
    session: int
    configuration: int
    def __init__(self, protocol: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., group: _Optional[int] = ..., node_id: _Optional[str] = ..., directory_id: _Optional[bytes] = ..., client_address: _Optional[str] = ..., session: _Optional[int] = ..., configuration: _Optional[int] = ...) -> None: ...

class HelloRefused(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class RequestVote(_message.Message):
    __slots__ = ("last_log_index", "last_log_term", "transfer")
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    last_log_index: int
    last_log_term: int
    transfer: bool
    def __init__(self, last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ..., transfer: bool = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AppendEntries(_message.Message):
    __slots__ = ("previous_index", "previous_term", "commit_index", "count", "round", "sync_policy")
    PREVIOUS_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SYNC_POLICY_FIELD_NUMBER: _ClassVar[int]
    previous_index: int
    previous_term: int
    commit_index: int
    count: int
    round: int
    sync_policy: int
    def __init__(self, previous_index: _Optional[int] = ..., previous_term: _Optional[int] = ..., commit_index: _Optional[int] = ..., count: _Optional[int] = ..., round: _Optional[int] = ..., sync_policy: _Optional[int] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ("outcome", "index", "round", "voter", "entry_term", "awaited")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ALIVE: _ClassVar[AppendReply.Outcome]
        MATCHED: _ClassVar[AppendReply.Outcome]
        RESET: _ClassVar[AppendReply.Outcome]
        NO_SPACE: _ClassVar[AppendReply.Outcome]
    ALIVE: AppendReply.Outcome
    MATCHED: AppendReply.Outcome
    RESET: AppendReply.Outcome
    NO_SPACE: AppendReply.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    ENTRY_TERM_FIELD_NUMBER: _ClassVar[int]
    AWAITED_FIELD_NUMBER: _ClassVar[int]
    outcome: AppendReply.Outcome
    index: int
    round: int
    voter: bool
    entry_term: int
    awaited: bool
    def __init__(self, outcome: _Optional[_Union[AppendReply.Outcome, str]] = ..., index: _Optional[int] = ..., round: _Optional[int] = ..., voter: bool = ..., entry_term: _Optional[int] = ..., awaited: bool = ...) -> None: ...

class StaleTerm(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PreVote(_message.Message):
    __slots__ = ("next_term", "last_log_index", "last_log_term")
    NEXT_TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    next_term: int
    last_log_index: int
    last_log_term: int
    def __init__(self, next_term: _Optional[int] = ..., last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ...) -> None: ...

class PreVoteReply(_message.Message):
    __slots__ = ("next_term", "granted")
    NEXT_TERM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    next_term: int
    granted: bool
    def __init__(self, next_term: _Optional[int] = ..., granted: bool = ...) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadIndex(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: int
    def __init__(self, request: _Optional[int] = ...) -> None: ...

class ReadIndexReply(_message.Message):
    __slots__ = ("request", "index")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    request: int
    index: int
    def __init__(self, request: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class InstallSnapshot(_message.Message):
    __slots__ = ("base", "previous_term", "previous_chain", "ordinal", "size", "crc32c", "position", "previous_base")
    BASE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_TERM_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_CHAIN_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_BASE_FIELD_NUMBER: _ClassVar[int]
    base: int
    previous_term: int
    previous_chain: int
    ordinal: int
    size: int
    crc32c: int
    position: int
    previous_base: int
    def __init__(self, base: _Optional[int] = ..., previous_term: _Optional[int] = ..., previous_chain: _Optional[int] = ..., ordinal: _Optional[int] = ..., size: _Optional[int] = ..., crc32c: _Optional[int] = ..., position: _Optional[int] = ..., previous_base: _Optional[int] = ...) -> None: ...

class SnapshotReply(_message.Message):
    __slots__ = ("base", "position", "installed", "voter")
    BASE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    INSTALLED_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    base: int
    position: int
    installed: bool
    voter: bool
    def __init__(self, base: _Optional[int] = ..., position: _Optional[int] = ..., installed: bool = ..., voter: bool = ...) -> None: ...

class FetchSegment(_message.Message):
    __slots__ = ("base", "file", "position")
    BASE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    base: int
    file: SegmentFile
    position: int
    def __init__(self, base: _Optional[int] = ..., file: _Optional[_Union[SegmentFile, str]] = ..., position: _Optional[int] = ...) -> None: ...

class SegmentChunk(_message.Message):
    __slots__ = ("base", "file", "position", "size")
    BASE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    base: int
    file: SegmentFile
    position: int
    size: int
    def __init__(self, base: _Optional[int] = ..., file: _Optional[_Union[SegmentFile, str]] = ..., position: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...
