//! `Upstream`: a place that a tenant's agents may reach at all, and the credential that the gateway adds.
//! Written by the platform team, in the tenant's platform namespace.

use std::num::NonZeroU16;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{
    MAX_ARGUMENT_NAME, MAX_ARGUMENTS, MAX_CIDR, MAX_CIDRS, MAX_HEADER_NAME, MAX_HOST, MAX_HOSTS, MAX_KEY, MAX_METHOD,
    MAX_NAME, MAX_OBJECT_NAME, MAX_OPERATION_NAME, MAX_OPERATIONS, MAX_PATH, MAX_USERNAME,
};
use crate::schema::{DATA_KEY, DNS_LABEL, DNS_SUBDOMAIN, METHOD, open_object};
use crate::status::UpstreamStatus;
use crate::{Category, strict};

/// A host name or a pattern of one, roughly; the exact form is checked by `clawlock-compile`.
const HOST: &str = "^[-A-Za-z0-9_.*]+$";
/// An address and a prefix length, roughly.
const CIDR: &str = "^[0-9a-fA-F:.]+/[0-9]{1,3}$";
/// Name of an operation: one or more segments between dots.
const OPERATION_NAME: &str = "^[A-Za-z0-9_][-A-Za-z0-9_]*([.][A-Za-z0-9_][-A-Za-z0-9_]*)*$";
/// A path template: literal segments, which may have a space since they are compared with decoded paths,
/// and `{variables}`.
const TEMPLATE: &str = "^/[^?#\\x00-\\x1f\\x7f]*$";
/// Name of an argument: what a condition can write after `args.`, or in `args['...']`.
const ARGUMENT_NAME: &str = "^[^\\x00-\\x20\\x7f]+$";
/// Name of a header (RFC 9110 section 5.1).
const HEADER_NAME: &str = "^[-A-Za-z0-9!#$%&'*+.^_`|~]+$";
/// A user name of a Basic credential: no control character and no colon (RFC 7617 section 2).
const USERNAME: &str = "^[^:\\x00-\\x1f\\x7f]+$";

/// A place that the tenant's agents may reach: every pair of `scheme`, one of `hosts` and `port`. What
/// no Upstream declares is unreachable. Its name, a DNS label, stands in operations and in http matches.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clawlock.dev",
    version = "v1alpha1",
    kind = "Upstream",
    plural = "upstreams",
    namespaced,
    shortname = "clawup",
    category = "clawlock",
    derive = "PartialEq",
    status = "UpstreamStatus",
    doc = "A place that the tenant's agents may reach, and the credential that the gateway adds.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Hosts", type_ = "string", json_path = ".spec.hosts"),
    printcolumn(name = "Credential", type_ = "string", json_path = ".spec.credential.type"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Scheme", type_ = "string", json_path = ".spec.scheme", priority = 1),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.port", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [
        {
            "rule": "self.scheme == 'https' || !has(self.credential) || self.credential.type == 'None'",
            "message": "a credential needs the scheme https",
        },
        {
            "rule": "!has(self.credential) || self.credential.type == 'None' || self.hosts.all(host, !host.contains('*'))",
            "message": "an upstream with a credential has no wildcard host",
        },
        {
            "rule": "self.scheme == 'https' || !has(self.tls)",
            "message": "tls needs the scheme https",
        },
    ])
)]
pub struct UpstreamSpec {
    /// What is spoken there: HTTP, or LLM, the API of a language model over HTTP. Agents reach an LLM upstream only
    /// while their guard plugin reports itself, every 15 seconds at least, unless the TenantGateway's
    /// `agents.pluginOptional` lists them.
    pub protocol: Protocol,
    /// http or https. An upstream with a credential is https.
    pub scheme: Scheme,
    /// Host names, 1 to 64, no addresses. `*` stands for any run of characters within one label, and only
    /// on an upstream without a credential. Upstreams of one tenant with the same scheme and port share no
    /// host.
    #[serde(deserialize_with = "strict::list")]
    #[schemars(
        length(min = 1, max = MAX_HOSTS),
        inner(length(min = 1, max = MAX_HOST), regex(pattern = HOST)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hosts: Vec<String>,
    /// The TCP port, 1 to 65535.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: NonZeroU16,
    /// Addresses that may be dialled although they are not public (private, loopback, link-local), as
    /// CIDRs, at most 64. Default: none.
    #[serde(
        rename = "allowedCIDRs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "strict::list"
    )]
    #[schemars(
        length(max = MAX_CIDRS),
        inner(length(min = 1, max = MAX_CIDR), regex(pattern = CIDR)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_cidrs: Vec<String>,
    /// How the upstream's certificate is verified. Absent: by the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "Tls")]
    pub tls: Option<Tls>,
    /// What the gateway adds to each allowed request. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "Credential")]
    pub credential: Option<Credential>,
    /// Where the upstream keeps data: a DNS label such as eu. Policies can allow some of these. Absent: nobody
    /// knows, so that an agent whose policies restrict residency does not reach it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "String", length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub residency: Option<String>,
    /// What requests do that are no operation, and operations without a category of their own: Read, Write,
    /// Delete, Money, Shell, Network or Admin. Absent: nobody knows, so that Ask and Block rules about any
    /// category hold for them, and Auto rules about none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "Category")]
    pub category: Option<Category>,
    /// Named operations, at most 500, which rules address as `upstream.operation`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_OPERATIONS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub operations: Vec<Operation>,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2.
    #[serde(rename = "HTTP")]
    Http,
    /// The API of a language model, over HTTP.
    #[serde(rename = "LLM")]
    Llm,
}

