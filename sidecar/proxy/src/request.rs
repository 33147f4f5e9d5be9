//! A request's head, parsed into the one reading on which it is decided and by which it is forwarded.

use std::sync::Arc;

use clawlock_audit::ActionRecord;
use clawlock_audit::record::bounded;
use clawlock_policy::document::Scheme;
use clawlock_policy::{Action, Body, Caller, Code, Context, Denial, Facts, HostName, HttpAction, Policy, RequestPath};
use http::uri::Authority;
use http::{HeaderMap, Method, Uri, header};

use crate::{denial, headers};

/// Where a request goes: the triple that an upstream is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Scheme.
    pub scheme: Scheme,
    /// Host.
    pub host: HostName,
    /// Port.
    pub port: u16,
}

impl Target {
    /// Parses the authority of a request for a scheme.
    ///
    /// # Errors
    /// [`Code::BadRequest`] with the reason when it has userinfo, or its host or port does not parse;
    /// [`Code::UnknownUpstream`] when the host is an IP literal, since no upstream has one.
    pub fn parse(scheme: Scheme, authority: &Authority) -> Result<Self, Denial> {
        if authority.as_str().contains('@') {
            return Err(denial::of(Code::BadRequest, "the authority carries userinfo".to_owned()));
        }
        // `Authority::port` answers None for a port above 65535, so the text itself is read.
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or(":");
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None => default_port(scheme),
        };
        let host = HostName::parse(authority.host()).map_err(|reason| {
            let shown = bounded(authority.host());
            denial::of(Code::UnknownUpstream, format!("host {shown:?} is no upstream: {reason}"))
        })?;
        Ok(Self { scheme, host, port })
    }

    /// `host` or, beside the scheme's default port, `host:port`: the value of `Host` (RFC 9110
    /// section 7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == default_port(self.scheme) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// `scheme://host:port`, for records and messages.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }

    /// Whether a text is this host, and its port unless that is the scheme's: the usual spelling, seen
    /// without parsing. Another one may still name the target.
    fn is_spelt(&self, text: &[u8]) -> bool {
        let host = self.host.as_str().as_bytes();
        let Some((name, port)) = text.split_at_checked(host.len()) else { return false };
        let port_fits = match port {
            [] => self.port == default_port(self.scheme),
            [b':', port @ ..] => {
                std::str::from_utf8(port).is_ok_and(|port| parse_port(port).is_ok_and(|port| port == self.port))
            }
            _ => false,
        };
        port_fits && name.eq_ignore_ascii_case(host)
    }

    fn is(&self, authority: &Authority) -> bool {
        Self::parse(self.scheme, authority).is_ok_and(|other| other == *self)
    }
}

/// The host and port that a URI names, for the record of a request that was refused for them. Userinfo
/// is a credential, and stays out.
#[must_use]
pub fn named(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", Authority::as_str);
    bounded(authority.rsplit_once('@').map_or(authority, |(_, place)| place))
}

/// The default port of a scheme.
#[must_use]
pub const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

fn parse_port(text: &str) -> Result<u16, Denial> {
    // `u16::from_str` takes a leading '+', and leading zeros give a port a second spelling.
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    canonical.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        denial::of(Code::BadRequest, format!("port {:?} is not a number from 1 to 65535", bounded(text)))
    })
}

/// Checks that everything in a request that names a server names the target.
///
/// # Errors
/// [`Code::AuthorityMismatch`] or [`Code::BadRequest`].
pub fn check_authority(uri: &Uri, fields: &HeaderMap, target: &Target) -> Result<(), Denial> {
    let mismatch = |what: &str| {
        denial::of(
            Code::AuthorityMismatch,
            format!("{what} does not name {}, to which the connection goes", target.text()),
        )
    };
    if let Some(scheme) = uri.scheme_str()
        && scheme != target.scheme.as_str()
    {
        return Err(mismatch("the request's scheme"));
    }
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(denial::of(Code::BadRequest, "the request has more than one Host".to_owned()));
    }
    match (uri.authority(), host) {
        (None, None) => return Err(denial::of(Code::BadRequest, "the request names no host".to_owned())),
        (Some(authority), _) if !target.is(authority) => return Err(mismatch("the request's authority")),
        _ => {}
    }
    if let Some(host) = host
        && !target.is_spelt(host.as_bytes())
    {
        let authority = Authority::try_from(host.as_bytes())
            .map_err(|_| denial::of(Code::BadRequest, "the Host header is not host[:port]".to_owned()))?;
        if !target.is(&authority) {
            return Err(mismatch("the Host header"));
        }
    }
    Ok(())
}

