//! What stays in force when an edit is broken: the last good version of the file that cannot be read, and
//! of the object that does not compile. Halts are the exception: a person wants agents to stop, so one
//! that can be read holds at once, whatever else is wrong beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clawlock_compile::Compilation;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::folder::{self, FileContent, Folder, Mark, Object, ObjectId, Places, Resource};
use crate::problem::Problem;

/// The good versions so far.
#[derive(Debug, Default)]
pub(super) struct LastGood {
    files: BTreeMap<PathBuf, Vec<Object>>,
    objects: BTreeMap<ObjectId, Object>,
    /// The agent's manifest, which is no part of the folder.
    manifest: Option<ConfigMap>,
}

/// What a state of the folder came to.
#[derive(Debug)]
pub(super) struct Applied {
    /// What is to be in force.
    pub(super) compilation: Compilation,
    /// The objects that it was made of.
    pub(super) objects: Vec<Object>,
    /// What is wrong with the files, in the order of places.
    pub(super) problems: Vec<Problem>,
    /// What stays in force in its last good version: files and objects.
    pub(super) kept: Vec<String>,
}

impl LastGood {
    /// Gives the agent a manifest. It holds from the next state on.
    pub(super) fn declare(&mut self, manifest: ConfigMap) {
        self.manifest = Some(manifest);
    }

    fn compile(&self, objects: &[Object]) -> Compilation {
        let mut resources = folder::resources(objects);
        if let Some(manifest) = &self.manifest {
            // One of the folder that has its name must not count for it.
            resources.config_maps.retain(|map| {
                (&map.metadata.namespace, &map.metadata.name) != (&manifest.metadata.namespace, &manifest.metadata.name)
            });
            resources.config_maps.push(manifest.clone());
        }
        clawlock_compile::compile(&resources)
    }

    /// Takes in a state of the folder.
    pub(super) fn apply(&mut self, folder: &Folder, root: &Path) -> Applied {
        let mut problems: Vec<Problem> = folder.all_problems().cloned().collect();
        let mut kept = Vec::new();
        let mut objects = Vec::new();
        for file in &folder.files {
            objects.extend(self.take_file(file, &mut problems, &mut kept));
        }
        self.settle_missing(folder, &mut objects, &mut kept);
        let places = Places::of(&objects);
        let mut compilation = self.compile(&objects);
        let broken: BTreeSet<ObjectId> = compilation
            .problems
            .iter()
            .filter(|problem| problem.severity == clawlock_compile::Severity::Error)
            .map(|problem| ObjectId::from(&problem.object))
            .collect();
        problems.extend(compilation.problems.iter().flat_map(|problem| places.locate(problem, root)));
        problems.sort();
        problems.dedup();
        if self.restore(&mut objects, &broken, &mut kept) {
            compilation = self.compile(&objects);
        }
        self.remember(&objects, &broken);
        Applied { compilation, objects, problems, kept }
    }

    /// The objects of a file: as it is now, or as it last was good.
    fn take_file(&mut self, file: &FileContent, problems: &mut Vec<Problem>, kept: &mut Vec<String>) -> Vec<Object> {
        let FileContent { path, objects, problems: broken } = file;
        let before = self.files.get(path);
        // An editor that writes in place empties the file first; a person who wants it gone deletes it.
        let emptied = objects.is_empty() && before.is_some_and(|before| !before.is_empty());
        if emptied && broken.is_empty() {
            let reason = "the file is empty; delete it to take its objects out of force";
            problems.push(Problem::in_file(path, Mark::START, reason));
        } else if broken.is_empty() {
            self.files.insert(path.clone(), objects.clone());
            return objects.clone();
        }
        if before.is_some_and(|before| !before.is_empty()) {
            kept.push(path.display().to_string());
        }
        let halts: Vec<Object> =
            objects.iter().filter(|object| matches!(object.resource, Resource::Halt(_))).cloned().collect();
        let known: BTreeSet<&ObjectId> = halts.iter().map(|halt| &halt.id).collect();
        let stay = before.into_iter().flatten().filter(|object| !known.contains(&object.id)).cloned();
        stay.chain(halts.iter().cloned()).collect()
    }

