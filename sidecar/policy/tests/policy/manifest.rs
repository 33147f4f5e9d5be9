//! A manifest refuses what it does not declare, and allows nothing.

use clawlock_policy::document::{Document, FileAccess, HostDoc, ManifestDoc, RoleDoc, Tier};
use clawlock_policy::manifest::{file_access_of, file_tools, runs_programs};
use clawlock_policy::{Action, Code, Facts, Policy, Verdict, decide, explain};

use crate::fixtures::*;
use crate::reference::world::{Case, Dice, TOOLS, random_case, random_documents};

fn host(host: &str, port: u16) -> HostDoc {
    HostDoc { host: host.into(), port }
}

/// Everything that the tests ask for.
fn full() -> ManifestDoc {
    ManifestDoc {
        name: "acme/support".into(),
        tools: strings(&["exec", "ls", "pg_readonly", "write", "browser"]),
        hosts: vec![host("api.stripe.com", 443)],
        files: FileAccess::Write,
        programs: true,
        roles: vec![RoleDoc { name: "viewer".into(), tools: strings(&["ls", "pg_readonly"]) }],
    }
}

/// An agent that policy allows everything.
fn under(manifest: ManifestDoc) -> Policy {
    let rules =
        vec![rule("tools", tools(&["*"]), Tier::Auto), rule("web", http(&["stripe", "other"], &[], &[]), Tier::Auto)];
    let other = Document::Upstream(upstream_doc("other", "other.example"));
    build(vec![tenant(vec![]), stripe(), other, enforce("acme/p", rules), Document::Manifest(manifest)])
}

fn in_role<'a>(facts: Facts<'a>, role: Option<&'a str>) -> Facts<'a> {
    let Action::Tool(mut tool) = facts.action else { return facts };
    tool.claims.role = role;
    Facts { action: Action::Tool(tool), ..facts }
}

fn seen(policy: &Policy, tool: &str, role: Option<&str>) -> Verdict {
    decide(policy, &in_role(tool_facts(policy.caller(), tool, "{}"), role))
}

fn refused_by(verdict: &Verdict) -> &str {
    assert_eq!(code(verdict), Some(Code::NotDeclared), "{verdict:?}");
    verdict.rule().map_or("", |rule| &rule.rule)
}

#[test]
fn each_field_decides_something() {
    let all = under(full());
    for tool in full().tools {
        assert_eq!(short(&seen(&all, &tool, None)), "allow", "{tool}");
    }
    assert_eq!(short(&request("GET", "/v1/customers").decide(&all)), "allow");

    let without = |change: fn(&mut ManifestDoc)| {
        let mut doc = full();
        change(&mut doc);
        under(doc)
    };
    let fewer = without(|doc| doc.tools.retain(|tool| tool != "ls"));
    assert_eq!(refused_by(&seen(&fewer, "ls", None)), "tool_scope");
    assert_eq!(short(&seen(&fewer, "exec", None)), "allow");
    let closed = without(|doc| doc.hosts.clear());
    assert_eq!(refused_by(&request("GET", "/v1/customers").decide(&closed)), "allowed_hosts");
    let elsewhere = without(|doc| doc.hosts = vec![host("api.stripe.com", 8443), host("stripe.com", 443)]);
    assert_eq!(refused_by(&request("GET", "/v1/customers").decide(&elsewhere)), "allowed_hosts");
    let reading = without(|doc| doc.files = FileAccess::Read);
    let blind = without(|doc| doc.files = FileAccess::None);
    for (tool, reads, sees) in [
        ("ls", "allow", "deny NotDeclared"),
        ("write", "deny NotDeclared", "deny NotDeclared"),
        // Nobody can tell which files these touch.
        ("exec", "deny NotDeclared", "deny NotDeclared"),
        ("browser", "deny NotDeclared", "deny NotDeclared"),
        ("pg_readonly", "allow", "allow"),
    ] {
        assert_eq!(short(&seen(&reading, tool, None)), reads, "{tool}");
        assert_eq!(short(&seen(&blind, tool, None)), sees, "{tool}");
    }
    assert_eq!(refused_by(&seen(&blind, "ls", None)), "file_access");
    let tame = without(|doc| doc.programs = false);
    assert_eq!(refused_by(&seen(&tame, "exec", None)), "binary_access");
    assert_eq!(short(&seen(&tame, "write", None)), "allow");
    let other_role = without(|doc| doc.roles[0].tools.retain(|tool| tool != "ls"));
    assert_eq!(short(&seen(&all, "ls", Some("viewer"))), "allow");
    assert_eq!(refused_by(&seen(&other_role, "ls", Some("viewer"))), "roles");
    let renamed = without(|doc| doc.name = "acme/other".into());
    let verdict = seen(&renamed, "unknown", None);
    assert_eq!(&*verdict.rule().unwrap().policy, "manifest/acme/other");
}

