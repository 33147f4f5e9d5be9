//! The checker.
//!
//! It covers: every name, field and function that an expression mentions; the types of the facts
//! (`request.port` is an int, `time.now` a timestamp, `args.x` what the operation declares) and of
//! whatever is computed from them; lists and comprehensions; `matches`, whose pattern must be a
//! literal that compiles; calls whose arguments are all literals, which are tried out; and the cost.
//! It leaves to the evaluation what only the call can tell: `dyn`, such as undeclared arguments.

use cel::common::ast::operators as op;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, SelectExpr, SourceInfo,
};

use super::cost::{Cost, Size};
use super::types::Type;
use super::{ConditionError, MAX_NESTING, MAX_NODES, MAX_STEPS, Reads, Target};

mod calls;
mod operators;

/// What the checker found out.
pub(super) struct Checked {
    pub(super) reads: Reads,
    pub(super) cost: Cost,
}

/// Checks an expression.
pub(super) fn check(
    text: &str,
    root: &IdedExpr,
    source: &SourceInfo,
    target: &Target,
) -> Result<Checked, ConditionError> {
    let mut checker = Checker { text, source, target, reads: Reads::default(), locals: Vec::new(), nodes: 0, depth: 0 };
    let (kind, cost) = checker.value(root)?;
    if !kind.is(&Type::Bool) {
        return checker.refuse(root, format!("a condition is true or false, and this is of type {kind}"));
    }
    if cost.steps(Size::default()) > MAX_STEPS {
        return checker.refuse(root, "the condition costs too much");
    }
    Ok(Checked { reads: checker.reads, cost })
}

/// The names of the facts.
const FACTS: [&str; 7] = ["agent", "args", "model", "request", "requester", "run", "time"];

struct Checker<'a> {
    text: &'a str,
    source: &'a SourceInfo,
    target: &'a Target,
    reads: Reads,
    /// The variables of the macros around, innermost last.
    locals: Vec<(String, Type)>,
    nodes: u64,
    depth: usize,
}

type Typed = Result<(Type, Cost), ConditionError>;

impl<'a> Checker<'a> {
    fn refuse<T>(&self, at: &IdedExpr, reason: impl Into<String>) -> Result<T, ConditionError> {
        let offset = self.source.offset_for(at.id).map_or(0, |(start, _)| start);
        Err(ConditionError::at(self.text, usize::try_from(offset).unwrap_or_default(), reason))
    }

    /// An expression whose value may go anywhere. Maps may not: a map of CEL's and one of JSON are
    /// never equal in the `cel` crate, so they are kept out of comparisons for good.
    fn value(&mut self, expression: &IdedExpr) -> Typed {
        let (kind, cost) = self.any(expression)?;
        if kind.is_map() {
            return self.refuse(expression, "a map can be looked into, counted and iterated; compare its members");
        }
        Ok((kind, cost))
    }