    /// Files that are no longer there take their objects with them, unless the folder could not be listed.
    fn settle_missing(&mut self, folder: &Folder, objects: &mut Vec<Object>, kept: &mut Vec<String>) {
        let listed: BTreeSet<&Path> = folder.files.iter().map(|file| file.path.as_path()).collect();
        if folder.problems.is_empty() {
            self.files.retain(|path, _| listed.contains(path.as_path()));
            return;
        }
        for (path, before) in &self.files {
            if !listed.contains(path.as_path()) && !before.is_empty() {
                objects.extend(before.iter().cloned());
                kept.push(path.display().to_string());
            }
        }
    }

    /// Puts the last good version in the place of each broken object. Answers whether anything changed.
    fn restore(&self, objects: &mut Vec<Object>, broken: &BTreeSet<ObjectId>, kept: &mut Vec<String>) -> bool {
        // An upstream may be broken by the certificates that it refers to.
        let places: BTreeSet<&str> =
            broken.iter().filter(|id| id.kind == "Upstream").map(|id| id.namespace.as_str()).collect();
        let mut restored = BTreeSet::new();
        let mut changed = false;
        objects.retain_mut(|object| {
            if matches!(object.resource, Resource::ConfigMap(_)) && places.contains(object.id.namespace.as_str()) {
                if let Some(good) = self.objects.get(&object.id) {
                    *object = good.clone();
                    changed = true;
                }
                return true;
            }
            // A halt holds also when it is broken.
            if !broken.contains(&object.id) || matches!(object.resource, Resource::Halt(_)) {
                return true;
            }
            let Some(good) = self.objects.get(&object.id) else {
                // One that never was good denies. For a policy that means to stop its agents; for anything
                // else, not to be there, so that its claims do not break what is good.
                let denies = matches!(object.resource, Resource::Policy(_));
                changed |= !denies;
                return denies;
            };
            changed = true;
            if !restored.insert(object.id.clone()) {
                return false;
            }
            kept.push(good.id.to_string());
            *object = good.clone();
            true
        });
        changed
    }

    fn remember(&mut self, objects: &[Object], broken: &BTreeSet<ObjectId>) {
        let present: BTreeSet<&ObjectId> = objects.iter().map(|object| &object.id).collect();
        self.objects.retain(|id, _| present.contains(id));
        for object in objects.iter().filter(|object| !broken.contains(&object.id)) {
            self.objects.insert(object.id.clone(), object.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::STARTER;

    fn folder(files: &[(&str, &str)]) -> Folder {
        let files = files.iter().map(|(name, text)| folder::parse((*name).into(), text)).collect();
        Folder { files, problems: Vec::new() }
    }

    fn rules(applied: &Applied) -> Vec<String> {
        applied
            .objects
            .iter()
            .filter_map(|object| match &object.resource {
                Resource::Policy(policy) => Some(policy.spec.rules.iter().map(|rule| rule.name.clone())),
                _ => None,
            })
            .flatten()
            .collect()
    }

    const HALT: &str = "---\napiVersion: clawlock.dev/v1alpha1\nkind: AgentHalt\nmetadata: {name: stop, namespace: acme}\n\
                        spec: {agentSelector: {}, reason: stop}\n";

    #[test]
    fn a_file_that_cannot_be_read_keeps_its_last_good_version() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        assert_eq!(good.apply(&folder(&[("a.yaml", STARTER)]), root).problems, []);
        let applied = good.apply(&folder(&[("a.yaml", &STARTER.replace("rules:", "rules: ["))]), root);
        assert_eq!(rules(&applied), ["model-calls", "own-tools"]);
        assert_eq!(applied.kept, ["a.yaml"]);
        assert_eq!(applied.problems.len(), 1);
        let fixed = good.apply(&folder(&[("a.yaml", &STARTER.replace("own-tools", "tools"))]), root);
        assert_eq!(rules(&fixed), ["model-calls", "tools"]);
        assert!(fixed.kept.is_empty() && fixed.problems.is_empty());
    }

    #[test]
    fn an_object_that_does_not_compile_keeps_its_last_good_version() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        good.apply(&folder(&[("a.yaml", STARTER)]), root);
        let twice = STARTER.replace("name: own-tools", "name: model-calls");
        let applied = good.apply(&folder(&[("a.yaml", &twice)]), root);
        assert_eq!(rules(&applied), ["model-calls", "own-tools"]);
        assert_eq!(applied.kept, ["AgentPolicy acme/starter"]);
        assert_eq!(applied.compilation.problems, [], "what is in force is the good version");
        assert!(applied.problems[0].is_error());
    }

    #[test]
    fn a_second_claim_does_not_break_the_first() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        good.apply(&folder(&[("a.yaml", STARTER)]), root);
        // The same host by another upstream, and the same objects a second time.
        let rival = STARTER.replace("metadata: {name: openai,", "metadata: {name: rival,");
        let upstream = rival.split("---").nth(1).unwrap();
        for second in [upstream, STARTER] {
            let applied = good.apply(&folder(&[("a.yaml", STARTER), ("b.yaml", second)]), root);
            assert!(applied.problems.iter().any(Problem::is_error));
            assert_eq!(applied.compilation.problems, []);
            assert_eq!(applied.objects.len(), 3, "{:?}", applied.kept);
        }
    }