#[test]
fn names_are_compared_exactly() {
    let policy = under(full());
    for tool in ["Exec", "exec ", "exe\u{441}", "exec*", "mcp__exec", "*", ""] {
        assert_eq!(refused_by(&seen(&policy, tool, None)), "tool_scope", "{tool}");
    }
    for role in ["Viewer", "viewer ", "*", ""] {
        assert_eq!(refused_by(&seen(&policy, "ls", Some(role))), "roles", "{role}");
    }
}

#[test]
fn a_role_that_is_declared_nowhere_has_no_tools() {
    assert_eq!(refused_by(&seen(&under(full()), "exec", Some("viewer"))), "roles");
    assert_eq!(refused_by(&seen(&under(full()), "exec", Some("admin"))), "roles");
    let bare = build(vec![tenant(vec![]), enforce("acme/p", vec![rule("all", tools(&["*"]), Tier::Auto)])]);
    assert_eq!(short(&seen(&bare, "exec", None)), "allow");
    let Verdict::Deny(denial) = seen(&bare, "exec", Some("vi\new")) else { panic!() };
    assert_eq!((denial.code, denial.rule), (Code::NotDeclared, None));
    assert!(denial.detail.ends_with("it is not in tool_scope of the run's role \"vi\\new\""), "{}", denial.detail);
}

#[test]
fn it_holds_in_audit_mode_too_and_no_body_is_read_for_what_it_refuses() {
    let rules = vec![when("r", http(&["stripe"], &[], &[]), "args.amount < 10", Tier::Auto)];
    let documents = |hosts| {
        let manifest = Document::Manifest(ManifestDoc { hosts, ..full() });
        vec![auditing_tenant(vec![]), stripe(), audit("acme/p", rules.clone()), manifest]
    };
    let (open, closed) = (build(documents(full().hosts)), build(documents(vec![])));
    let post = request("POST", "/v1/refunds").body(Sent::Unread);
    assert!(open.needs_body(&post.facts(open.caller())));
    assert!(!closed.needs_body(&post.facts(closed.caller())));
    assert_eq!(short(&post.decide(&closed)), "deny NotDeclared");
    assert_eq!(explain(&closed, &post.facts(closed.caller())).verdict, post.decide(&closed));
}

#[test]
fn a_refusal_says_which_key_and_what_to_do() {
    let detail = |doc: ManifestDoc, tool: &str| match seen(&under(doc), tool, None) {
        Verdict::Deny(denial) => denial.detail,
        other => panic!("{other:?}"),
    };
    let blind = || ManifestDoc { files: FileAccess::None, ..full() };
    let begin = "is not declared in manifest acme/support:";
    assert_eq!(detail(blind(), "ls"), format!("tool ls {begin} it reads files, and file_access is none"));
    assert_eq!(detail(blind(), "write"), format!("tool write {begin} it can change files, and file_access is none"));
    assert_eq!(detail(full(), "rm"), format!("tool rm {begin} it is not in tool_scope"));
    let tame = ManifestDoc { programs: false, ..full() };
    assert_eq!(detail(tame, "exec"), format!("tool exec {begin} it runs programs, and binary_access is none"));
    let Verdict::Deny(denial) = request("GET", "/a").decide(&under(ManifestDoc { hosts: vec![], ..full() })) else {
        panic!()
    };
    assert!(denial.detail.ends_with("its host and port are not in allowed_hosts"), "{}", denial.detail);
}

#[test]
fn a_manifest_that_says_nothing_exact_is_refused() {
    let error = |change: fn(&mut ManifestDoc)| {
        let mut doc = full();
        change(&mut doc);
        try_build(vec![tenant(vec![]), Document::Manifest(doc)]).unwrap_err().to_string()
    };
    assert!(error(|doc| doc.tools.push("e*".into())).contains("is a pattern"));
    assert!(error(|doc| doc.tools.push("a b".into())).contains("white space"));
    assert!(error(|doc| doc.tools = vec!["t".into(); 1025]).contains("at most 1024"));
    assert!(error(|doc| doc.hosts.push(host("*.example", 443))).contains("the host"));
    assert!(error(|doc| doc.hosts.push(host("10.0.0.1", 443))).contains("IP address"));
    assert!(error(|doc| doc.hosts.push(host("a.example", 0))).contains("a port is"));
    assert!(error(|doc| doc.hosts = vec![host("a.example", 443); 1025]).contains("at most 1024"));
    assert!(error(|doc| doc.roles[0].tools.push("*".into())).contains("rule viewer"));
    assert!(error(|doc| doc.roles.push(doc.roles[0].clone())).contains("another role"));
    assert!(error(|doc| doc.roles[0].name = "a b".into()).contains("a name has"));
    assert!(error(|doc| doc.name = String::new()).contains("a name has"));
    let two = |name: &str| Document::Manifest(ManifestDoc { name: name.into(), ..full() });
    let error = try_build(vec![tenant(vec![]), two("acme/a"), two("acme/b")]).unwrap_err().to_string();
    assert!(error.contains("more than one manifest"), "{error}");
}

