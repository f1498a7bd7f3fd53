from quorumlog.proto import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SyncPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SYNC_ALWAYS: _ClassVar[SyncPolicy]
    SYNC_INTERVAL: _ClassVar[SyncPolicy]
    SYNC_OS: _ClassVar[SyncPolicy]
SYNC_ALWAYS: SyncPolicy
SYNC_INTERVAL: SyncPolicy
SYNC_OS: SyncPolicy

class EntryHeader(_message.Message):
    __slots__ = ("time_ms", "feature_level", "commands")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    feature_level: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, time_ms: _Optional[int] = ..., feature_level: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("append", "create_topic", "delete_topic", "open_producer", "set_sync_policy", "move_log_start")
    APPEND_FIELD_NUMBER: _ClassVar[int]
    CREATE_TOPIC_FIELD_NUMBER: _ClassVar[int]
    DELETE_TOPIC_FIELD_NUMBER: _ClassVar[int]
    OPEN_PRODUCER_FIELD_NUMBER: _ClassVar[int]
    SET_SYNC_POLICY_FIELD_NUMBER: _ClassVar[int]
    MOVE_LOG_START_FIELD_NUMBER: _ClassVar[int]
    append: Append
    create_topic: CreateTopic
    delete_topic: DeleteTopic
    open_producer: OpenProducer
    set_sync_policy: SetSyncPolicy
    move_log_start: MoveLogStart
    def __init__(self, append: _Optional[_Union[Append, _Mapping]] = ..., create_topic: _Optional[_Union[CreateTopic, _Mapping]] = ..., delete_topic: _Optional[_Union[DeleteTopic, _Mapping]] = ..., open_producer: _Optional[_Union[OpenProducer, _Mapping]] = ..., set_sync_policy: _Optional[_Union[SetSyncPolicy, _Mapping]] = ..., move_log_start: _Optional[_Union[MoveLogStart, _Mapping]] = ...) -> None: ...

class Append(_message.Message):
    __slots__ = ("topic_id", "partition", "batch")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    topic_id: int
    partition: int
    batch: _batch_pb2.BatchHeader
    def __init__(self, topic_id: _Optional[int] = ..., partition: _Optional[int] = ..., batch: _Optional[_Union[_batch_pb2.BatchHeader, _Mapping]] = ...) -> None: ...

class CreateTopic(_message.Message):
    __slots__ = ("name", "partitions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    partitions: int
    def __init__(self, name: _Optional[str] = ..., partitions: _Optional[int] = ...) -> None: ...

class DeleteTopic(_message.Message):
    __slots__ = ("topic_id",)
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    topic_id: int
    def __init__(self, topic_id: _Optional[int] = ...) -> None: ...

class OpenProducer(_message.Message):
    __slots__ = ("producer_id",)
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    producer_id: int
    def __init__(self, producer_id: _Optional[int] = ...) -> None: ...

class SetSyncPolicy(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: SyncPolicy
    def __init__(self, policy: _Optional[_Union[SyncPolicy, str]] = ...) -> None: ...

class MoveLogStart(_message.Message):
    __slots__ = ("raft_index", "topics")
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    raft_index: int
    topics: _containers.RepeatedCompositeFieldContainer[TopicStart]
    def __init__(self, raft_index: _Optional[int] = ..., topics: _Optional[_Iterable[_Union[TopicStart, _Mapping]]] = ...) -> None: ...

class TopicStart(_message.Message):
    __slots__ = ("topic_id", "start_offsets")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    START_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    topic_id: int
    start_offsets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, topic_id: _Optional[int] = ..., start_offsets: _Optional[_Iterable[int]] = ...) -> None: ...

class Membership(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node_id", "peer_address", "directory_id", "learner")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_ID_FIELD_NUMBER: _ClassVar[int]
    LEARNER_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    peer_address: str
    directory_id: bytes
    learner: bool
    def __init__(self, node_id: _Optional[str] = ..., peer_address: _Optional[str] = ..., directory_id: _Optional[bytes] = ..., learner: bool = ...) -> None: ...

class StateSnapshot(_message.Message):
    __slots__ = ("raft_index", "time_ms", "feature_level", "sync_policy", "next_producer_id", "topics", "producers", "membership", "log_start")
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SYNC_POLICY_FIELD_NUMBER: _ClassVar[int]
    NEXT_PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    PRODUCERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    LOG_START_FIELD_NUMBER: _ClassVar[int]
    raft_index: int
    time_ms: int
    feature_level: int
    sync_policy: SyncPolicy
    next_producer_id: int
    topics: _containers.RepeatedCompositeFieldContainer[TopicState]
    producers: _containers.RepeatedCompositeFieldContainer[ProducerState]
    membership: bytes
    log_start: int
    def __init__(self, raft_index: _Optional[int] = ..., time_ms: _Optional[int] = ..., feature_level: _Optional[int] = ..., sync_policy: _Optional[_Union[SyncPolicy, str]] = ..., next_producer_id: _Optional[int] = ..., topics: _Optional[_Iterable[_Union[TopicState, _Mapping]]] = ..., producers: _Optional[_Iterable[_Union[ProducerState, _Mapping]]] = ..., membership: _Optional[bytes] = ..., log_start: _Optional[int] = ...) -> None: ...

class TopicState(_message.Message):
    __slots__ = ("topic_id", "name", "partitions", "created_ms")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    topic_id: int
    name: str
    partitions: _containers.RepeatedCompositeFieldContainer[PartitionState]
    created_ms: int
    def __init__(self, topic_id: _Optional[int] = ..., name: _Optional[str] = ..., partitions: _Optional[_Iterable[_Union[PartitionState, _Mapping]]] = ..., created_ms: _Optional[int] = ...) -> None: ...

class PartitionState(_message.Message):
    __slots__ = ("start_offset", "next_offset")
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    start_offset: int
    next_offset: int
    def __init__(self, start_offset: _Optional[int] = ..., next_offset: _Optional[int] = ...) -> None: ...

class ProducerState(_message.Message):
    __slots__ = ("producer_id", "epoch", "streams")
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    producer_id: int
    epoch: int
    streams: _containers.RepeatedCompositeFieldContainer[ProducerStream]
    def __init__(self, producer_id: _Optional[int] = ..., epoch: _Optional[int] = ..., streams: _Optional[_Iterable[_Union[ProducerStream, _Mapping]]] = ...) -> None: ...

class ProducerStream(_message.Message):
    __slots__ = ("topic_id", "partition", "next_sequence", "recent", "epoch")
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    topic_id: int
    partition: int
    next_sequence: int
    recent: _containers.RepeatedCompositeFieldContainer[ProducedBatch]
    epoch: int
    def __init__(self, topic_id: _Optional[int] = ..., partition: _Optional[int] = ..., next_sequence: _Optional[int] = ..., recent: _Optional[_Iterable[_Union[ProducedBatch, _Mapping]]] = ..., epoch: _Optional[int] = ...) -> None: ...

class ProducedBatch(_message.Message):
    __slots__ = ("sequence", "count", "base_offset", "time_ms", "raft_index")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    count: int
    base_offset: int
    time_ms: int
    raft_index: int
    def __init__(self, sequence: _Optional[int] = ..., count: _Optional[int] = ..., base_offset: _Optional[int] = ..., time_ms: _Optional[int] = ..., raft_index: _Optional[int] = ...) -> None: ...
