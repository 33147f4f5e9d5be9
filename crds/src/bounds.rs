//! The limits of the API: one place, each with its reason.
//!
//! The schema states them to the API server (where they also bound the cost of its CEL rules), and
//! `clawlock-compile` checks them again. An object of etcd holds at most 1.5 MiB, so no combination of
//! them can be reached in full; they keep each part of an object at a size that a person can review.

/// Rules of one policy. A policy is read by people; more rules belong into more policies, which compose.
pub const MAX_RULES: usize = 1_000;
/// Guardrails of a tenant: they hold for every agent, so all of them are weighed for every action.
pub const MAX_GUARDRAILS: usize = 256;
/// Patterns in one list of a match (tools, operations, paths). A longer list is a second rule.
pub const MAX_PATTERNS: usize = 64;
/// Characters of a pattern: the longest operation, `upstream.operation`, is two names and a dot.
pub const MAX_PATTERN: usize = 256;
/// Methods of a match: the registered ones (RFC 9110 and its registry) are about forty.
pub const MAX_METHODS: usize = 40;
/// Characters of a method: the longest registered one, `UPDATEREDIRECTREF`, has 17.
pub const MAX_METHOD: usize = 32;
/// Characters of a path pattern or path template: longer paths carry data, which a condition should read.
pub const MAX_PATH: usize = 1_024;
/// Characters of a condition. Long conditions are a sign of several rules in one.
pub const MAX_CONDITION: usize = 4_096;
/// Characters of a name within an object, as a DNS label has them.
pub const MAX_NAME: usize = 63;
/// Characters of the name of a Kubernetes object (a DNS subdomain).
pub const MAX_OBJECT_NAME: usize = 253;
/// Characters of a key in a Secret or ConfigMap, as Kubernetes has it.
pub const MAX_KEY: usize = 253;
/// Characters of a host name (RFC 1035 section 2.3.4, presentation form).
pub const MAX_HOST: usize = 253;
/// Hosts of one upstream. They share one credential; more of them are another upstream.
pub const MAX_HOSTS: usize = 64;
/// CIDRs of one upstream. A longer list is a routing table, which belongs into the network.
pub const MAX_CIDRS: usize = 64;
/// Characters of a CIDR: the longest IPv6 form has 43, an IPv4-mapped one 49.
pub const MAX_CIDR: usize = 49;
/// Operations of one upstream, written inline.
pub const MAX_OPERATIONS: usize = 500;
/// Characters of an operation's name, dots included: with an upstream's name and a dot it stays below
/// [`MAX_PATTERN`].
pub const MAX_OPERATION_NAME: usize = 128;
/// Declared arguments of one operation.
pub const MAX_ARGUMENTS: usize = 64;
/// Characters of an argument's name.
pub const MAX_ARGUMENT_NAME: usize = 128;
/// Characters of a header's name.
pub const MAX_HEADER_NAME: usize = 64;
/// Characters of the user name of a Basic credential.
pub const MAX_USERNAME: usize = 256;
/// Agents' namespaces of one tenant.
pub const MAX_NAMESPACES: usize = 64;
/// Pods of one tenant's gateway. One serves thousands of agents; more than this is a typing mistake.
pub const MAX_REPLICAS: u8 = 50;
/// Exemptions of a tenant. Each is a hole in what is governed, so that people must be able to read all.
pub const MAX_EXEMPTIONS: usize = 32;
/// Entries of agents without a guard plugin. As with exemptions, people must be able to read all.
pub const MAX_PLUGIN_OPTIONAL: usize = 32;
/// Ingress rules of a tenant: each becomes a NetworkPolicy in every agents' namespace.
pub const MAX_INGRESS: usize = 32;
/// Peers of one ingress rule. More of them share a label.
pub const MAX_PEERS: usize = 16;
/// Ports of one ingress rule. An agent listens on few.
pub const MAX_PORTS: usize = 16;
/// ServiceAccounts that a tenant binds to images, or that keep their API token.
pub const MAX_SERVICE_ACCOUNTS: usize = 64;
/// Images that one ServiceAccount may run.
pub const MAX_IMAGES: usize = 32;
/// Characters of an image reference: a name of 255, a tag of 128 and a digest of 135 (sha512) with their marks.
pub const MAX_IMAGE: usize = 521;
/// Characters of a duration (GEP-2257): four parts of at most five digits and a unit of at most two letters.
pub const MAX_DURATION: usize = 28;
/// Shortest life of a leaf certificate: renewal starts at a third of it and needs a few tries.
pub const MIN_CERTIFICATE_SECONDS: u64 = 60;
/// Longest life of a leaf certificate: how long a stolen key can be of use at most.
pub const MAX_CERTIFICATE_SECONDS: u64 = 24 * 60 * 60;
/// Characters of a trust domain (SPIFFE-ID specification section 2.1).
pub const MAX_TRUST_DOMAIN: usize = 255;
/// Entries that say what tools do: a few per MCP server.
pub const MAX_TOOL_CATEGORIES: usize = 64;
/// Limits of a policy or tenant: each is counted on every action that it is about.
pub const MAX_LIMITS: usize = 32;
/// Actions of a rate: far beyond what one agent does in a day.
pub const MAX_REQUESTS: u32 = 1_000_000;
/// Places that a policy allows data to be kept at.
pub const MAX_RESIDENCIES: usize = 32;
/// Characters of the name of a time zone: the longest of the IANA database has 32.
pub const MAX_TIME_ZONE: usize = 64;
/// Windows of a schedule: seven days with a few breaks each.
pub const MAX_WINDOWS: usize = 32;
/// Dates that a schedule excludes: a year of them.
pub const MAX_EXCLUDED_DATES: usize = 366;
/// Days of a week.
pub const WEEK: usize = 7;
/// Characters of a time `HH:MM`.
pub const TIME_LENGTH: usize = 5;
/// Characters of a date `YYYY-MM-DD`.
pub const DATE_LENGTH: usize = 10;
/// Characters of the reason of a halt: it is repeated in each denial.
pub const MAX_REASON: usize = 512;
/// Characters of a pod's UID: 36, or the 32 of a static pod.
pub const MAX_UID: usize = 36;
/// Characters of `namespace/name` of a policy: a DNS label, a slash and the name of an object.
pub const MAX_FULL_NAME: usize = MAX_NAME + 1 + MAX_OBJECT_NAME;
/// Entries of `matchLabels`, and of `matchExpressions`. Pods have few labels that tell agents apart.
pub const MAX_SELECTOR_TERMS: usize = 32;
/// Values of one expression of a selector.
pub const MAX_SELECTOR_VALUES: usize = 64;
/// Characters of a label's key: a DNS subdomain of 253, a slash, a name of 63.
pub const MAX_LABEL_KEY: usize = 317;
/// Characters of a label's value, as Kubernetes has it.
pub const MAX_LABEL_VALUE: usize = 63;
/// Bytes of a certificate bundle. All public roots together are about 220 KiB; a tenant's own CA is one
/// or two certificates. The bundle travels in a policy document to every gateway.
pub const MAX_CA_BUNDLE: usize = 64 * 1024;
