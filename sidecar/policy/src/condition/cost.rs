//! How much work an evaluation can be.
//!
//! Agents choose the arguments, so a condition that is cheap for ten items must not be dear for a
//! million. The checker adds up what an expression does; before every evaluation the sum is compared
//! with the size of the arguments. It counts generously: a value of unknown type may be a long list.

/// The work of an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Steps of the evaluation.
    steps: Polynomial,
    /// How often a text may be searched, compared or copied.
    scans: Polynomial,
}

/// A polynomial in the number of values of the arguments: what happens once, once per value, once per
/// pair of values, and once per three of them.
type Polynomial = [u64; MAX_LOOPS + 1];

/// Deepest nesting of loops over arguments. Comparing lists and searching one are loops, too.
pub(super) const MAX_LOOPS: usize = 3;

/// How large the facts are that an evaluation reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Values: members and items, nested ones included.
    pub(super) values: u64,
    /// Bytes of the longest text.
    pub(super) longest: u64,
}

/// Bytes of text that are scanned in the time of a step.
const BYTES_PER_STEP: u64 = 256;

impl Cost {
    /// A step.
    pub(super) const STEP: Self = Self { steps: [1, 0, 0, 0], scans: [0; 4] };

    /// A look at a whole text.
    pub(super) const SCAN: Self = Self { steps: [0; 4], scans: [1, 0, 0, 0] };

    /// A look at a whole list.
    pub(super) const WALK: Self = Self { steps: [0, 1, 0, 0], scans: [0, 1, 0, 0] };

    pub(super) const fn of_steps(steps: u64) -> Self {
        Self { steps: [steps, 0, 0, 0], scans: [0; 4] }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let add = |one: Polynomial, two: Polynomial| {
            let ([a, b, c, d], [w, x, y, z]) = (one, two);
            [a.saturating_add(w), b.saturating_add(x), c.saturating_add(y), d.saturating_add(z)]
        };
        Self { steps: add(self.steps, other.steps), scans: add(self.scans, other.scans) }
    }

    /// A number of times.
    pub(super) fn times(self, count: u64) -> Self {
        let times = |polynomial: Polynomial| polynomial.map(|factor| factor.saturating_mul(count));
        Self { steps: times(self.steps), scans: times(self.scans) }
    }

    /// Once per value; `None` when that is nested too deeply.
    pub(super) fn per_value(self) -> Option<Self> {
        let ([a, b, c, d], [w, x, y, z]) = (self.steps, self.scans);
        (d == 0 && z == 0).then_some(Self { steps: [0, a, b, c], scans: [0, w, x, y] })
    }

    /// The steps over facts of a size.
    pub(super) fn steps(self, size: Size) -> u64 {
        let values = size.values.max(1);
        let at = |factors: Polynomial| {
            factors.iter().rev().fold(0_u64, |sum, factor| sum.saturating_mul(values).saturating_add(*factor))
        };
        at(self.steps).saturating_add(at(self.scans).saturating_mul(size.longest / BYTES_PER_STEP))
    }
}