/// Scheme of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

/// How an upstream's certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Tls {
    /// Certificate authorities that are trusted instead of the public roots.
    #[serde(deserialize_with = "strict::object")]
    pub ca_ref: CaRef,
}

/// Where a bundle of certificate authorities is: in the Upstream's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct CaRef {
    /// Kind of the object: ConfigMap.
    pub kind: CaRefKind,
    /// Name of the object, at most 253 characters.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// Key in it, whose value is one or more certificates in PEM, at most 64 KiB.
    #[schemars(length(min = 1, max = MAX_KEY), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// Kind of object that holds certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaRefKind {
    /// A ConfigMap: certificates are public.
    ConfigMap,
}

/// What the gateway adds to each allowed request: a union by `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [
        {"rule": "(self.type == 'Bearer') == has(self.bearer)", "message": "type Bearer, and only it, needs bearer"},
        {"rule": "(self.type == 'Header') == has(self.header)", "message": "type Header, and only it, needs header"},
        {"rule": "(self.type == 'Basic') == has(self.basic)", "message": "type Basic, and only it, needs basic"},
    ])
)]
pub struct Credential {
    /// Bearer, Header, Basic or None. The field of the same name is set, and no other.
    #[serde(rename = "type")]
    pub kind: CredentialType,
    /// A bearer token (RFC 6750).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "BearerCredential")]
    pub bearer: Option<BearerCredential>,
    /// A header of the upstream's own.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "HeaderCredential")]
    pub header: Option<HeaderCredential>,
    /// A user name and a password (RFC 7617).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "BasicCredential")]
    pub basic: Option<BasicCredential>,
}

/// How the gateway authenticates to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CredentialType {
    /// `Authorization: Bearer TOKEN`.
    Bearer,
    /// A header of the upstream's own.
    Header,
    /// `Authorization: Basic ...`.
    Basic,
    /// Not at all.
    None,
}

/// A bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct BearerCredential {
    /// Where the token is.
    #[serde(deserialize_with = "strict::object")]
    pub secret_ref: SecretRef,
}

/// A header with a secret value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct HeaderCredential {
    /// The header's name, at most 64 characters, for example `x-api-key`. Headers that frame or route a
    /// request (Host, Content-Length, Connection and the like) are refused.
    #[schemars(length(min = 1, max = MAX_HEADER_NAME), regex(pattern = HEADER_NAME))]
    pub name: String,
    /// Where the value is.
    #[serde(deserialize_with = "strict::object")]
    pub secret_ref: SecretRef,
}

/// A user name and a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct BasicCredential {
    /// The user name, at most 256 characters, without a colon.
    #[schemars(length(min = 1, max = MAX_USERNAME), regex(pattern = USERNAME))]
    pub username: String,
    /// Where the password is.
    #[serde(deserialize_with = "strict::object")]
    pub secret_ref: SecretRef,
}

/// A key of a Secret in the Upstream's namespace. Only the gateway reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct SecretRef {
    /// Name of the Secret, at most 253 characters.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// Key in it: letters, digits, '-', '_' and '.', at most 253.
    #[schemars(length(min = 1, max = MAX_KEY), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// A named operation: what a request with this method and path does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Operation {
    /// Name, unique within the upstream: letters, digits, '_' and '-', in segments between dots. At most
    /// 128 characters.
    #[schemars(length(min = 1, max = MAX_OPERATION_NAME), regex(pattern = OPERATION_NAME))]
    pub name: String,
    /// Method in upper case, at most 32 characters.
    #[schemars(length(min = 1, max = MAX_METHOD), regex(pattern = METHOD))]
    pub method: String,
    /// Path template: literal segments and whole segments `{variable}`, which conditions read as
    /// `args.variable`. At most 1024 characters.
    #[schemars(length(min = 1, max = MAX_PATH), regex(pattern = TEMPLATE))]
    pub path: String,
    /// What the operation does: Read, Write, Delete, Money, Shell, Network or Admin. Absent: what the upstream
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "Category")]
    pub category: Option<Category>,
    /// Arguments whose type conditions rely on, at most 64. Values of path, query and form that are not
    /// declared here are strings; values of a JSON body keep their own type.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_ARGUMENTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub arguments: Vec<Argument>,
}

/// A declared argument of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Argument {
    /// A path variable, a field of the query or form, or a top-level member of the JSON body.
    #[schemars(length(min = 1, max = MAX_ARGUMENT_NAME), regex(pattern = ARGUMENT_NAME))]
    pub name: String,
    /// Type as which conditions see it: String, Integer (64 bit), Number or Boolean. A value that is not
    /// of this type makes the condition fail.
    #[serde(rename = "type")]
    pub kind: ArgumentType,
}

/// Type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ArgumentType {
    /// Text.
    String,
    /// Signed 64-bit integer.
    Integer,
    /// IEEE 754 double.
    Number,
    /// `true` or `false`.
    Boolean,
}
