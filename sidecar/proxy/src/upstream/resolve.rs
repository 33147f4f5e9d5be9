//! Names to addresses. The gateway resolves by itself: what an agent resolves does not count.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use clawlock_policy::HostName;
use hickory_resolver::TokioResolver;

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// Future of [`Resolve::resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'a>>;

/// Resolves names.
pub trait Resolve: Send + Sync {
    /// All addresses of a host, unchecked.
    fn resolve<'a>(&'a self, host: &'a HostName) -> Resolving<'a>;
}

/// Resolves as the machine's `/etc/resolv.conf` and `/etc/hosts` say.
pub struct SystemResolver(TokioResolver);

impl SystemResolver {
    /// Reads the machine's configuration.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new() -> Result<Self, ResolveError> {
        let builder = TokioResolver::builder_tokio().map_err(|error| ResolveError(error.to_string()))?;
        Ok(Self(builder.build().map_err(|error| ResolveError(error.to_string()))?))
    }
}

impl SystemResolver {
    /// All addresses of a name of our own infrastructure, with the machine's search domains: within a cluster, names
    /// of Services are short. Who answers there must prove itself by TLS.
    ///
    /// # Errors
    /// When it has none.
    pub async fn search(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.0.lookup_ip(name).await.map_err(|error| ResolveError(error.to_string()))?;
        Ok(found.iter().collect())
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a HostName) -> Resolving<'a> {
        Box::pin(async move {
            // The final dot keeps search domains out: only the name itself is asked for.
            let found = self.0.lookup_ip(format!("{host}.")).await.map_err(|error| ResolveError(error.to_string()))?;
            Ok(found.iter().collect())
        })
    }
}

/// Addresses that were given by hand; everything else is asked of another resolver. The addresses are
/// checked like any other.
pub struct Overrides<R> {
    hosts: HashMap<HostName, Vec<IpAddr>>,
    other: R,
}

impl<R> Overrides<R> {
    /// Puts hosts before a resolver.
    #[must_use]
    pub fn new(hosts: HashMap<HostName, Vec<IpAddr>>, other: R) -> Self {
        Self { hosts, other }
    }
}

impl<R: Resolve> Resolve for Overrides<R> {
    fn resolve<'a>(&'a self, host: &'a HostName) -> Resolving<'a> {
        match self.hosts.get(host) {
            Some(addresses) => Box::pin(std::future::ready(Ok(addresses.clone()))),
            None => self.other.resolve(host),
        }
    }
}
