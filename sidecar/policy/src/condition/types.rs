//! The types that the checker knows.

use std::fmt;

use super::cost::Cost;
use crate::document::ArgumentType;

/// Type of an expression, as far as it is known before the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    Null,
    List(Box<Type>),
    /// A map with values of one type. Maps can be looked up, counted and iterated, not compared.
    Map(Box<Type>),
    /// Headers, query and labels: texts by name, for lookups only.
    Table,
    /// Known at the call only.
    Dyn,
}

impl Type {
    pub(super) fn of_argument(kind: ArgumentType) -> Self {
        match kind {
            ArgumentType::String => Self::String,
            ArgumentType::Integer => Self::Int,
            ArgumentType::Number => Self::Double,
            ArgumentType::Boolean => Self::Bool,
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        *self == Self::Dyn || self == other
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self, Self::Map(_) | Self::Table)
    }

    /// Whether values of both types can be equal.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(one), Self::List(two)) => one.meets(two),
            (one, two) => one == two || (one.is_number() && two.is_number()),
        }
    }

    /// Whether values of both types have an order.
    pub(super) fn orders(&self, other: &Self) -> bool {
        let ordered = |one: &Self| {
            one.is_number()
                || matches!(one, Self::Dyn | Self::String | Self::Bytes | Self::Timestamp | Self::Duration | Self::Bool)
        };
        ordered(self) && ordered(other) && self.meets(other)
    }

    /// The cost of a copy.
    pub(super) fn copying(&self) -> Cost {
        match self {
            Self::Dyn | Self::List(_) => Cost::WALK,
            Self::String | Self::Bytes => Cost::SCAN,
            _ => Cost::STEP,
        }
    }

    /// The type that holds both.
    pub(super) fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::Dyn }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::Null => "null",
            Self::List(_) => "list",
            Self::Map(_) | Self::Table => "map",
            Self::Dyn => "dyn",
        })
    }
}
