//! The types of operators' results.

use cel::common::ast::operators as op;

use super::super::cost::Cost;
use super::super::types::Type;

/// What an operator costs beside its operands.
pub(super) fn operator_cost(name: &str, kinds: &[Type]) -> Cost {
    let lists = kinds.iter().all(|kind| matches!(kind, Type::Dyn | Type::List(_)));
    match name {
        op::EQUALS | op::NOT_EQUALS | op::ADD if lists => Cost::WALK,
        op::EQUALS | op::NOT_EQUALS | op::ADD | op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => {
            Cost::SCAN
        }
        _ => Cost::default(),
    }
}

/// The type of an operator's result; `None` when it does not apply to its operands.
pub(super) fn operator_type(name: &str, kinds: &[Type]) -> Option<Type> {
    match (name, kinds) {
        (op::CONDITIONAL, [condition, one, two]) => condition.is(&Type::Bool).then(|| one.clone().join(two.clone())),
        (op::LOGICAL_AND | op::LOGICAL_OR, [one, two]) => {
            (one.is(&Type::Bool) && two.is(&Type::Bool)).then_some(Type::Bool)
        }
        (op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, [one]) => one.is(&Type::Bool).then_some(Type::Bool),
        (op::NEGATE, [one]) => matches!(one, Type::Int | Type::Double | Type::Dyn).then(|| one.clone()),
        (op::EQUALS | op::NOT_EQUALS, [one, two]) => one.meets(two).then_some(Type::Bool),
        (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [one, two]) => {
            one.orders(two).then_some(Type::Bool)
        }
        (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [one, two]) => arithmetic(name, one, two),
        _ => None,
    }
}

fn arithmetic(name: &str, one: &Type, two: &Type) -> Option<Type> {
    let numbers = matches!(one, Type::Int | Type::Uint | Type::Double) && one == two;
    let texts = name == op::ADD && matches!(one, Type::String | Type::Bytes | Type::List(_));
    match (one, two) {
        (Type::Dyn, _) | (_, Type::Dyn) => Some(Type::Dyn),
        (Type::Double, Type::Double) if name == op::MODULO => None,
        _ if numbers => Some(one.clone()),
        (Type::List(a), Type::List(b)) if texts => {
            Some(Type::List(Box::new(a.as_ref().clone().join(b.as_ref().clone()))))
        }
        _ if texts && one == two => Some(one.clone()),
        (Type::Timestamp, Type::Duration) if matches!(name, op::ADD | op::SUBSTRACT) => Some(Type::Timestamp),
        (Type::Duration, Type::Timestamp) if name == op::ADD => Some(Type::Timestamp),
        (Type::Duration, Type::Duration) if matches!(name, op::ADD | op::SUBSTRACT) => Some(Type::Duration),
        (Type::Timestamp, Type::Timestamp) if name == op::SUBSTRACT => Some(Type::Duration),
        _ => None,
    }
}
