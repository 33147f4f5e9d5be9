//! `decide()` equals a slow, obvious implementation of DESIGN's rules, over random policies and facts.
//!
//! The reference reads the documents as they are and looks at every rule. It shares no code with the
//! crate: not the patterns, not the parsing, not the conditions.

mod clock;
mod model;
pub(crate) mod world;

use clawlock_policy::document::{Document, Mode, RuleDoc, Tier};
use clawlock_policy::schedule::Schedule;
use clawlock_policy::{Policy, Verdict, decide, explain};
use model::{Answer, answer};
use world::{Case, Dice, random_body, random_case, random_documents, random_rule};

use crate::fixtures::{self, cases, try_build};

/// Actions that are decided by each policy.
const ACTIONS: usize = 4;

fn build(documents: &[Document]) -> Policy {
    try_build(documents.to_vec()).unwrap()
}

fn ask(policy: &Policy, case: &Case) -> Verdict {
    decide(policy, &case.facts(policy.caller()))
}

fn allows(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allow(_))
}

#[test]
fn decide_equals_the_reference() {
    for seed in 0..cases(100_000) {
        let mut dice = Dice(seed);
        let documents = random_documents(&mut dice);
        let policy = build(&documents);
        for _ in 0..ACTIONS {
            let case = random_case(&mut dice);
            let verdict = ask(&policy, &case);
            assert_eq!(Answer::of(&verdict), answer(&documents, &case), "seed {seed}\n{case:#?}\n{documents:#?}");
            let facts = case.facts(policy.caller());
            let limits = policy.limits(&facts).into_iter().map(|limit| &limit.reference);
            let limits: Vec<_> = limits.map(|limit| (limit.policy.to_string(), limit.rule.to_string())).collect();
            assert_eq!(limits, model::limits(&documents, &case), "seed {seed}\n{case:#?}\n{documents:#?}");
            let explanation = explain(&policy, &facts);
            assert_eq!(explanation.verdict, verdict);
            for said in &explanation.policies {
                let expected = model::opinion_of(&documents, &case, &said.policy);
                assert_eq!(said.opinion, expected, "seed {seed} {}\n{case:#?}\n{documents:#?}", said.policy);
            }
        }
    }
}

#[test]
fn schedules_equal_the_reference() {
    for seed in 0..cases(100_000) {
        let mut dice = Dice(seed ^ 0x5c4e);
        let doc = clock::random_schedule(&mut dice);
        let schedule = Schedule::parse(&doc).unwrap();
        for _ in 0..ACTIONS {
            let now_ms = world::random_time(&mut dice);
            assert_eq!(schedule.is_open(now_ms), Some(clock::is_open(&doc, now_ms)), "seed {seed} {now_ms} {doc:?}");
        }
    }
}

#[test]
fn a_body_that_is_not_needed_changes_nothing() {
    for seed in 0..cases(100_000) / 4 {
        let mut dice = Dice(seed ^ 0xb0d1);
        let policy = build(&random_documents(&mut dice));
        for _ in 0..ACTIONS {
            let case = Case { tool: None, ..random_case(&mut dice) };
            if policy.needs_body(&case.facts(policy.caller())) {
                continue;
            }
            let other = Case { body: random_body(&mut dice), ..case.clone() };
            assert_eq!(ask(&policy, &case), ask(&policy, &other), "seed {seed} {case:#?}");
        }
    }
}

#[test]
fn the_order_of_documents_never_matters() {
    for seed in 0..cases(100_000) / 4 {
        let mut dice = Dice(seed ^ 0x0bde);
        let mut documents = random_documents(&mut dice);
        let first = build(&documents);
        let cut = dice.roll(documents.len());
        documents.rotate_left(cut);
        documents.reverse();
        let second = build(&documents);
        for _ in 0..ACTIONS {
            let case = random_case(&mut dice);
            assert_eq!(ask(&first, &case), ask(&second, &case), "seed {seed} {case:#?}");
        }
    }
}

/// The rule lists of policies, and of the guardrails.
fn lists(documents: &mut [Document]) -> Vec<&mut Vec<RuleDoc>> {
    let lists = documents.iter_mut().filter_map(|document| match document {
        Document::Policy(doc) => Some(&mut doc.rules),
        Document::Tenant(doc) => Some(&mut doc.guardrails),
        Document::Upstream(_) | Document::Halt(_) | Document::Manifest(_) => None,
    });
    lists.collect()
}

/// How freely a verdict lets an action go: refused, asked, allowed without a credential, allowed.
fn freedom(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Deny(_) => 0,
        Verdict::Ask(_) => 1,
        Verdict::Allow(permit) => 2 + u8::from(permit.credential()),
    }
}

#[test]
fn making_a_condition_fail_never_loosens() {
    for seed in 0..cases(100_000) / 4 {
        let mut dice = Dice(seed ^ 0xfa11);
        let mut documents = random_documents(&mut dice);
        let before = build(&documents);
        let mut changed = false;
        for rule in lists(&mut documents).into_iter().flatten() {
            if rule.when.is_some() && dice.roll(2) == 0 {
                rule.when = Some("agent.labels[\"no such label\"] == \"x\"".into());
                changed = true;
            }
        }
        if !changed {
            continue;
        }
        let after = build(&documents);
        for _ in 0..ACTIONS {
            let case = random_case(&mut dice);
            let (one, two) = (ask(&before, &case), ask(&after, &case));
            assert!(freedom(&two) <= freedom(&one), "seed {seed}\n{one:?}\n{two:?}\n{case:#?}\n{documents:#?}");
        }
    }
}