#[test]
fn the_tables_of_tools_agree() {
    let page = include_str!("../../../../docs/manifests.md");
    for tool in file_tools() {
        assert!(page.contains(&format!("`{tool}`")), "docs/manifests.md does not have {tool}");
        assert!(file_access_of(tool) > Some(FileAccess::None), "{tool}");
        assert!(!runs_programs(tool) || file_access_of(tool) == Some(FileAccess::Write), "{tool}");
    }
    assert_eq!((file_access_of("Exec"), runs_programs("Exec")), (None, false));
}

const HOSTS: [&str; 4] = ["s.example", "g.example", "n.example", "other.example"];
const ROLES: [&str; 3] = ["viewer", "editor", "nobody"];

fn random_manifest(dice: &mut Dice) -> ManifestDoc {
    let named: Vec<&str> = TOOLS.into_iter().filter(|tool| !tool.is_empty()).collect();
    let hosts = dice.some(&HOSTS, 3);
    let mut roles: Vec<RoleDoc> = Vec::new();
    for role in dice.some(&ROLES[..2], 2) {
        if roles.iter().all(|known| known.name != role) {
            roles.push(RoleDoc { name: role, tools: dice.some(&named, 3) });
        }
    }
    ManifestDoc {
        name: "acme/m".into(),
        tools: dice.some(&named, 5),
        hosts: hosts.iter().map(|host| HostDoc { host: host.clone(), port: dice.pick(&[443, 443, 80]) }).collect(),
        files: dice.pick(&[FileAccess::None, FileAccess::Read, FileAccess::Write]),
        programs: dice.roll(2) == 0,
        roles,
    }
}

/// What a person would read out of the manifest.
fn declares(manifest: Option<&ManifestDoc>, case: &Case, role: Option<&str>) -> bool {
    let Some((tool, _)) = case.tool else {
        let place = |host: &HostDoc| host.host == case.host.as_str() && host.port == 443;
        return manifest.is_none_or(|manifest| manifest.hosts.iter().any(place));
    };
    let names = |tools: &[String]| tools.iter().any(|name| name == tool);
    let by_manifest = manifest.is_none_or(|manifest| {
        let files = match tool {
            "read" => manifest.files != FileAccess::None,
            "write" | "exec" => manifest.files == FileAccess::Write,
            _ => true,
        };
        names(&manifest.tools) && files && (manifest.programs || tool != "exec")
    });
    let has = |role: &str| {
        let roles = manifest.map(|manifest| &manifest.roles).into_iter().flatten();
        roles.into_iter().any(|known| known.name == role && names(&known.tools))
    };
    by_manifest && role.is_none_or(has)
}

/// With a manifest or a role the answer is that of policy, or a refusal: nothing else, and never more.
#[test]
fn a_manifest_or_role_only_narrows() {
    let mut narrowed = 0;
    for seed in 0..cases(100_000) / 4 {
        let mut dice = Dice(seed ^ 0x3a11);
        let mut documents = random_documents(&mut dice);
        let before = build(&documents);
        let manifest = (dice.roll(4) > 0).then(|| random_manifest(&mut dice));
        documents.extend(manifest.clone().map(Document::Manifest));
        let after = build(&documents);
        for _ in 0..4 {
            let case = random_case(&mut dice);
            let role = dice.pick(&[None, None, Some(ROLES[0]), Some(ROLES[1]), Some(ROLES[2])]);
            let one = decide(&before, &case.facts(before.caller()));
            let two = decide(&after, &in_role(case.facts(after.caller()), role));
            let told = || format!("seed {seed} {role:?}\n{manifest:#?}\n{one:?}\n{two:?}\n{case:#?}");
            let decided_before = matches!(code(&one), Some(Code::Halted | Code::UnknownUpstream));
            if decided_before || declares(manifest.as_ref(), &case, role) {
                assert_eq!(one, two, "{}", told());
            } else {
                assert!(matches!(&two, Verdict::Deny(denial) if denial.code == Code::NotDeclared), "{}", told());
                narrowed += u64::from(matches!(one, Verdict::Allow(_)));
            }
        }
    }
    assert!(narrowed > cases(100_000) / 100, "the cases must try it: {narrowed}");

    fn build(documents: &[Document]) -> Policy {
        crate::fixtures::build(documents.to_vec())
    }
}
