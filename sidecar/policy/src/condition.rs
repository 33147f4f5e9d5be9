//! Conditions: CEL expressions over typed facts, checked before they ever run.
//!
//! The `cel` crate parses and evaluates but has no checker, so [`check`] walks its AST: it refuses
//! unknown names, fields and functions, operators on types that cannot meet, results that are no truth
//! value, and expressions that could cost too much. What only the call can tell (the type of an
//! undeclared argument, a missing member) is an error of the evaluation; what such an error means is
//! for [`decide`](crate::decide) to say. Nothing here reads a clock or keeps state between calls.

mod args;
mod check;
mod cost;
mod scope;
mod types;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue};
use cel::common::types::{CelBool, CelString};
use cel::{Context, Env, ExecutionError, FunctionContext, IdedExpr, Value};
use regex::Regex;

use crate::document::{ArgumentDoc, ArgumentType};
use check::Checked;
use cost::Cost;
pub(crate) use scope::{Scope, Typing};

/// Longest condition in bytes: a page of text; more is a program.
pub const MAX_CONDITION: usize = 4096;

/// Deepest nesting of brackets and operators: both the parser and the evaluation recurse.
pub const MAX_NESTING: usize = 32;

/// Most nodes of an expression, those that macros add included.
pub const MAX_NODES: u64 = 1024;

/// Most steps of one evaluation. A step takes some 50 ns, so an evaluation ends within about 20 ms
/// whatever arguments an agent sends.
pub const MAX_STEPS: u64 = 400_000;

/// Longest pattern of `matches` in bytes.
pub const MAX_REGEX: usize = 512;

/// Largest compiled pattern of `matches` in bytes: counted repetitions can multiply.
const MAX_REGEX_PROGRAM: usize = 256 * 1024;

/// What a condition's rule is about, and so which facts the condition can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether there is a `request`.
    request: bool,
    /// Whether there is what the agent says about the call.
    claims: bool,
    /// The arguments whose type is known.
    declared: BTreeMap<String, ArgumentType>,
}

impl Target {
    /// A rule about tools: `args` is whatever the agent sent, there is no `request`.
    #[must_use]
    pub fn tools() -> Self {
        Self { request: false, claims: true, declared: BTreeMap::new() }
    }

    /// A rule about HTTP requests: `args` has no declared types.
    #[must_use]
    pub fn http() -> Self {
        Self { request: true, claims: false, declared: BTreeMap::new() }
    }

    /// A rule about a category, which tools and requests can be of: `args` has no declared types, and there is
    /// no `request`, which tools do not have.
    #[must_use]
    pub fn category() -> Self {
        Self { request: false, claims: false, declared: BTreeMap::new() }
    }

    /// A rule about operations, given the declared arguments of every operation that it names. An
    /// argument has a known type when all of them declare it, and with the same type.
    #[must_use]
    pub fn operations<'a>(declared: impl IntoIterator<Item = &'a [ArgumentDoc]>) -> Self {
        let mut operations = declared.into_iter();
        let first = operations.next().unwrap_or_default();
        let mut known: BTreeMap<String, ArgumentType> =
            first.iter().map(|argument| (argument.name.clone(), argument.kind)).collect();
        for arguments in operations {
            known.retain(|name, kind| arguments.iter().any(|other| other.name == *name && other.kind == *kind));
        }
        Self { request: true, claims: false, declared: known }
    }
}

/// Why a condition was refused, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (line {line}, column {column} of the condition)")]
pub struct ConditionError {
    /// What is wrong and, where it helps, what to write instead.
    pub reason: String,
    /// Line in the expression, from 1.
    pub line: usize,
    /// Column in the line in characters, from 1.
    pub column: usize,
}

impl ConditionError {
    /// An error at an offset in bytes.
    fn at(text: &str, offset: usize, reason: impl Into<String>) -> Self {
        let before = text.get(..text.floor_char_boundary(offset)).unwrap_or_default();
        let last = before.rsplit('\n').next().unwrap_or_default();
        let (line, column) = (before.matches('\n').count() + 1, last.chars().count() + 1);
        Self { reason: reason.into(), line, column }
    }
}

/// A checked condition, ready to be evaluated.
pub struct Condition {
    text: Arc<str>,
    expression: IdedExpr,
    reads: Reads,
    cost: Cost,
    /// The functions that stand for `matches` with a pattern that is already compiled.
    root: Option<Box<Context<'static, 'static>>>,
}

