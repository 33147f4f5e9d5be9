//! The command line. Every value is parsed here into its type; nothing deeper reads arguments or the
//! environment.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::secret::SecretText;

mod cluster;
mod values;

pub(crate) use cluster::{ClusterArgs, DoctorArgs, HaltArgs, LogsArgs, ResumeArgs, ShadowArgs, StatusArgs};
pub(crate) use values::{AgentName, HaltName, HeaderArg, Label, Loopback, Resolved, TenantName, Time};

/// Policy at two gates for OpenClaw agents, on this machine.
#[derive(Debug, Parser)]
#[command(name = "clawlock", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The name under which kubectl finds a plugin `clawlock`.
const PLUGIN: &str = "kubectl-clawlock";

impl Cli {
    /// The command as it is called: by its own name, or by kubectl's for it.
    pub(crate) fn named(program: Option<&OsStr>) -> clap::Command {
        let plugin = program.map(Path::new).and_then(Path::file_name).is_some_and(|name| name == PLUGIN);
        let command = Self::command();
        if plugin { command.bin_name("kubectl clawlock") } else { command.bin_name("clawlock") }
    }

    /// Parses the arguments; ends the process when they are wrong.
    pub(crate) fn of(arguments: impl Iterator<Item = OsString>) -> Self {
        let arguments: Vec<OsString> = arguments.collect();
        let matches = Self::named(arguments.first().map(OsString::as_os_str)).get_matches_from(arguments);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The script for a shell.
pub(crate) fn completion(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "clawlock", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a starter folder whose policy lets OpenClaw start
    Init(InitArgs),
    /// Check files of policy; exits with 0 when they hold, 1 on a problem, 2 on wrong usage
    Lint(LintArgs),
    /// Say what would be decided on an action, or was on a request of the log, and why; exits with 0 for allow, 1 for a refusal, 2 when the
    /// action or the files are not valid
    Explain(ExplainArgs),
    /// Ask the policy about written cases, each with the verdict that is expected; exits with 0 when all hold, 1 when
    /// one does not, 2 when a case or the policy is not valid
    Test(TestArgs),
    /// Say what other policies would have decided on the actions of a log; exits with 0 when nothing becomes possible
    /// that was refused, 1 when something does or may, 2 when the log or the files cannot be read
    Simulate(SimulateArgs),
    /// Write the least policy that allows what a log shows as allowed, for a person to review; exits with 0 when it allows
    /// all of it, 1 when something could not be put into a rule, 2 when the log cannot be read
    Generate(GenerateArgs),
    /// Write policy that stands in formats of others as documents of this API, never wider; exits with 0 when it could,
    /// 2 when a file is not understood as a whole
    Import(ImportArgs),
    /// Run both gates on this machine over a folder of policy, and an agent under them
    Dev(Box<DevArgs>),
    /// Say where tenants stand; exits with 0 when all is in force, 1 when something is not
    Status(StatusArgs),
    /// Print the decisions of a tenant's gateway and sidecars
    Logs(LogsArgs),
    /// Sum up what mode Audit let pass and Enforce would refuse; exits with 0 when there is nothing, 1 otherwise
    Shadow(ShadowArgs),
    /// Stop agents until they are resumed; exits with 0 when that is in force, 1 when it is not yet
    Halt(HaltArgs),
    /// Let agents go on that were stopped; exits with 0 when nothing stops them any more, 1 otherwise
    Resume(ResumeArgs),
    /// Look for what weakens a cluster or this machine; exits with 0 when nothing does, 1 otherwise
    Doctor(DoctorArgs),
    /// Take a tenant out of a cluster, or say what is in the way; exits with 0 when it is out, 1 when it is not
    Offboard(OffboardArgs),
    /// Print a script that completes commands and options in a shell
    Completion(CompletionArgs),
    /// Restrict this process to TCP ports, then become COMMAND (used by dev)
    #[command(hide = true)]
    LaunchRestricted(LaunchArgs),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; in colour on a terminal unless NO_COLOR is set.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to write clawlock.yaml into; made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Replace a clawlock.yaml that is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `lint`.
#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Folders (searched for *.yaml and *.yml, 8 levels deep) and files
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Whether COMMAND gets the guard plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guard {
    /// When COMMAND starts OpenClaw by its name
    #[default]
    Auto,
    /// In any case: COMMAND starts OpenClaw in a way that does not show
    Always,
    /// Not at all
    Never,
}

/// Which agent is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AgentArgs {
    /// Identity of the agent [default: ServiceAccount "default" in the first namespace of the tenant]
    #[arg(long, value_name = "NAMESPACE/SERVICEACCOUNT")]
    pub(crate) agent: Option<AgentName>,
    /// A label of the agent's pod, as agentSelectors and conditions see it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// `tool NAME [JSON]`, for example: tool exec '{"command":"ls"}'; or `METHOD URL [BODY]`, for example:
    /// GET https://api.example.com/v1/models
    #[arg(value_name = "ACTION", required_unless_present = "request", num_args = 1..=3)]
    pub(crate) action: Vec<String>,
    /// Folder of the policy
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Which agent acts
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// A header of the request; may be repeated. A BODY without Content-Type is read as application/json
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<HeaderArg>,
    /// Time of the action in RFC 3339, for example 2026-11-21T09:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<Time>,
    /// Instead of an action: the id of a request in the log, as denials and the log tell it
    #[arg(long, value_name = "ID", requires = "log", conflicts_with_all = ["action", "headers", "time"])]
    pub(crate) request: Option<String>,
    /// The log of decisions in which --request is looked up; - reads the standard input
    // What is required is not asked for where it conflicts with what is there, so that this must conflict as well.
    #[arg(long, value_name = "LOG", requires = "request", conflicts_with = "action")]
    pub(crate) log: Option<PathBuf>,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// How to print the results of test cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Results {
    /// A table for people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// The XML that CI systems read.
    Junit,
}

/// Arguments of `test`.
#[derive(Debug, Args)]
#[command(after_help = "docs/cli.md has the format of the files.")]
pub(crate) struct TestArgs {
    /// Files of cases, and folders (searched for *.test.yaml and *.test.yml, 8 levels deep)
    /// [default: the folder of the policy]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Folder of the policy
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// How to print: a table, one JSON document, or JUnit's XML
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Results,
}

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Log of decisions, one JSON document per line; - reads the standard input
    #[arg(long, value_name = "LOG")]
    pub(crate) from: PathBuf,
    /// Files and folders of what would change: an object replaces the one of its kind, namespace and name; may be
    /// repeated
    #[arg(long, value_name = "PATH", required = true)]
    pub(crate) policy: Vec<PathBuf>,
    /// Folder of what is in force: tenants, upstreams and other policies
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Look at one agent; --label says the labels of its pods
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// A format of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// agentport.yaml, its overlays (the later file wins) and its part of claw.json
    Agentport,
    /// Agent manifests
    AgentManifest,
    /// Tool binding manifests (manifest.json, claw.toml)
    Binding,
    /// policy.json of a tenant, claims of a token, Helm values, or a file of variables
    Destinations,
    /// Tables with a tier per method
    Tiers,
    /// NetworkPolicies, and configurations of proxies of which only the hosts are listed
    Network,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What the files are
    #[arg(value_enum, value_name = "FORMAT")]
    pub(crate) format: ImportFormat,
    /// The files
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The agents' namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: String,
    /// The platform namespace, for Upstreams [default: that of the agents, and -gateway]
    #[arg(long, value_name = "NAME")]
    pub(crate) platform_namespace: Option<String>,
    /// A label of the agents that the policies select; may be repeated [default: all agents of the namespace]
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// How to print: YAML with comments, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Log of decisions, one JSON document per line; - reads the standard input
    #[arg(long, value_name = "LOG")]
    pub(crate) from: PathBuf,
    /// Look at one agent; --label says which labels its pods have, so that the policy selects no others
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// How to print: YAML with comments, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(after_help = crate::dev::HELP)]
pub(crate) struct DevArgs {
    /// Folder of the policy, watched for changes
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// A credential that Upstreams refer to by secretRef: from an environment variable of clawlock, which the
    /// agent does not get, or from a file, which is read again when it changes; may be repeated
    #[arg(long = "secret", value_name = "NAME/KEY=env:VAR|file:PATH")]
    pub(crate) secrets: Vec<SecretText>,
    /// Address of a host instead of what DNS says; it is checked like any other; may be repeated
    #[arg(long = "resolve", value_name = "HOST:ADDRESS")]
    pub(crate) resolve: Vec<Resolved>,
    /// Which agent runs under the gates
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// The agent's tool binding manifest, in JSON, or in TOML when its name ends so: what it does not declare is refused,
    /// also where policy allows it. It is read once
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// Loopback address and port of the proxy [default: 127.0.0.1 and the port of last time, else a free one]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<Loopback>,
    /// Where the interception CA, the Unix socket and the file of variables are kept
    /// [default: $XDG_STATE_HOME/clawlock/ and a hash of the folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// File that gets one line of JSON per decision [default: decisions.jsonl in the state folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How to print: text, or one JSON document per line. Goes to the standard output, or to the standard
    /// error when a COMMAND is run
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Another TCP port that COMMAND may connect to, at any address; may be repeated
    #[arg(long = "allow-port", value_name = "PORT")]
    pub(crate) allow_ports: Vec<NonZeroU16>,
    /// Put the guard plugin under COMMAND, an OpenClaw: with a configuration that keeps the plugin in force
    #[arg(long, value_enum, default_value_t)]
    pub(crate) guard: Guard,
    /// Resume the agent: a rule with onDeny Halt, or the cross-check, has halted it in this run or one before, and a
    /// person has looked at why
    #[arg(long)]
    pub(crate) resume: bool,
    /// Run COMMAND without Landlock: it can then open connections past the gates
    #[arg(long)]
    pub(crate) no_landlock: bool,
    /// The agent to run under the gates; clawlock ends when it ends, with its exit status
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Arguments of `offboard`.
#[derive(Debug, Args)]
pub(crate) struct OffboardArgs {
    /// The tenant: the name of its TenantGateway
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: TenantName,
    /// Delete everything that runs in the tenant's namespaces, wait until the last one is gone, then delete the
    /// TenantGateway. Without it nothing is changed
    #[arg(long)]
    pub(crate) yes: bool,
    /// Context of kubectl's configuration [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "For bash: clawlock completion bash > ~/.local/share/bash-completion/completions/clawlock")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: Shell,
}

/// Arguments of `launch-restricted`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// A TCP port that COMMAND may connect to
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) ports: Vec<NonZeroU16>,
    /// What to become
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_shell_has_a_script() {
        for shell in Shell::value_variants() {
            let script = completion(*shell);
            assert!(script.contains("simulate") && script.contains("folder"), "{shell}: {script}");
        }
    }

    #[test]
    fn values_are_parsed_at_the_edge() {
        assert!("acme/default".parse::<AgentName>().is_ok());
        for text in ["acme", "/a", "a/", "a/b/c", ""] {
            assert!(text.parse::<AgentName>().is_err(), "{text:?}");
        }
        assert_eq!("acme-2".parse::<TenantName>().unwrap().as_str(), "acme-2");
        for text in ["", "-acme", "acme-", "--all", "ACME", "a.b", "a/b", "ü", &"a".repeat(64)] {
            assert!(text.parse::<TenantName>().is_err(), "{text:?}");
        }
        assert_eq!("app=a=b".parse::<Label>().unwrap(), Label { key: "app".into(), value: "a=b".into() });
        assert!("=x".parse::<Label>().is_err());
        assert_eq!("1970-01-01T00:00:01Z".parse::<Time>(), Ok(Time(1000)));
        for text in ["yesterday", "2026-11-21", "1969-01-01T00:00:00Z"] {
            assert!(text.parse::<Time>().is_err(), "{text:?}");
        }
        assert_eq!("A.example:::1".parse::<Resolved>().unwrap().address, "::1".parse::<IpAddr>().unwrap());
        assert_eq!("a.example:[::1]".parse::<Resolved>().unwrap().host.as_str(), "a.example");
        for text in ["a.example", "127.0.0.1:127.0.0.1", "a.example:b.example", "a.example:127.0.0.1:80"] {
            assert!(text.parse::<Resolved>().is_err(), "{text:?}");
        }
        assert!("127.0.0.1:0".parse::<Loopback>().is_ok());
        assert!("0.0.0.0:1".parse::<Loopback>().unwrap_err().contains("loopback"));
        assert!("a: b\r\nc: d".parse::<HeaderArg>().is_err());
        assert!("Accept: text/plain".parse::<HeaderArg>().is_ok());
    }
}
