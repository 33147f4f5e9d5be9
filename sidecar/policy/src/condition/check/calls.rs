//! The functions that conditions can call.

use cel::Value;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use cel::common::types::CelInt;

use super::super::cost::Cost;
use super::super::types::Type;
use super::super::{ConditionError, ROOT, regex};
use super::{Checker, Typed};

/// All of them, for the error that names them.
const FUNCTIONS: &str = "size, contains, startsWith, endsWith, matches, int, double, string, bool, timestamp, duration, \
    the get... functions of a timestamp, and the macros has, all, exists, exists_one, map and filter";

/// Matching a pattern takes that many times as long as searching for a text.
const MATCH_SCANS: u64 = 16;

impl Checker<'_> {
    pub(super) fn function(&mut self, at: &IdedExpr, call: &CallExpr) -> Typed {
        let CallExpr { func_name, target, args } = call;
        let name = func_name.as_str();
        if !is_known(name) {
            return self.refuse(at, format!("{name:?} is no function; there are {FUNCTIONS}"));
        }
        let member = target.is_some();
        let mut kinds = Vec::with_capacity(args.len() + 1);
        let mut cost = Cost::default();
        for operand in target.as_deref().into_iter().chain(args) {
            let (kind, more) = if name == "size" { self.any(operand)? } else { self.value(operand)? };
            kinds.push(kind);
            cost = cost.plus(more);
        }
        let Some(kind) = result(name, member, &kinds) else {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            return self.refuse(at, format!("{name} does not apply to {}", kinds.join(" and ")));
        };
        if name == "matches" {
            self.pattern(at, args)?;
        }
        self.try_out(at, call)?;
        let scans = if name == "matches" { MATCH_SCANS } else { 1 };
        Ok((kind, cost.plus(Cost::SCAN.times(scans))))
    }

    /// The pattern of `matches` is a literal, so that it is compiled once and nothing that an agent
    /// sends becomes a pattern.
    fn pattern(&self, at: &IdedExpr, args: &[IdedExpr]) -> Result<(), ConditionError> {
        let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }) = args.last() else {
            return self.refuse(at, "the pattern of matches must be a literal");
        };
        match regex(pattern.inner()) {
            Ok(_) => Ok(()),
            Err(reason) => self.refuse(at, reason),
        }
    }

    /// A call whose arguments are all literals gives the same result each time. One that fails
    /// (`timestamp("tomorrow")`, a time zone that does not exist) would fail at every call.
    fn try_out(&self, at: &IdedExpr, call: &CallExpr) -> Result<(), ConditionError> {
        let literal = |one: &IdedExpr| matches!(one.expr, Expr::Literal(_));
        if call.args.is_empty() || !call.args.iter().all(literal) {
            return Ok(());
        }
        let mut call = call.clone();
        let zone = call.func_name.starts_with("get");
        match &call.target {
            Some(_) if zone => {
                let epoch = IdedExpr { id: 0, expr: Expr::Literal(LiteralValue::Int(CelInt::from(0))) };
                let now = CallExpr { func_name: "timestamp".into(), target: None, args: vec![epoch] };
                call.target = Some(Box::new(IdedExpr { id: 0, expr: Expr::Call(now) }));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let call = IdedExpr { id: 0, expr: Expr::Call(call) };
        match Value::resolve_val(&call, &ROOT) {
            Ok(_) => Ok(()),
            Err(error) => self.refuse(at, format!("this always fails: {}", super::super::describe(&error))),
        }
    }
}

fn is_known(name: &str) -> bool {
    let plain = ["size", "contains", "startsWith", "endsWith", "matches", "int", "double", "string", "bool"];
    plain.contains(&name) || matches!(name, "timestamp" | "duration") || is_getter(name)
}

fn is_getter(name: &str) -> bool {
    let dates = ["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"];
    dates.contains(&name) || is_clock(name)
}

/// The getters that durations have too.
fn is_clock(name: &str) -> bool {
    matches!(name, "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds")
}

/// The type of a call's result; `None` when the function does not take these.
fn result(name: &str, member: bool, kinds: &[Type]) -> Option<Type> {
    let one_of = |kind: &Type, allowed: &[Type]| *kind == Type::Dyn || allowed.contains(kind);
    match (name, member, kinds) {
        ("size", _, [of]) => {
            let sized = matches!(of, Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Dyn);
            sized.then_some(Type::Int)
        }
        ("contains" | "startsWith" | "endsWith", true, [text, part]) | ("matches", _, [text, part]) => {
            (text.is(&Type::String) && part.is(&Type::String)).then_some(Type::Bool)
        }
        ("int", false, [of]) => {
            one_of(of, &[Type::Int, Type::Uint, Type::Double, Type::String, Type::Timestamp]).then_some(Type::Int)
        }
        ("double", false, [of]) => {
            one_of(of, &[Type::Int, Type::Uint, Type::Double, Type::String]).then_some(Type::Double)
        }
        ("bool", false, [of]) => one_of(of, &[Type::Bool, Type::String]).then_some(Type::Bool),
        ("string", false, [of]) => {
            let shown =
                [Type::Int, Type::Uint, Type::Double, Type::Bool, Type::String, Type::Timestamp, Type::Duration];
            one_of(of, &shown).then_some(Type::String)
        }
        ("timestamp", false, [of]) => {
            one_of(of, &[Type::String, Type::Int, Type::Timestamp]).then_some(Type::Timestamp)
        }
        ("duration", false, [of]) => one_of(of, &[Type::String, Type::Duration]).then_some(Type::Duration),
        (name, true, [of]) if is_clock(name) => one_of(of, &[Type::Timestamp, Type::Duration]).then_some(Type::Int),
        (name, true, [of]) if is_getter(name) => one_of(of, &[Type::Timestamp]).then_some(Type::Int),
        (name, true, [of, zone]) if is_getter(name) => {
            (one_of(of, &[Type::Timestamp]) && zone.is(&Type::String)).then_some(Type::Int)
        }
        _ => None,
    }
}
