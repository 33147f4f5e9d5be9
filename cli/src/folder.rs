//! Reads files of YAML into typed objects. Nothing is swallowed: every document becomes an object, is
//! empty, or has a problem with its place. Strictness and bounds stand in the parts; this module puts
//! them together and says where a problem of the compiler stands.

mod object;
mod schema;
mod tree;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clawlock_compile::Resources;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

pub(crate) use object::{Object, ObjectId, Resource, Source};
pub(crate) use tree::{Entry, Mark, Node};

/// What a file came to.
#[derive(Clone, Debug)]
pub(crate) struct FileContent {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its objects. When there are problems: those without one.
    pub(crate) objects: Vec<Object>,
    /// What is wrong in it.
    pub(crate) problems: Vec<Problem>,
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    /// The files in the order of their names.
    pub(crate) files: Vec<FileContent>,
    /// What could not be listed.
    pub(crate) problems: Vec<Problem>,
}

/// Reads folders and files.
pub(crate) fn read(paths: &[PathBuf]) -> Folder {
    let found = walk::find(paths);
    let mut problems: Vec<Problem> = found
        .unreadable
        .into_iter()
        .map(|unreadable| Problem::in_file(&unreadable.path, Mark::START, unreadable.reason))
        .collect();
    if found.files.is_empty() && problems.is_empty() {
        let path = paths.first().map_or_else(PathBuf::new, PathBuf::clone);
        problems.push(Problem::in_file(&path, Mark::START, "there is no *.yaml here; run clawlock init to make one"));
    }
    let mut left = walk::MAX_TOTAL;
    let files = found.files.into_iter().map(|path| read_file(path, &mut left)).collect();
    Folder { files, problems }
}

/// The files that [`read`] would read.
pub(crate) fn find(folder: &Path) -> Vec<PathBuf> {
    walk::find(&[folder.to_owned()]).files
}

/// Files of test cases: those in folders by their names, others as they are; and what could not be listed.
pub(crate) fn find_cases(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Problem>) {
    let found = walk::find_cases(paths);
    let unreadable = found.unreadable.into_iter();
    let problems =
        unreadable.map(|unreadable| Problem::in_file(&unreadable.path, Mark::START, unreadable.reason)).collect();
    (found.files, problems)
}

fn read_file(path: PathBuf, left: &mut u64) -> FileContent {
    match walk::read(&path, left) {
        Ok(text) => parse(path, &text),
        Err(reason) => {
            let problems = vec![Problem::in_file(&path, Mark::START, reason)];
            FileContent { path, objects: Vec::new(), problems }
        }
    }
}

/// Reads the text of a file.
pub(crate) fn parse(path: PathBuf, text: &str) -> FileContent {
    let mut content = FileContent { path, objects: Vec::new(), problems: Vec::new() };
    let documents = match tree::parse(text) {
        Ok(documents) => documents,
        Err(error) => {
            content.problems.push(Problem::in_file(&content.path, error.at, error.reason));
            return content;
        }
    };
    for document in documents {
        match object::read(&document) {
            Ok(None) => {}
            Ok(Some((id, resource))) => {
                let source = Arc::new(Source { file: content.path.clone(), root: document.root });
                content.objects.push(Object { id, resource, source });
            }
            Err(mistakes) => {
                content.problems.extend(mistakes.into_iter().map(|mistake| placed(&content.path, mistake)));
            }
        }
    }
    content
}

fn placed(file: &Path, mistake: object::Mistake) -> Problem {
    let object::Mistake { at, path, reason, fix } = mistake;
    Problem { path, fix, ..Problem::in_file(file, at, reason) }
}

/// Reads the text of any one file, within bounds.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_text(path: &Path) -> Result<String, Box<Problem>> {
    let mut left = walk::MAX_TOTAL;
    walk::read(path, &mut left).map_err(|reason| Box::new(Problem::in_file(path, Mark::START, reason)))
}

/// Reads the structure of a text that is one document.
///
/// # Errors
/// When it is none, or several.
pub(crate) fn parse_tree(path: &Path, text: &str) -> Result<Node, Box<Problem>> {
    parse_one(path, text).map(|document| document.root)
}

fn parse_one<'a>(path: &Path, text: &'a str) -> Result<tree::Document<'a>, Box<Problem>> {
    let wrong = |at, reason| Box::new(Problem::in_file(path, at, reason));
    let mut documents = tree::parse(text).map_err(|error| wrong(error.at, error.reason))?;
    let only = documents.pop().filter(|_| documents.is_empty());
    only.ok_or_else(|| wrong(Mark::START, "not exactly one document; split the file".to_owned()))
}

/// Reads a file of one document that is no object of Kubernetes, strictly, and where everything stands in it.
///
/// # Errors
/// The first mistake.
pub(crate) fn read_one<T: DeserializeOwned>(path: &Path) -> Result<(T, Node), Box<Problem>> {
    let text = read_text(path)?;
    let document = parse_one(path, &text)?;
    let value = object::typed(&document).map_err(|mistake| Box::new(placed(path, mistake)))?;
    Ok((value, document.root))
}

