//! Every bound and timeout of the gates, with its reason. Nothing in this crate waits, buffers or
//! queues without one of these.

use std::time::Duration;

/// Largest body that is read for a decision. Tool calls and API requests with arguments that a rule
/// can judge are far smaller; 1 MiB times the requests at once bounds memory.
pub const DECIDED_BODY: usize = 1024 * 1024;

/// Bytes of bodies that are held for decisions for one caller at once: a pod that sends many large bodies
/// runs into its own bound before it takes the gateway's memory from others.
pub const DECIDED_BODIES: usize = 32 * 1024 * 1024;

/// Limits of pods that a gate counts at once: ten thousand pods with twenty each, some 30 MB.
pub const METERED: usize = 200_000;

/// How much earlier than its limits say an action may come at the gateway gate, in milliseconds. The agent's gate has
/// let it pass already, evenly; on the way to the gateway two of them can come closer to each other.
pub const HOP_SLACK_MS: u64 = 1000;

/// How much of a body that is too large is read and thrown away, so that its sender gets the answer.
pub const DISCARD: usize = 32 * 1024 * 1024;

/// Largest body of `POST /v1/decide`.
pub const DECIDE_REQUEST: usize = 1024 * 1024;

/// Largest body of `POST /v1/heartbeat` and `POST /v1/outcome`: a few names and numbers.
pub const REPORT_REQUEST: usize = 4 * 1024;

/// How old the guard plugin's last heartbeat may be for language models to be reached. It comes every 5 s: two may be
/// lost, or late while OpenClaw is busy.
pub const HEARTBEAT_MAX_AGE: Duration = Duration::from_secs(15);

/// How often the gate looks whether the plugin has gone silent, to end open streams to language models.
pub const HEARTBEAT_CHECK: Duration = Duration::from_secs(1);

/// Processes of a pod whose last heartbeat is remembered. One OpenClaw is usual, a few more come from its commands.
pub const HEARTBEAT_PROCESSES: usize = 64;

/// Largest header block, HTTP/1 and HTTP/2 (the sum that `SETTINGS_MAX_HEADER_LIST_SIZE` counts).
pub const HEADERS: usize = 64 * 1024;

/// Most header fields of one request: as many as hyper parses without a heap of their own.
pub const HEADER_FIELDS: usize = 100;

/// How long a client may take for a request's head (slowloris), and an idle connection is kept.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a TLS handshake may take on any listener.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long resolving an upstream's name may take.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting one address of an upstream may take, its TLS handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection to the gateway is tried, and a request that no connection took yet is sent: while
/// gateways are replaced, the next one is at the same address.
pub const HOP_ATTEMPTS: usize = 4;

/// First pause between two tries of a connection to the gateway; doubled each time.
pub const HOP_PAUSE: Duration = Duration::from_millis(50);

/// How long the gateway may take to vouch: it tries every canary for a second at most, after the try before.
pub const VOUCHER_TIMEOUT: Duration = Duration::from_secs(10);

/// Open streams of one connection to the gateway from which on the next connection is used. Well below
/// [`STREAMS`], so that no request waits for a stream to end while another connection has room.
pub const HOP_STREAMS: usize = 100;

/// How long connecting the gateway may take, its TLS handshake included.
pub const HOP_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an upstream may take for a response's head. Long model calls think for minutes.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a stream may be silent in both directions before it is closed.
pub const STREAM_IDLE: Duration = Duration::from_secs(900);

/// How long a body that a decision waits for may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Most connections of agents at once; more wait in the kernel's backlog.
pub const AGENT_CONNECTIONS: usize = 4096;

/// Most connections of sidecars at the gateway at once.
pub const HOP_CONNECTIONS: usize = 4096;

/// Most connections of one sidecar at the gateway at once: its [`HOP_POOL`], and the ones before that
/// still end.
pub const HOP_CONNECTIONS_OF_ONE: usize = 16;

/// Largest first message of a client on the hop. Post-quantum key shares and a few extensions take some
/// 2 KiB; a client of ours says no more.
pub const CLIENT_HELLO: usize = 16 * 1024;