    /// An expression of any type.
    fn any(&mut self, expression: &IdedExpr) -> Typed {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.refuse(expression, format!("the condition has more than {MAX_NODES} parts"));
        }
        self.depth += 1;
        // A chain of && nests on one side only, so it counts less than brackets would.
        if self.depth > 4 * MAX_NESTING {
            return self.refuse(expression, format!("the condition is nested more than {MAX_NESTING} deep"));
        }
        let (kind, cost) = match &expression.expr {
            Expr::Literal(literal) => (literal_type(literal), Cost::default()),
            Expr::Ident(name) => (self.ident(expression, name)?, Cost::default()),
            Expr::Select(select) => self.select(expression, select)?,
            Expr::Call(call) => self.call(expression, call)?,
            Expr::List(list) => {
                let mut item: Option<Type> = None;
                let mut cost = Cost::default();
                for element in &list.elements {
                    let (kind, more) = self.value(element)?;
                    // The list gets a copy, and a copy of a list is as long as the list.
                    cost = cost.plus(more).plus(kind.copying());
                    item = Some(item.map_or(kind.clone(), |known| known.join(kind)));
                }
                (Type::List(Box::new(item.unwrap_or(Type::Dyn))), cost)
            }
            Expr::Map(map) => self.map(map)?,
            Expr::Comprehension(all) => self.comprehension(expression, all)?,
            Expr::Struct(_) => return self.refuse(expression, "messages are not available"),
            Expr::Unspecified => return self.refuse(expression, "not a CEL expression"),
        };
        self.depth -= 1;
        Ok((kind, cost.plus(Cost::STEP)))
    }

    fn ident(&mut self, at: &IdedExpr, name: &str) -> Result<Type, ConditionError> {
        if let Some((_, kind)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            return Ok(kind.clone());
        }
        match name {
            "args" => {
                self.reads.args = true;
                Ok(Type::Map(Box::new(Type::Dyn)))
            }
            "request" => self.refuse(at, format!("write one of {}", REQUEST.join(", "))),
            "agent" => self.refuse(at, format!("write one of {}", AGENT.join(", "))),
            "time" => self.refuse(at, "write time.now"),
            "requester" | "run" => self.refuse(at, format!("write {name}.id")),
            "model" => self.refuse(at, "write model.name"),
            _ => {
                let known = "args, request, agent, time, requester, run and model";
                self.refuse(at, format!("{name:?} is not known; there are {known}"))
            }
        }
    }

    fn select(&mut self, at: &IdedExpr, select: &SelectExpr) -> Typed {
        let SelectExpr { operand, field, test } = select;
        if let Expr::Ident(name) = &operand.expr
            && self.locals.iter().all(|(local, _)| local != name)
        {
            if name == "args" {
                self.ident(operand, name)?;
                return Ok((self.argument(field, *test), Cost::STEP));
            }
            if FACTS.contains(&name.as_str()) {
                let kind = self.fact(at, name, field)?;
                if *test {
                    return self.refuse(at, format!("{name}.{field} is always there"));
                }
                return Ok((kind, Cost::STEP));
            }
        }
        let (kind, cost) = self.any(operand)?;
        let cost = if kind == Type::Table { cost.plus(LOOKUP) } else { cost };
        let found = match kind {
            Type::Map(value) => *value,
            Type::Table => Type::String,
            Type::Dyn => Type::Dyn,
            other => return self.refuse(at, format!("a {other} has no field {field:?}")),
        };
        self.check_header_name(at, operand, field)?;
        Ok((if *test { Type::Bool } else { found }, cost))
    }

    fn argument(&self, name: &str, test: bool) -> Type {
        match self.target.declared.get(name) {
            _ if test => Type::Bool,
            Some(kind) => Type::of_argument(*kind),
            None => Type::Dyn,
        }
    }

    fn fact(&mut self, at: &IdedExpr, name: &str, field: &str) -> Result<Type, ConditionError> {
        if name == "request" && !self.target.request {
            let about = if self.target.claims { "tools" } else { "a category" };
            return self.refuse(at, format!("a rule about {about} has no request; it has args, agent and time"));
        }
        if matches!(name, "requester" | "run" | "model") {
            return self.claim(at, name, field);
        }
        match (name, field) {
            ("request", "method" | "host") => Ok(Type::String),
            ("request", "path") => {
                self.reads.path = true;
                Ok(Type::String)
            }
            ("request", "port") => Ok(Type::Int),
            ("request", "query") => {
                self.reads.query = true;
                Ok(Type::Table)
            }
            ("request", "headers") => {
                self.reads.headers = true;
                Ok(Type::Table)
            }
            ("agent", "namespace" | "serviceAccount" | "pod") => Ok(Type::String),
            ("agent", "labels") => Ok(Type::Table),
            ("time", "now") => Ok(Type::Timestamp),
            ("request", _) => self.refuse(at, format!("request has no {field:?}; there are {}", REQUEST.join(", "))),
            ("agent", _) => self.refuse(at, format!("agent has no {field:?}; there are {}", AGENT.join(", "))),
            _ => self.refuse(at, format!("time has no {field:?}; there is time.now")),
        }
    }

    /// What the agent says about a tool call.
    fn claim(&mut self, at: &IdedExpr, name: &str, field: &str) -> Result<Type, ConditionError> {
        if !self.target.claims {
            return self
                .refuse(at, format!("{name} is known in rules about tools only: the agent states it with the call"));
        }
        let claims = &mut self.reads.claims;
        match (name, field) {
            ("requester", "id") => claims.requester = true,
            ("run", "id") => claims.run = true,
            ("model", "name") => claims.model = true,
            _ => {
                return self
                    .refuse(at, format!("{name} has no {field:?}; there are requester.id, run.id and model.name"));
            }
        }
        Ok(Type::String)
    }

    /// A header's name that no request can carry would make a condition that never holds.
    fn check_header_name(&self, at: &IdedExpr, operand: &IdedExpr, name: &str) -> Result<(), ConditionError> {
        let Expr::Select(SelectExpr { operand, field, .. }) = &operand.expr else { return Ok(()) };
        if field != "headers" || !matches!(&operand.expr, Expr::Ident(root) if root == "request") {
            return Ok(());
        }
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() || name.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.refuse(at, format!("{name:?} is no header name in lower case"));
        }
        Ok(())
    }

    fn map(&mut self, map: &MapExpr) -> Typed {
        let mut found: Option<Type> = None;
        let mut cost = Cost::default();
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let (key, first) = self.value(&entry.key)?;
            if !matches!(key, Type::String | Type::Int | Type::Uint | Type::Bool | Type::Dyn) {
                return self.refuse(&entry.key, format!("a {key} cannot be the key of a map"));
            }
            let (kind, second) = self.value(&entry.value)?;
            cost = cost.plus(first).plus(second).plus(kind.copying());
            found = Some(found.map_or(kind.clone(), |known| known.join(kind)));
        }
        Ok((Type::Map(Box::new(found.unwrap_or(Type::Dyn))), cost))
    }

    fn comprehension(&mut self, at: &IdedExpr, all: &ComprehensionExpr) -> Typed {
        let ComprehensionExpr { iter_range, iter_var, iter_var2, accu_var, accu_init, loop_cond, loop_step, result } =
            all;
        let (range, range_cost) = self.any(iter_range)?;
        let item = match range {
            Type::List(item) => *item,
            Type::Map(_) | Type::Dyn => Type::Dyn,
            other => return self.refuse(iter_range, format!("a {other} cannot be iterated here")),
        };
        if iter_var2.is_some() || iter_var.starts_with('@') || FACTS.contains(&iter_var.as_str()) {
            return self.refuse(at, format!("{iter_var:?} cannot be the variable of a macro"));
        }
        let (init, init_cost) = self.value(accu_init)?;
        let init = if matches!(init, Type::List(_)) { Type::List(Box::new(Type::Dyn)) } else { init };
        let outer = self.locals.len();
        self.locals.push((accu_var.clone(), init.clone()));
        self.locals.push((iter_var.clone(), item));
        let (condition, condition_cost) = self.value(loop_cond)?;
        let (step, step_cost) = self.value(loop_step)?;
        self.locals.truncate(outer + 1);
        let (kind, result_cost) = self.value(result)?;
        self.locals.truncate(outer);
        if !condition.is(&Type::Bool) || !step.meets(&init) {
            return self.refuse(at, "the macro's expression is of the wrong type");
        }
        // Every round copies an item, which may be a text.
        let body = condition_cost.plus(step_cost).plus(Cost::STEP).plus(Cost::SCAN);
        let loops = match &iter_range.expr {
            Expr::List(list) => Some(body.times(u64::try_from(list.elements.len()).unwrap_or(u64::MAX))),
            _ => body.per_value(),
        };
        let Some(loops) = loops else {
            return self.refuse(at, format!("loops over arguments nest at most {} deep", super::cost::MAX_LOOPS));
        };
        Ok((kind, range_cost.plus(init_cost).plus(loops).plus(result_cost)))
    }

    fn call(&mut self, at: &IdedExpr, call: &CallExpr) -> Typed {
        let CallExpr { func_name, target, args } = call;
        if target.is_none()
            && let Some(typed) = self.operator(at, func_name, args)?
        {
            return Ok(typed);
        }
        self.function(at, call)
    }

    /// An operator, or `None` when it is the call of a function.
    fn operator(
        &mut self,
        at: &IdedExpr,
        name: &str,
        args: &[IdedExpr],
    ) -> Result<Option<(Type, Cost)>, ConditionError> {
        if let (op::INDEX, [container, key]) = (name, args) {
            return self.index(at, container, key).map(Some);
        }
        if let (op::IN, [item, container]) = (name, args) {
            return self.contains(at, item, container).map(Some);
        }
        let operators = [
            op::CONDITIONAL,
            op::LOGICAL_AND,
            op::LOGICAL_OR,
            op::LOGICAL_NOT,
            op::NOT_STRICTLY_FALSE,
            op::NEGATE,
            op::EQUALS,
            op::NOT_EQUALS,
            op::LESS,
            op::LESS_EQUALS,
            op::GREATER,
            op::GREATER_EQUALS,
            op::ADD,
            op::SUBSTRACT,
            op::MULTIPLY,
            op::DIVIDE,
            op::MODULO,
        ];
        if !operators.contains(&name) {
            return Ok(None);
        }
        let mut kinds = Vec::with_capacity(args.len());
        let mut cost = Cost::default();
        for arg in args {
            let (kind, more) = self.value(arg)?;
            kinds.push(kind);
            cost = cost.plus(more);
        }
        match operators::operator_type(name, &kinds) {
            Some(kind) => Ok(Some((kind, cost.plus(operators::operator_cost(name, &kinds))))),
            None => {
                let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
                let sign = name.trim_matches(['_', '@']).replace('_', " ");
                let hint = if kinds.contains(&"double".to_owned()) { "; double(x) makes one of an int" } else { "" };
                self.refuse(at, format!("{sign} does not apply to {}{hint}", kinds.join(" and ")))
            }
        }
    }

    fn index(&mut self, at: &IdedExpr, container: &IdedExpr, key: &IdedExpr) -> Typed {
        if let Expr::Literal(LiteralValue::String(field)) = &key.expr {
            self.nodes += 1;
            if let Expr::Ident(name) = &container.expr {
                self.ident(container, name)?;
            }
            let select =
                SelectExpr { operand: Box::new(container.clone()), field: field.inner().to_owned(), test: false };
            return self.select(at, &select);
        }
        let (kind, first) = self.any(container)?;
        let (key_kind, second) = self.value(key)?;
        let (fits, found) = match kind {
            Type::List(item) => (matches!(key_kind, Type::Int | Type::Uint | Type::Dyn), *item),
            Type::Map(value) => (true, *value),
            Type::Table => (key_kind.is(&Type::String), Type::String),
            Type::Dyn => (true, Type::Dyn),
            _ => (false, Type::Dyn),
        };
        if !fits {
            return self.refuse(at, "this cannot be indexed that way");
        }
        Ok((found, first.plus(second).plus(LOOKUP)))
    }

    fn contains(&mut self, at: &IdedExpr, item: &IdedExpr, container: &IdedExpr) -> Typed {
        let (kind, first) = self.value(item)?;
        let (holder, second) = self.any(container)?;
        let fits = match &holder {
            Type::List(of) => kind.meets(of),
            Type::Map(_) | Type::Dyn => true,
            Type::Table => kind.is(&Type::String),
            _ => false,
        };
        if !fits {
            let hint = if holder == Type::String { "; write text.contains(part)" } else { "" };
            return self.refuse(at, format!("a {kind} cannot be in a {holder}{hint}"));
        }
        let search = match &container.expr {
            Expr::List(list) => Cost::SCAN.times(u64::try_from(list.elements.len()).unwrap_or(u64::MAX)),
            _ if holder == Type::Table => LOOKUP,
            _ => Cost::WALK,
        };
        Ok((Type::Bool, first.plus(second).plus(search)))
    }
}

/// The steps of a lookup in a table: a name that is absent is compared with all that are there.
const LOOKUP: Cost = Cost::of_steps(32);

const REQUEST: [&str; 6] =
    ["request.method", "request.host", "request.port", "request.path", "request.query", "request.headers"];
const AGENT: [&str; 4] = ["agent.namespace", "agent.serviceAccount", "agent.pod", "agent.labels"];

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}