#[test]
fn a_guardrail_or_block_added_never_allows() {
    for seed in 0..cases(100_000) / 4 {
        let mut dice = Dice(seed ^ 0xb10c);
        let mut documents = random_documents(&mut dice);
        let before = build(&documents);
        match dice.roll(3) {
            0 => {
                let rule = random_rule(&mut dice, "new", &[Tier::Block]);
                documents.push(fixtures::enforce("acme/new", vec![rule]));
            }
            choice => {
                let mut lists = lists(&mut documents);
                // The tenant comes first: its list is that of the guardrails.
                let list = if choice == 1 { 0 } else { dice.roll(lists.len()) };
                let tiers = if list == 0 { &[Tier::Ask, Tier::Block][..] } else { &[Tier::Block] };
                let place = dice.roll(lists[list].len() + 1);
                let rule = random_rule(&mut dice, "new", tiers);
                lists[list].insert(place, rule);
            }
        }
        let after = build(&documents);
        for _ in 0..ACTIONS {
            let case = random_case(&mut dice);
            let (one, two) = (ask(&before, &case), ask(&after, &case));
            assert!(allows(&one) || !allows(&two), "seed {seed}\n{one:?}\n{two:?}\n{case:#?}\n{documents:#?}");
        }
    }
}

/// Whatever an agent says of itself, it gets no further than without the rules that listen.
#[test]
fn what_an_agent_says_never_loosens() {
    for seed in 0..cases(100_000) / 4 {
        let mut dice = Dice(seed ^ 0xc1a1);
        let mut documents = random_documents(&mut dice);
        let with = build(&documents);
        let mut listening = 0;
        for rules in lists(&mut documents) {
            let before = rules.len();
            rules.retain(|rule| !rule.when.as_deref().is_some_and(model::reads_claims));
            listening += before - rules.len();
        }
        if listening == 0 {
            continue;
        }
        let without = build(&documents);
        for _ in 0..ACTIONS {
            let case = random_case(&mut dice);
            let (one, two) = (ask(&without, &case), ask(&with, &case));
            assert!(freedom(&two) <= freedom(&one), "seed {seed}\n{one:?}\n{two:?}\n{case:#?}\n{documents:#?}");
        }
    }
}

/// What an audited policy would refuse, and why, is what it does refuse once it is enforced.
#[test]
fn audit_says_what_enforcement_does() {
    for seed in 0..cases(100_000) / 4 {
        let mut dice = Dice(seed ^ 0xa0d1);
        let mut documents = random_documents(&mut dice);
        // One policy beside what allows everything, so that nothing else decides.
        let mut kept = false;
        documents.retain(|document| match document {
            Document::Policy(_) => !std::mem::replace(&mut kept, true),
            Document::Halt(_) | Document::Manifest(_) => false,
            Document::Tenant(_) | Document::Upstream(_) => true,
        });
        for document in &mut documents {
            if let Document::Tenant(doc) = document {
                doc.guardrails.clear();
                doc.allowed_modes = vec![Mode::Audit, Mode::Enforce];
                doc.audit_until_ms = Some(u64::MAX);
            }
        }
        let with_mode = |mode| {
            let mut documents = documents.clone();
            for document in &mut documents {
                if let Document::Policy(doc) = document {
                    doc.mode = mode;
                }
            }
            build(&documents)
        };
        let (audit, enforce) = (with_mode(Mode::Audit), with_mode(Mode::Enforce));
        for _ in 0..ACTIONS {
            let case = random_case(&mut dice);
            let (audited, enforced) = (ask(&audit, &case), ask(&enforce, &case));
            let code = fixtures::code(&enforced);
            match audited {
                Verdict::Allow(permit) => {
                    assert_eq!(permit.shadow(), code, "seed {seed}\n{case:#?}\n{documents:#?}");
                    assert_eq!(permit.credential(), code.is_none(), "what Enforce denies gets no credential");
                }
                // Upstreams that are not declared, and no policy at all, are refused in either mode.
                Verdict::Ask(_) => panic!("seed {seed}: audit asks"),
                Verdict::Deny(denial) => assert_eq!(Some(denial.code), code, "seed {seed}"),
            }
        }
    }
}

/// Every kind of answer that the random world must reach for the properties to mean something.
const KINDS: [&str; 23] = [
    "allow",
    "allow, audited TierBlock",
    "allow, audited ApprovalUnavailable",
    "allow, audited ConditionError",
    "allow, audited ResidencyRefused",
    "allow, audited CategoryUnknown",
    "allow without credential, audited TierBlock",
    "allow without credential, audited ApprovalUnavailable",
    "allow without credential, audited ConditionError",
    "allow without credential, audited CategoryUnknown",
    "allow without credential, audited ResidencyRefused",
    "allow without credential, audited NoMatch",
    "ask ApprovalUnavailable",
    "ask ConditionError",
    "ask CategoryUnknown",
    "deny TierBlock",
    "deny ConditionError",
    "deny CategoryUnknown",
    "deny ResidencyRefused",
    "deny NoMatch",
    "deny NoPolicy",
    "deny Halted",
    "deny UnknownUpstream",
];

#[test]
fn the_random_world_reaches_every_kind_of_answer() {
    let mut missing = std::collections::BTreeSet::from(KINDS);
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let policy = build(&random_documents(&mut dice));
        for _ in 0..ACTIONS {
            missing.remove(fixtures::short(&ask(&policy, &random_case(&mut dice))).as_str());
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("never reached: {missing:?}");
}