/// Handshakes of one address at once at the hop's listener: whoever has not proven an identity yet cannot
/// take the places of those who will. A sidecar makes its pool and one connection to the control API.
pub const HANDSHAKES_AT_ONCE: u32 = 16;

/// Handshakes of one address per minute at the hop's listener. Each costs half a millisecond of
/// cryptography; a sidecar with leaves of a minute makes some twenty.
pub const HANDSHAKES_PER_MINUTE: u32 = 240;

/// Connections of one address to the control API at once: a stream, its successor, and a request for a
/// certificate, with room for one that still ends.
pub const SPLICES_AT_ONCE: u32 = 4;

/// Connections of one address to the control API per minute: a sidecar that retries as fast as it may.
pub const SPLICES_PER_MINUTE: u32 = 60;

/// Bytes per second of one address to and from the control API, together. All documents of a large
/// tenant pass in a few seconds.
pub const SPLICE_BYTES_PER_SECOND: u32 = 2 * 1024 * 1024;

/// Bytes that may pass at once before [`SPLICE_BYTES_PER_SECOND`] holds: what one pod's documents have.
pub const SPLICE_BURST: u32 = 4 * 1024 * 1024;

/// How long a connection to the control API may be silent: its server says something every 20 s.
pub const SPLICE_IDLE: Duration = Duration::from_secs(90);

/// How long a connection to the control API may last: its server ends a stream after 36 minutes at most. With
/// [`SPLICE_BYTES_PER_SECOND`] it bounds what one connection carries.
pub const SPLICE_LIFETIME: Duration = Duration::from_secs(3600);

/// Addresses of which handshakes are counted at once; more are refused. As many pods as a large tenant has,
/// twice, so that a neighbour's noise is no reason.
pub const SOURCES: usize = 20_000;

/// Most streams of one HTTP/2 connection at once, on every listener.
pub const STREAMS: u32 = 256;

/// Streams reset by the client before they were served; more end the connection (CVE-2023-44487).
pub const PENDING_RESETS: usize = 64;

/// HTTP/2 window of one stream: the most that one stream buffers.
pub const STREAM_WINDOW: u32 = 128 * 1024;

/// HTTP/2 window of one connection: the most that one connection buffers. Many stream windows fit, so
/// that readers which stall do not stop the others.
pub const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// HTTP/1 read buffer of one connection: holds the largest head.
pub const HTTP1_BUFFER: usize = HEADERS + 8 * 1024;

/// Buffer of each direction of a raw stream.
pub const TUNNEL_BUFFER: usize = 16 * 1024;

/// HTTP/2 connections to the gateway, filled one after the other, so that many long streams do not
/// stand in each other's way.
pub const HOP_POOL: usize = 4;

/// Idle connections kept for one upstream host.
pub const IDLE_PER_HOST: usize = 64;

/// How long an idle connection to an upstream is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(55);

/// Addresses of one name that are tried.
pub const ADDRESSES: usize = 8;

/// Upstream hosts for which connections and TLS configurations are kept.
pub const POOL_KEYS: usize = 1024;

/// Connections of the admin listener at once: a probe, a scraper and a person.
pub const ADMIN_CONNECTIONS: usize = 32;

/// Answers of `/v1/decide` that are kept for repeated request ids.
pub const DECIDE_REPLAYS: usize = 4096;

/// How long a repeated request id gets its first answer.
pub const DECIDE_REPLAY_TIME: Duration = Duration::from_secs(600);

/// Longest request id that a client may choose.
pub const REQUEST_ID: usize = 128;

/// How long open requests may go on once a drain has begun.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Shortest secret that can be told apart from ordinary text in a response. Shorter ones are refused,
/// because an echo of them could not be redacted without breaking the response.
pub const MIN_SECRET: usize = 8;

/// Longest secret: a header's value.
pub const MAX_SECRET: usize = 16 * 1024;

/// Largest number of assignments in one table.
pub const ASSIGNMENTS: usize = 10_000;