impl Folder {
    /// All objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.files.iter().flat_map(|file| &file.objects)
    }

    /// All problems of reading.
    pub(crate) fn all_problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(self.files.iter().flat_map(|file| &file.problems))
    }
}

/// Objects as the compiler takes them.
pub(crate) fn resources<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Resources {
    let mut resources = Resources::default();
    for object in objects {
        match &object.resource {
            Resource::Gateway(gateway) => resources.gateways.push(gateway.as_ref().clone()),
            Resource::Upstream(upstream) => resources.upstreams.push(upstream.as_ref().clone()),
            Resource::Policy(policy) => resources.policies.push(Arc::new(policy.as_ref().clone())),
            Resource::Halt(halt) => resources.halts.push(halt.as_ref().clone()),
            Resource::ConfigMap(map) => resources.config_maps.push(map.as_ref().clone()),
        }
    }
    resources
}

/// Where objects stand.
pub(crate) struct Places<'a>(BTreeMap<ObjectId, Vec<&'a Arc<Source>>>);

impl<'a> Places<'a> {
    /// The places of objects.
    pub(crate) fn of(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut places: BTreeMap<ObjectId, Vec<&Arc<Source>>> = BTreeMap::new();
        for object in objects {
            places.entry(object.id.clone()).or_default().push(&object.source);
        }
        Self(places)
    }

    /// The text that a problem of the compiler is about.
    pub(crate) fn text(&self, problem: &clawlock_compile::Problem) -> Option<&'a str> {
        let source = self.0.get(&ObjectId::from(&problem.object))?.first()?;
        source.root.find(&problem.path)?.text()
    }

    /// A problem of the compiler with its place. An object that is there twice has it twice.
    pub(crate) fn locate(&self, problem: &clawlock_compile::Problem, folder: &Path) -> Vec<Problem> {
        let clawlock_compile::Problem { object, path, message, severity, topic: _ } = problem;
        let located = |file: &Path, at: Mark| Problem {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            severity: (*severity).into(),
            object: Some(object.to_string()),
            path: Some(path.clone()),
            message: message.clone(),
            fix: None,
        };
        match self.0.get(&ObjectId::from(object)) {
            Some(sources) => sources.iter().map(|source| located(&source.file, source.root.locate(path))).collect(),
            // The compiler only speaks of objects that it was given; a place is shown in any case.
            None => vec![located(folder, Mark::START)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::STARTER;
    use proptest::prelude::*;

    /// Whether every document became an object, is empty, or has a problem in its lines.
    fn nothing_is_swallowed(text: &str) -> Result<(), TestCaseError> {
        let content = parse("a.yaml".into(), text);
        let Ok(documents) = tree::parse(text) else {
            prop_assert_eq!(content.problems.len(), 1);
            prop_assert!(content.objects.is_empty());
            return Ok(());
        };
        let outcomes = documents.iter().map(object::read);
        let (mut objects, mut mistakes) = (0, 0);
        for outcome in outcomes {
            match outcome {
                Ok(Some(_)) => objects += 1,
                Ok(None) => {}
                Err(found) => {
                    prop_assert!(!found.is_empty());
                    mistakes += found.len();
                }
            }
        }
        prop_assert_eq!((content.objects.len(), content.problems.len()), (objects, mistakes));
        let lines = text.lines().count().max(1) + 1;
        for problem in &content.problems {
            prop_assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem}");
            prop_assert!(!problem.to_string().chars().any(char::is_control));
        }
        Ok(())
    }

    /// The starter with a piece of it replaced by something else.
    fn mutilated() -> impl Strategy<Value = String> {
        let length = STARTER.len();
        let piece = prop_oneof!["\\PC{0,12}", "[-{}\\[\\]:,&*!|>'\"%@` \n\t~a0]{0,12}", Just("<<: *x".to_owned())];
        (0..length, 0..64usize, piece).prop_map(move |(start, cut, piece)| {
            let end = (start + cut).min(length);
            format!("{}{piece}{}", &STARTER[..start], &STARTER[end..])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_objects_or_problems(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            nothing_is_swallowed(&String::from_utf8_lossy(&bytes))?;
        }

        #[test]
        fn any_yaml_like_text_is_objects_or_problems(text in "([-{}\\[\\]:,&*!|>'\"%@` \n~a0.]|---\n|kind: |metadata:\n){0,60}") {
            nothing_is_swallowed(&text)?;
        }

        #[test]
        fn a_mutilated_policy_is_objects_or_problems(text in mutilated()) {
            nothing_is_swallowed(&text)?;
        }
    }

    #[test]
    fn an_object_that_is_there_twice_has_its_problem_twice() {
        let folder = Folder {
            files: vec![parse("a.yaml".into(), STARTER), parse("b.yaml".into(), STARTER)],
            problems: Vec::new(),
        };
        let problems = crate::lint::check(&folder, Path::new("."));
        for file in ["a.yaml", "b.yaml"] {
            assert!(
                problems.iter().any(|problem| problem.file == Path::new(file) && problem.is_error()),
                "{problems:?}"
            );
        }
    }
}