/// Which facts a condition reads, of those that are not always at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reads {
    args: bool,
    path: bool,
    query: bool,
    headers: bool,
    claims: Claimed,
}

/// Which of the agent's claims a condition reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Claimed {
    requester: bool,
    run: bool,
    model: bool,
}

/// The standard functions. Building this registry takes longer than an evaluation, so it is shared.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));
static ROOT: LazyLock<Context<'static, 'static>> = LazyLock::new(|| Context::with_env(ENV.clone()));

impl Condition {
    /// Parses and checks a condition.
    ///
    /// # Errors
    /// When it is no CEL, reads what does not exist, combines what cannot be combined, is not a truth
    /// value, or could cost too much.
    pub fn parse(text: &str, target: &Target) -> Result<Self, ConditionError> {
        check_text(text)?;
        let parser = ENV.parser().max_recursion_depth(u16::try_from(2 * MAX_NESTING).unwrap_or(u16::MAX));
        let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse_with_source_info(text)));
        let (mut expression, source) = match parsed {
            Ok(Ok(parsed)) => parsed,
            Ok(Err(errors)) => return Err(first_error(&errors)),
            Err(_) => return Err(ConditionError::at(text, 0, "not a CEL expression")),
        };
        let Checked { reads, cost } = check::check(text, &expression, &source, target)?;
        let mut patterns = Vec::new();
        compile_patterns(&mut expression, &mut patterns);
        let root = if patterns.is_empty() { None } else { Some(Box::new(with_patterns(patterns)?)) };
        Ok(Self { text: text.into(), expression, reads, cost, root })
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether it reads `args`, so that a body must be read for it.
    #[must_use]
    pub fn reads_args(&self) -> bool {
        self.reads.args
    }

    /// Whether it reads `request.headers`.
    #[must_use]
    pub fn reads_headers(&self) -> bool {
        self.reads.headers
    }

    /// Whether it reads what the agent's process makes up: `requester`, `run` or `model`.
    #[must_use]
    pub fn reads_claims(&self) -> bool {
        self.reads.claims != Claimed::default()
    }

    /// Evaluates it. Any doubt is an error: a fact that is not there, a missing member, operands that
    /// do not fit, an overflow, too much work.
    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<bool, String> {
        let size = scope.prepare(self.reads)?;
        if self.cost.steps(size) > MAX_STEPS {
            return Err("the arguments are too large for this condition".into());
        }
        let root: &Context<'_, '_> = self.root.as_deref().unwrap_or(&ROOT);
        let mut context = root.new_inner_scope();
        context.set_variable_resolver(scope);
        // Tens of thousands of lines evaluate what an agent sends. Should they panic, it is this
        // condition that fails, not the gate.
        let outcome = catch_unwind(AssertUnwindSafe(|| match Value::resolve_val(&self.expression, &context) {
            Ok(value) => value.downcast_ref::<CelBool>().map(|truth| *truth.inner()).ok_or(None),
            Err(error) => Err(Some(error)),
        }));
        match outcome {
            Ok(Ok(truth)) => Ok(truth),
            Ok(Err(None)) => Err("the result is not true or false".into()),
            Ok(Err(Some(error))) => Err(describe(&error)),
            Err(_) => Err("the evaluation broke off".into()),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.text)
    }
}

/// Bounds that hold before the text reaches the parser.
fn check_text(text: &str) -> Result<(), ConditionError> {
    if text.len() > MAX_CONDITION {
        return Err(ConditionError::at(text, 0, format!("a condition has at most {MAX_CONDITION} bytes")));
    }
    if text.trim().is_empty() {
        return Err(ConditionError::at(text, 0, "the condition is empty"));
    }
    let mut depth = 0_usize;
    let mut prefix = 0_usize;
    for (offset, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '\0' => return Err(ConditionError::at(text, offset, "the condition has a NUL character")),
            _ => {}
        }
        prefix = match c {
            '!' | '-' => prefix + 1,
            c if c.is_whitespace() => prefix,
            _ => 0,
        };
        if depth > MAX_NESTING || prefix > MAX_NESTING {
            let reason = format!("the condition is nested more than {MAX_NESTING} deep");
            return Err(ConditionError::at(text, offset, reason));
        }
    }
    Ok(())
}