/// What is decided, owned, so that it can be decided again.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it goes.
    pub target: Target,
    /// The upstream's name, once it is known.
    pub upstream: Option<Arc<str>>,
    /// Method.
    pub method: Method,
    /// Path.
    pub path: RequestPath,
    /// Query without `?` and without credential carriers.
    pub query: String,
    /// Headers, when a rule reads them.
    pub headers: Option<HeaderMap>,
    /// The body, as far as it was read.
    pub body: KnownBody,
}

/// A body as far as it was read, owned.
#[derive(Clone, Debug)]
pub enum KnownBody {
    /// Not read.
    Unread,
    /// None.
    Empty,
    /// Whole.
    Full(bytes::Bytes, String),
    /// Cannot be judged.
    Unusable(&'static str),
}

impl Question {
    /// The facts to decide on.
    #[must_use]
    pub fn facts<'a>(&'a self, caller: &'a Caller, now_ms: u64) -> Facts<'a> {
        let body = match &self.body {
            KnownBody::Unread => Body::Unread,
            KnownBody::Empty => Body::Empty,
            KnownBody::Full(bytes, content_type) => Body::Full { content_type, bytes },
            KnownBody::Unusable(why) => Body::Unusable(why),
        };
        let action = HttpAction {
            upstream: self.upstream.as_deref().unwrap_or_default(),
            host: &self.target.host,
            port: self.target.port,
            method: self.method.as_str(),
            path: &self.path,
            query: &self.query,
            headers: self.headers.as_ref(),
            body,
        };
        Facts { caller, action: Action::Http(action), context: Context { now_ms } }
    }

    /// The record's action, with the operation's name by the policy that decided.
    #[must_use]
    pub fn record(&self, policy: &Policy) -> ActionRecord {
        let operation = self.operation(policy);
        ActionRecord::Http {
            upstream: self.upstream.clone(),
            operation,
            method: bounded(self.method.as_str()),
            target: self.target.text(),
            path: bounded(self.path.as_str()),
        }
    }

    /// The operation that it is, as `upstream.operation`.
    #[must_use]
    pub fn operation(&self, policy: &Policy) -> Option<Arc<str>> {
        match self.facts(policy.caller(), 0).action {
            Action::Http(action) => policy.operation(&action).cloned(),
            Action::Tool(_) => None,
        }
    }

    /// The path and query to forward.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.to_string() } else { format!("{}?{}", self.path, self.query) }
    }
}

/// Parses the path.
///
/// # Errors
/// [`Code::BadRequest`] with the reason.
pub fn parse_path(uri: &Uri) -> Result<RequestPath, Denial> {
    RequestPath::parse(uri.path()).map_err(|reason| {
        denial::of(Code::BadRequest, format!("path {:?} has more than one reading: {reason}", bounded(uri.path())))
    })
}

