//! How much work an evaluation can be.

/// Steps as a polynomial in the number of values that an evaluation may iterate over: what stands
/// outside of every macro, inside of one, and inside of two nested ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost([u64; 3]);

/// Deepest nesting of `all`, `exists`, `map` and the like over arguments.
pub(super) const MAX_LOOPS: usize = 2;

/// How large the facts are that an evaluation reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Values: members and items, nested ones included.
    pub(super) values: u64,
    /// Bytes of the longest text.
    pub(super) longest: u64,
}

/// Bytes of text that are searched or copied in one step.
const BYTES_PER_STEP: u64 = 256;

impl Cost {
    /// One step.
    pub(super) const ONE: Self = Self([1, 0, 0]);

    pub(super) fn plus(self, other: Self) -> Self {
        let Self([a, b, c]) = self;
        let Self([x, y, z]) = other;
        Self([a.saturating_add(x), b.saturating_add(y), c.saturating_add(z)])
    }

    /// Once per item of a literal list.
    pub(super) fn times(self, count: u64) -> Self {
        Self(self.0.map(|steps| steps.saturating_mul(count)))
    }

    /// Once per value that is not known yet; `None` when that is nested too deeply.
    pub(super) fn per_value(self) -> Option<Self> {
        let Self([a, b, c]) = self;
        (c == 0).then_some(Self([0, a, b]))
    }

    /// The steps over facts of a size.
    pub(super) fn steps(self, size: Size) -> u64 {
        let Self([once, each, pairs]) = self;
        if each == 0 && pairs == 0 {
            return once;
        }
        let values = size.values.max(1);
        let loops = each.saturating_mul(values).saturating_add(pairs.saturating_mul(values).saturating_mul(values));
        // Inside of a loop even a scan of one long text is paid again and again.
        once.saturating_add(loops.saturating_mul(1 + size.longest / BYTES_PER_STEP))
    }
}
