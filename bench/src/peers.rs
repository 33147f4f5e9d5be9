//! nginx, haproxy and squid as Debian ships them, with the configuration that makes them comparable:
//! one worker, kept-alive connections on both sides, an access log in a file.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::child::Running;
use crate::load::{Style, Target};
use crate::pki::{self, HOST, Pki};

/// How long a peer may take to listen.
const START: Duration = Duration::from_secs(15);

/// Connections that a peer must be able to hold.
const CONNECTIONS: usize = 8192;

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Nginx,
    Haproxy,
    Squid,
}

/// All of them.
pub(crate) const ALL: [Peer; 3] = [Peer::Nginx, Peer::Haproxy, Peer::Squid];

/// What a peer works with.
pub(crate) struct Setting<'a> {
    /// The run's folder.
    pub(crate) dir: &'a Path,
    /// Whether clients speak TLS, and the origin too.
    pub(crate) tls: bool,
    /// The origin's port.
    pub(crate) origin: u16,
}

impl Peer {
    /// Where Debian puts the program, when it is installed.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let path = match self {
            Self::Nginx => "/usr/sbin/nginx",
            Self::Haproxy => "/usr/sbin/haproxy",
            Self::Squid => "/usr/sbin/squid",
        };
        Some(PathBuf::from(path)).filter(|path| path.exists())
    }

    /// What it does in the measurement.
    pub(crate) fn label(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Nginx, false) => "nginx, reverse proxy",
            (Self::Nginx, true) => "nginx, reverse proxy, TLS both sides",
            (Self::Haproxy, false) => "haproxy, reverse proxy",
            (Self::Haproxy, true) => "haproxy, reverse proxy, TLS both sides",
            (Self::Squid, false) => "squid, forward proxy",
            (Self::Squid, true) => "squid, CONNECT, bytes only",
        }
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(self, setting: &Setting<'_>) -> Result<(Running, Target), String> {
        let program = self.program().ok_or("the peer is not installed")?;
        let port = free_port()?;
        let file = self.configure(setting, port)?.display().to_string();
        let mut args = vec!["peer", "--core", "0", "--dir"].into_iter().map(str::to_owned).collect::<Vec<_>>();
        args.extend([setting.dir.display().to_string(), "--".to_owned(), program.display().to_string()]);
        match self {
            Self::Nginx => args.extend(["-c".to_owned(), file]),
            Self::Haproxy => args.extend(["-db".to_owned(), "-f".to_owned(), file]),
            Self::Squid => args.extend(["-N".to_owned(), "-f".to_owned(), file]),
        }
        let running = Running::start(&args)?;
        let give_up = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > give_up {
                return Err(format!("{self:?} did not listen within {} s", START.as_secs()));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok((running, Target { port, style: self.style(setting)? }))
    }

    fn style(self, setting: &Setting<'_>) -> Result<Style, String> {
        let tls = || pki::client(&Pki::open(setting.dir).ca(), b"http/1.1");
        Ok(match (self, setting.tls) {
            (Self::Squid, false) => Style::Absolute { port: setting.origin },
            (Self::Squid, true) => Style::Connect { port: setting.origin, tls: tls()? },
            (_, false) => Style::Direct,
            (_, true) => Style::DirectTls(tls()?),
        })
    }

    fn configure(self, setting: &Setting<'_>, port: u16) -> Result<PathBuf, String> {
        let shape = if setting.tls { "tls" } else { "plain" };
        let dir = setting.dir.join(format!("{self:?}-{shape}").to_lowercase());
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let text = match self {
            Self::Nginx => nginx(setting, &dir, port),
            Self::Haproxy => haproxy(setting, &dir, port)?,
            Self::Squid => squid(&dir, port)?,
        };
        let file = dir.join("config");
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(file)
    }
}

fn nginx(setting: &Setting<'_>, dir: &Path, port: u16) -> String {
    let origin = setting.origin;
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let (cert, key) = Pki::open(setting.dir).files("origin");
    let ca = Pki::open(setting.dir).ca();
    let (listen, server, pass) = if setting.tls {
        let server = format!("ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display());
        let pass = format!(
            "proxy_pass https://origin; proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_verify on; \
             proxy_ssl_trusted_certificate {}; proxy_ssl_protocols TLSv1.3;",
            ca.display()
        );
        ("ssl", server, pass)
    } else {
        ("", String::new(), "proxy_pass http://origin;".to_owned())
    };
    let d = dir.display();
    format!(
        "{user} daemon off; worker_processes 1; worker_rlimit_nofile {CONNECTIONS}; pid {d}/pid; error_log {d}/error.log;
events {{ worker_connections {CONNECTIONS}; }}
http {{
  access_log {d}/access.log; keepalive_requests 1000000000;
  client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi; uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} {listen}; {server}
    location / {{ {pass} proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host; }}
  }}
}}
"
    )
}

fn haproxy(setting: &Setting<'_>, dir: &Path, port: u16) -> Result<String, String> {
    let origin = setting.origin;
    let pki = Pki::open(setting.dir);
    let (bind, server) = if setting.tls {
        let (cert, key) = pki.files("origin");
        let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()));
        let both = dir.join("both.pem");
        std::fs::write(&both, read(cert)? + &read(key)?).map_err(|e| format!("{}: {e}", both.display()))?;
        let ca = pki.ca();
        let server = format!("ssl ca-file {} verify required verifyhost {HOST} sni str({HOST})", ca.display());
        (format!("ssl crt {}", both.display()), server)
    } else {
        (String::new(), String::new())
    };
    Ok(format!(
        "global
  maxconn {CONNECTIONS}
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:{port} {bind}
  default_backend origin
backend origin
  http-reuse always
  server one 127.0.0.1:{origin} {server}
"
    ))
}

fn squid(dir: &Path, port: u16) -> Result<String, String> {
    use std::os::unix::fs::PermissionsExt;
    // Started by root, squid works as another user, who must write its logs.
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir, open).map_err(|e| format!("{}: {e}", dir.display()))?;
    let hosts = dir.join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 {HOST}\n")).map_err(|e| format!("{}: {e}", hosts.display()))?;
    let d = dir.display();
    Ok(format!(
        "http_port 127.0.0.1:{port}
http_access allow all
cache deny all
hosts_file {d}/hosts
dns_nameservers 127.0.0.1
access_log stdio:{d}/access.log
cache_log {d}/cache.log
pid_filename {d}/pid
coredump_dir {d}
max_filedescriptors {CONNECTIONS}
pinger_enable off
netdb_filename none
shutdown_lifetime 0 seconds
"
    ))
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| format!("no free port: {e}"))?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}
