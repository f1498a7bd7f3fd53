from quorumlog.proto import batch_pb2 as _batch_pb2
from quorumlog.proto import entry_pb2 as _entry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSISTENCY_COMMITTED: _ClassVar[Consistency]
    CONSISTENCY_SESSION: _ClassVar[Consistency]
    CONSISTENCY_LINEARIZABLE: _ClassVar[Consistency]
CONSISTENCY_COMMITTED: Consistency
CONSISTENCY_SESSION: Consistency
CONSISTENCY_LINEARIZABLE: Consistency

class ProduceRequest(_message.Message):
    __slots__ = ("batches", "timeout_ms", "correlation")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[TopicBatch]
    timeout_ms: int
    correlation: int
    def __init__(self, batches: _Optional[_Iterable[_Union[TopicBatch, _Mapping]]] = ..., timeout_ms: _Optional[int] = ..., correlation: _Optional[int] = ...) -> None: ...

class TopicBatch(_message.Message):
    __slots__ = ("topic", "partition", "header", "body")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    header: _batch_pb2.BatchHeader
    body: bytes
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., header: _Optional[_Union[_batch_pb2.BatchHeader, _Mapping]] = ..., body: _Optional[bytes] = ...) -> None: ...

class ProduceResponse(_message.Message):
    __slots__ = ("results", "correlation", "sync_policy")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    SYNC_POLICY_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ProduceResult]
    correlation: int
    sync_policy: _entry_pb2.SyncPolicy
    def __init__(self, results: _Optional[_Iterable[_Union[ProduceResult, _Mapping]]] = ..., correlation: _Optional[int] = ..., sync_policy: _Optional[_Union[_entry_pb2.SyncPolicy, str]] = ...) -> None: ...

class ProduceResult(_message.Message):
    __slots__ = ("base_offset", "append_time_ms", "raft_index", "raft_term", "duplicate", "failure")
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    APPEND_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    RAFT_TERM_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    base_offset: int
    append_time_ms: int
    raft_index: int
    raft_term: int
    duplicate: bool
    failure: Failure
    def __init__(self, base_offset: _Optional[int] = ..., append_time_ms: _Optional[int] = ..., raft_index: _Optional[int] = ..., raft_term: _Optional[int] = ..., duplicate: bool = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("topic", "partition", "offset", "max_bytes", "max_wait_ms", "consistency", "min_raft_index")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    MIN_RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    max_bytes: int
    max_wait_ms: int
    consistency: Consistency
    min_raft_index: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ..., max_wait_ms: _Optional[int] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., min_raft_index: _Optional[int] = ...) -> None: ...

class ConsumeRequest(_message.Message):
    __slots__ = ("topic", "partition", "offset", "max_bytes", "consistency", "min_raft_index", "until_end")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    MIN_RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    UNTIL_END_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    offset: int
    max_bytes: int
    consistency: Consistency
    min_raft_index: int
    until_end: bool
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., max_bytes: _Optional[int] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., min_raft_index: _Optional[int] = ..., until_end: bool = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("batches", "high_watermark", "start_offset", "applied_index")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    HIGH_WATERMARK_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[FetchedBatch]
    high_watermark: int
    start_offset: int
    applied_index: int
    def __init__(self, batches: _Optional[_Iterable[_Union[FetchedBatch, _Mapping]]] = ..., high_watermark: _Optional[int] = ..., start_offset: _Optional[int] = ..., applied_index: _Optional[int] = ...) -> None: ...

class FetchedBatch(_message.Message):
    __slots__ = ("base_offset", "append_time_ms", "header", "body")
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    APPEND_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    base_offset: int
    append_time_ms: int
    header: _batch_pb2.BatchHeader
    body: bytes
    def __init__(self, base_offset: _Optional[int] = ..., append_time_ms: _Optional[int] = ..., header: _Optional[_Union[_batch_pb2.BatchHeader, _Mapping]] = ..., body: _Optional[bytes] = ...) -> None: ...

class ListOffsetsRequest(_message.Message):
    __slots__ = ("topic", "queries", "consistency", "min_raft_index")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    MIN_RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    topic: str
    queries: _containers.RepeatedCompositeFieldContainer[OffsetQuery]
    consistency: Consistency
    min_raft_index: int
    def __init__(self, topic: _Optional[str] = ..., queries: _Optional[_Iterable[_Union[OffsetQuery, _Mapping]]] = ..., consistency: _Optional[_Union[Consistency, str]] = ..., min_raft_index: _Optional[int] = ...) -> None: ...

class OffsetQuery(_message.Message):
    __slots__ = ("partition", "earliest", "latest", "append_time_ms")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    APPEND_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    partition: int
    earliest: bool
    latest: bool
    append_time_ms: int
    def __init__(self, partition: _Optional[int] = ..., earliest: bool = ..., latest: bool = ..., append_time_ms: _Optional[int] = ...) -> None: ...