    #[test]
    fn broken_certificates_keep_the_last_good_ones() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        let with_ca = |pem: &str| {
            let text = STARTER
                .replace("  port: 443\n", "  port: 443\n  tls: {caRef: {kind: ConfigMap, name: ca, key: ca.crt}}\n");
            let pem: String = pem.lines().map(|line| format!("    {line}\n")).collect();
            let map = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: acme-gateway}}\ndata:\n  ca.crt: |\n{pem}"
            );
            format!("{text}---\n{map}")
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        assert_eq!(good.apply(&folder(&[("a.yaml", &with_ca(&pem))]), root).problems, []);
        let applied = good.apply(&folder(&[("a.yaml", &with_ca("no certificate"))]), root);
        assert!(applied.problems.iter().any(Problem::is_error));
        assert_eq!(applied.compilation.problems, []);
    }

    #[test]
    fn a_policy_that_never_was_good_denies() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        good.apply(&folder(&[("a.yaml", STARTER)]), root);
        let policy = STARTER.split("---").nth(2).unwrap();
        let second = policy.replace("name: starter", "name: second").replace("own-tools", "model-calls");
        let applied = good.apply(&folder(&[("a.yaml", STARTER), ("b.yaml", &second)]), root);
        assert_eq!(applied.objects.len(), 4);
        assert!(!applied.compilation.problems.is_empty());
    }

    #[test]
    fn an_emptied_file_keeps_its_objects_and_a_deleted_one_does_not() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        good.apply(&folder(&[("a.yaml", STARTER)]), root);
        let emptied = good.apply(&folder(&[("a.yaml", "")]), root);
        assert_eq!(emptied.objects.len(), 3);
        assert!(emptied.problems[0].message.contains("delete it"));
        assert_eq!(good.apply(&folder(&[]), root).objects.len(), 0);
    }

    #[test]
    fn a_halt_holds_at_once_beside_a_broken_policy() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        good.apply(&folder(&[("a.yaml", STARTER)]), root);
        let broken = format!("{}{HALT}", STARTER.replace("tier: Auto", "tier: Atuo"));
        let applied = good.apply(&folder(&[("a.yaml", &broken)]), root);
        assert_eq!(rules(&applied), ["model-calls", "own-tools"]);
        assert!(applied.objects.iter().any(|object| matches!(object.resource, Resource::Halt(_))));
        // Another file that never was good does not stand in a halt's way either.
        let applied = good.apply(&folder(&[("a.yaml", STARTER), ("b.yaml", &format!("{{{HALT}"))]), root);
        assert_eq!(applied.problems.len(), 1);
        let applied = good.apply(&folder(&[("a.yaml", STARTER), ("b.yaml", "x: ["), ("c.yaml", HALT)]), root);
        assert!(applied.objects.iter().any(|object| matches!(object.resource, Resource::Halt(_))));
    }

    #[test]
    fn a_folder_that_cannot_be_listed_keeps_everything() {
        let mut good = LastGood::default();
        let root = Path::new(".");
        good.apply(&folder(&[("a.yaml", STARTER)]), root);
        let gone = Folder { files: Vec::new(), problems: vec![Problem::in_file(root, Mark::START, "not found")] };
        assert_eq!(good.apply(&gone, root).objects.len(), 3);
    }
}