fn first_error(errors: &cel::ParseErrors) -> ConditionError {
    let number = |at: isize| usize::try_from(at).unwrap_or_default().max(1);
    let Some(error) = errors.errors.first() else {
        return ConditionError { reason: "not a CEL expression".into(), line: 1, column: 1 };
    };
    let reason: String = error.msg.chars().filter(|c| !c.is_control()).take(300).collect();
    ConditionError {
        reason: format!("not a CEL expression: {reason}"),
        line: number(error.pos.0),
        column: number(error.pos.1),
    }
}

/// An evaluation's error in words that name no values: arguments can hold secrets.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no {}", crate::json::shown(key)),
        ExecutionError::NoSuchOverload(overload) => {
            format!("{} does not apply to {}", overload.function(), overload.argument_types().join(" and "))
        }
        ExecutionError::FunctionError { function, message } if function == value::AMBIGUOUS => message.clone(),
        ExecutionError::FunctionError { function, .. } => format!("{function} failed"),
        ExecutionError::UnexpectedType { want, .. } => format!("a value is not {want}"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".into(),
        ExecutionError::Overflow(..) => "a number does not fit 64 bits".into(),
        ExecutionError::IndexOutOfBounds(_) => "an index is out of bounds".into(),
        ExecutionError::UnsupportedBinaryOperator(operator, ..) => format!("{operator} does not apply to its operands"),
        _ => "it could not be evaluated".into(),
    }
}

/// Replaces every `matches` by a function of its own, whose pattern is compiled once. The checker has
/// made sure that each has a literal pattern.
fn compile_patterns(expression: &mut IdedExpr, patterns: &mut Vec<String>) {
    for child in children_mut(&mut expression.expr) {
        compile_patterns(child, patterns);
    }
    let Expr::Call(call) = &mut expression.expr else { return };
    if call.func_name != "matches" {
        return;
    }
    let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }) = call.args.pop() else { return };
    let subject = call.target.take().map(|target| *target).or_else(|| call.args.pop());
    let name = pattern_function(patterns.len());
    patterns.push(pattern.inner().to_owned());
    expression.expr = Expr::Call(CallExpr { func_name: name, target: None, args: subject.into_iter().collect() });
}

fn pattern_function(index: usize) -> String {
    format!("@matches{index}")
}

fn with_patterns(patterns: Vec<String>) -> Result<Context<'static, 'static>, ConditionError> {
    let failed = |reason: String| ConditionError { reason, line: 1, column: 1 };
    let mut context = Context::with_env(ENV.clone());
    for (index, pattern) in patterns.into_iter().enumerate() {
        let regex = regex(&pattern).map_err(failed)?;
        let name = pattern_function(index);
        let function = move |call: &FunctionContext<'_, '_>| match call.args.first() {
            Some(subject) => match subject.downcast_ref::<CelString<'_>>() {
                Some(subject) => Ok(regex.is_match(subject.inner())),
                None => Err(ExecutionError::no_such_overload("matches", vec![subject.get_type().name().to_owned()])),
            },
            None => Err(ExecutionError::missing_argument_or_target()),
        };
        context.add_function(&name, function).map_err(|error| failed(error.to_string()))?;
    }
    Ok(context)
}

/// Compiles a pattern of `matches`.
fn regex(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_REGEX {
        return Err(format!("a pattern of matches has at most {MAX_REGEX} bytes"));
    }
    let built = regex::RegexBuilder::new(pattern).size_limit(MAX_REGEX_PROGRAM).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the pattern of matches is too large when compiled".to_owned(),
        _ => "the pattern of matches is no regular expression (RE2 syntax)".to_owned(),
    })
}

/// The direct children of an expression, those of macros included.
fn children_mut(expression: &mut Expr) -> Vec<&mut IdedExpr> {
    match expression {
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::Comprehension(all) => {
            let all = &mut **all;
            let parts =
                [&mut all.iter_range, &mut all.accu_init, &mut all.loop_cond, &mut all.loop_step, &mut all.result];
            parts.into_iter().collect()
        }
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => {
            let entries = map.entries.iter_mut().filter_map(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => Some([&mut entry.key, &mut entry.value]),
                EntryExpr::StructField(_) => None,
            });
            entries.flatten().collect()
        }
        Expr::Select(select) => vec![&mut *select.operand],
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}