/// Cleans a request's headers of what must not pass this gate: hop-by-hop fields, names that only the
/// gates may use, and whatever `Expect` or `Host` would say (the next hop gets its own).
///
/// # Errors
/// [`Code::BadRequest`] when `Connection` names a field that must stay, or a single field stands twice.
pub fn clean_headers(fields: &mut HeaderMap) -> Result<(), Denial> {
    if headers::are_plain(fields) {
        fields.remove(header::HOST);
        return Ok(());
    }
    headers::check_single(fields).map_err(|error| denial::of(Code::BadRequest, error.to_string()))?;
    headers::strip_hop_by_hop(fields).map_err(|error| denial::of(Code::BadRequest, error.to_string()))?;
    headers::strip_internal(fields);
    fields.remove(header::HOST);
    fields.remove(header::EXPECT);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, Denial> {
        Target::parse(
            Scheme::Https,
            &text.parse::<Authority>().map_err(|_| denial::of(Code::BadRequest, String::new()))?,
        )
    }

    #[test]
    fn class04_spellings_of_a_host_give_one_target_or_none() {
        let canonical = target("api.stripe.com").unwrap();
        assert_eq!(target("API.Stripe.com:443").unwrap(), canonical);
        for refused in [
            "api.stripe.com.",
            "api.stripe.com:",
            "api.stripe.com:0443",
            "api.stripe.com:+443",
            "api.stripe.com:0",
            "api.stripe.com:65979",
            "user@api.stripe.com",
            "api%2estripe.com",
            "api。stripe。com",
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "127.1",
        ] {
            assert!(target(refused).is_err(), "{refused}");
        }
    }

    fn host_header(hosts: &[&str]) -> HeaderMap {
        hosts.iter().map(|h| (header::HOST, h.parse().unwrap())).collect()
    }

    #[test]
    fn class02_two_hosts_or_none_are_refused() {
        let target = target("api.stripe.com").unwrap();
        let uri: Uri = "/v1/refunds".parse().unwrap();
        assert!(check_authority(&uri, &host_header(&["api.stripe.com"]), &target).is_ok());
        assert!(check_authority(&uri, &host_header(&["api.stripe.com:443"]), &target).is_ok());
        for hosts in
            [&[] as &[&str], &["api.stripe.com", "api.stripe.com"], &["evil.example"], &["api.stripe.com:8443"]]
        {
            assert!(check_authority(&uri, &host_header(hosts), &target).is_err(), "{hosts:?}");
        }
    }

    #[test]
    fn an_absolute_uri_in_a_tunnel_must_agree_too() {
        let target = target("api.stripe.com").unwrap();
        let same: Uri = "https://api.stripe.com/v1".parse().unwrap();
        assert!(check_authority(&same, &host_header(&["api.stripe.com"]), &target).is_ok());
        for other in ["http://api.stripe.com/v1", "https://evil.example/v1", "https://api.stripe.com:8443/v1"] {
            assert!(
                check_authority(&other.parse().unwrap(), &host_header(&["api.stripe.com"]), &target).is_err(),
                "{other}"
            );
        }
    }

    #[test]
    fn fuzz_connect_target() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let Ok(authority) = Authority::try_from(bytes) else { return };
            let Ok(target) = Target::parse(Scheme::Https, &authority) else { return };
            // What was accepted has one spelling, which names the same target.
            let again: Authority = target.authority().parse().unwrap();
            assert_eq!(Target::parse(Scheme::Https, &again).unwrap(), target);
            assert!(target.port != 0 && target.host.as_str() == target.host.as_str().to_ascii_lowercase());
        });
    }

    #[test]
    fn fuzz_request_head() {
        bolero::check!().with_type::<(String, Vec<(Vec<u8>, Vec<u8>)>)>().for_each(|(uri, fields)| {
            let Ok(uri) = uri.parse::<Uri>() else { return };
            let mut headers = HeaderMap::new();
            for (name, value) in fields.iter().take(64) {
                let name = http::HeaderName::from_bytes(name);
                let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value)) else { return };
                headers.append(name, value);
            }
            let target = target("api.stripe.com").unwrap();
            let named = check_authority(&uri, &headers, &target).is_ok();
            if let Ok(path) = parse_path(&uri) {
                assert_eq!(path.as_str(), uri.path(), "the decided path is the forwarded path");
            }
            if named {
                assert!(headers.get_all(header::HOST).iter().count() <= 1);
            }
            if clean_headers(&mut headers).is_ok() {
                for gone in ["host", "connection", "transfer-encoding", "upgrade", "clawlock-upstream"] {
                    assert!(!headers.contains_key(gone), "{gone}");
                }
            }
        });
    }
}
