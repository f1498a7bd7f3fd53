from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerMessage(_message.Message):
    __slots__ = ("term", "hello", "hello_refused", "request_vote", "vote", "append_entries", "append_reply", "stale_term")
    TERM_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HELLO_REFUSED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    APPEND_REPLY_FIELD_NUMBER: _ClassVar[int]
    STALE_TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    hello: Hello
    hello_refused: HelloRefused
    request_vote: RequestVote
    vote: Vote
    append_entries: AppendEntries
    append_reply: AppendReply
    stale_term: StaleTerm
    def __init__(self, term: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., hello_refused: _Optional[_Union[HelloRefused, _Mapping]] = ..., request_vote: _Optional[_Union[RequestVote, _Mapping]] = ..., vote: _Optional[_Union[Vote, _Mapping]] = ..., append_entries: _Optional[_Union[AppendEntries, _Mapping]] = ..., append_reply: _Optional[_Union[AppendReply, _Mapping]] = ..., stale_term: _Optional[_Union[StaleTerm, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "cluster_id", "group", "node_id", "directory_id", "client_address", "session")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    cluster_id: bytes
    group: int
    node_id: str
    directory_id: bytes
    client_address: str
    session: int
    def __init__(self, protocol: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., group: _Optional[int] = ..., node_id: _Optional[str] = ..., directory_id: _Optional[bytes] = ..., client_address: _Optional[str] = ..., session: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("outcome", "index", "round")
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
    outcome: AppendReply.Outcome
    index: int
    round: int
    def __init__(self, outcome: _Optional[_Union[AppendReply.Outcome, str]] = ..., index: _Optional[int] = ..., round: _Optional[int] = ...) -> None: ...

class StaleTerm(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