class ListOffsetsResponse(_message.Message):
    __slots__ = ("answers", "applied_index")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[OffsetAnswer]
    applied_index: int
    def __init__(self, answers: _Optional[_Iterable[_Union[OffsetAnswer, _Mapping]]] = ..., applied_index: _Optional[int] = ...) -> None: ...

class OffsetAnswer(_message.Message):
    __slots__ = ("partition", "offset", "append_time_ms")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    APPEND_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    partition: int
    offset: int
    append_time_ms: int
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ..., append_time_ms: _Optional[int] = ...) -> None: ...

class OpenProducerRequest(_message.Message):
    __slots__ = ("producer_id",)
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    producer_id: int
    def __init__(self, producer_id: _Optional[int] = ...) -> None: ...

class OpenProducerResponse(_message.Message):
    __slots__ = ("producer_id", "epoch", "raft_index")
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    producer_id: int
    epoch: int
    raft_index: int
    def __init__(self, producer_id: _Optional[int] = ..., epoch: _Optional[int] = ..., raft_index: _Optional[int] = ...) -> None: ...

class CreateTopicRequest(_message.Message):
    __slots__ = ("name", "partitions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    partitions: int
    def __init__(self, name: _Optional[str] = ..., partitions: _Optional[int] = ...) -> None: ...

class DeleteTopicRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DescribeTopicRequest(_message.Message):
    __slots__ = ("name", "min_raft_index", "consistency")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MIN_RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    name: str
    min_raft_index: int
    consistency: Consistency
    def __init__(self, name: _Optional[str] = ..., min_raft_index: _Optional[int] = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class ListTopicsRequest(_message.Message):
    __slots__ = ("min_raft_index", "consistency")
    MIN_RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    min_raft_index: int
    consistency: Consistency
    def __init__(self, min_raft_index: _Optional[int] = ..., consistency: _Optional[_Union[Consistency, str]] = ...) -> None: ...

class TopicResponse(_message.Message):
    __slots__ = ("topic", "raft_index")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    topic: TopicDescription
    raft_index: int
    def __init__(self, topic: _Optional[_Union[TopicDescription, _Mapping]] = ..., raft_index: _Optional[int] = ...) -> None: ...

class ListTopicsResponse(_message.Message):
    __slots__ = ("topics", "applied_index")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[TopicDescription]
    applied_index: int
    def __init__(self, topics: _Optional[_Iterable[_Union[TopicDescription, _Mapping]]] = ..., applied_index: _Optional[int] = ...) -> None: ...

class TopicDescription(_message.Message):
    __slots__ = ("name", "topic_id", "created_ms", "partitions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic_id: int
    created_ms: int
    partitions: _containers.RepeatedCompositeFieldContainer[PartitionDescription]
    def __init__(self, name: _Optional[str] = ..., topic_id: _Optional[int] = ..., created_ms: _Optional[int] = ..., partitions: _Optional[_Iterable[_Union[PartitionDescription, _Mapping]]] = ...) -> None: ...

class PartitionDescription(_message.Message):
    __slots__ = ("partition", "start_offset", "high_watermark")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    HIGH_WATERMARK_FIELD_NUMBER: _ClassVar[int]
    partition: int
    start_offset: int
    high_watermark: int
    def __init__(self, partition: _Optional[int] = ..., start_offset: _Optional[int] = ..., high_watermark: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("local", "timeout_ms")
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    local: bool
    timeout_ms: int
    def __init__(self, local: bool = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("cluster", "leader_id", "term", "nodes", "sync_policy")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SYNC_POLICY_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    leader_id: str
    term: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    sync_policy: _entry_pb2.SyncPolicy
    def __init__(self, cluster: _Optional[str] = ..., leader_id: _Optional[str] = ..., term: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., sync_policy: _Optional[_Union[_entry_pb2.SyncPolicy, str]] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node_id", "client_address", "peer_address", "reachable", "error", "role", "term", "leader_id", "commit_index", "applied_index", "log_start", "log_end", "durable_index", "peers", "log_bytes", "segments", "version", "uptime_ms", "alarms", "members", "not_voting", "http_address", "clock_ms", "disk_free_bytes", "disk_total_bytes", "fsync_count", "fsync_p50_us", "fsync_p99_us", "open_files", "open_files_max", "certificate_expires_ms")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    LOG_START_FIELD_NUMBER: _ClassVar[int]
    LOG_END_FIELD_NUMBER: _ClassVar[int]
    DURABLE_INDEX_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NOT_VOTING_FIELD_NUMBER: _ClassVar[int]
    HTTP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FSYNC_COUNT_FIELD_NUMBER: _ClassVar[int]
    FSYNC_P50_US_FIELD_NUMBER: _ClassVar[int]
    FSYNC_P99_US_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_MAX_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    client_address: str
    peer_address: str
    reachable: bool
    error: str
    role: str
    term: int
    leader_id: str
    commit_index: int
    applied_index: int
    log_start: int
    log_end: int
    durable_index: int
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    log_bytes: int
    segments: int
    version: str
    uptime_ms: int
    alarms: _containers.RepeatedScalarFieldContainer[str]
    members: _containers.RepeatedCompositeFieldContainer[_entry_pb2.Member]
    not_voting: str
    http_address: str
    clock_ms: int
    disk_free_bytes: int
    disk_total_bytes: int
    fsync_count: int
    fsync_p50_us: int
    fsync_p99_us: int
    open_files: int
    open_files_max: int
    certificate_expires_ms: int
    def __init__(self, node_id: _Optional[str] = ..., client_address: _Optional[str] = ..., peer_address: _Optional[str] = ..., reachable: bool = ..., error: _Optional[str] = ..., role: _Optional[str] = ..., term: _Optional[int] = ..., leader_id: _Optional[str] = ..., commit_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., log_start: _Optional[int] = ..., log_end: _Optional[int] = ..., durable_index: _Optional[int] = ..., peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ..., log_bytes: _Optional[int] = ..., segments: _Optional[int] = ..., version: _Optional[str] = ..., uptime_ms: _Optional[int] = ..., alarms: _Optional[_Iterable[str]] = ..., members: _Optional[_Iterable[_Union[_entry_pb2.Member, _Mapping]]] = ..., not_voting: _Optional[str] = ..., http_address: _Optional[str] = ..., clock_ms: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., disk_total_bytes: _Optional[int] = ..., fsync_count: _Optional[int] = ..., fsync_p50_us: _Optional[int] = ..., fsync_p99_us: _Optional[int] = ..., open_files: _Optional[int] = ..., open_files_max: _Optional[int] = ..., certificate_expires_ms: _Optional[int] = ...) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("node_id", "connected", "state", "match_index", "lag", "refused")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    connected: bool
    state: str
    match_index: int
    lag: int
    refused: str
    def __init__(self, node_id: _Optional[str] = ..., connected: bool = ..., state: _Optional[str] = ..., match_index: _Optional[int] = ..., lag: _Optional[int] = ..., refused: _Optional[str] = ...) -> None: ...

class SetSyncPolicyRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: _entry_pb2.SyncPolicy
    def __init__(self, policy: _Optional[_Union[_entry_pb2.SyncPolicy, str]] = ...) -> None: ...

class SetSyncPolicyResponse(_message.Message):
    __slots__ = ("raft_index",)
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    raft_index: int
    def __init__(self, raft_index: _Optional[int] = ...) -> None: ...

class AddMemberRequest(_message.Message):
    __slots__ = ("node_id", "peer_address", "timeout_ms")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    peer_address: str
    timeout_ms: int
    def __init__(self, node_id: _Optional[str] = ..., peer_address: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class RemoveMemberRequest(_message.Message):
    __slots__ = ("node_id", "timeout_ms")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    timeout_ms: int
    def __init__(self, node_id: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class MembersResponse(_message.Message):
    __slots__ = ("members", "raft_index")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    RAFT_INDEX_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[_entry_pb2.Member]
    raft_index: int
    def __init__(self, members: _Optional[_Iterable[_Union[_entry_pb2.Member, _Mapping]]] = ..., raft_index: _Optional[int] = ...) -> None: ...

class TransferLeadershipRequest(_message.Message):
    __slots__ = ("target", "timeout_ms")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    target: str
    timeout_ms: int
    def __init__(self, target: _Optional[str] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class TransferLeadershipResponse(_message.Message):
    __slots__ = ("leader_id", "term")
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    leader_id: str
    term: int
    def __init__(self, leader_id: _Optional[str] = ..., term: _Optional[int] = ...) -> None: ...

class CheckStopRequest(_message.Message):
    __slots__ = ("node_id",)
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    def __init__(self, node_id: _Optional[str] = ...) -> None: ...

class CheckStopResponse(_message.Message):
    __slots__ = ("safe", "reason")
    SAFE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    safe: bool
    reason: str
    def __init__(self, safe: bool = ..., reason: _Optional[str] = ...) -> None: ...

class SumSegmentsRequest(_message.Message):
    __slots__ = ("first_base", "bytes_per_second")
    FIRST_BASE_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    first_base: int
    bytes_per_second: int
    def __init__(self, first_base: _Optional[int] = ..., bytes_per_second: _Optional[int] = ...) -> None: ...

class SegmentSum(_message.Message):
    __slots__ = ("base", "last_index", "bytes", "crc32c", "chain", "error")
    BASE_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    base: int
    last_index: int
    bytes: int
    crc32c: int
    chain: int
    error: str
    def __init__(self, base: _Optional[int] = ..., last_index: _Optional[int] = ..., bytes: _Optional[int] = ..., crc32c: _Optional[int] = ..., chain: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...
