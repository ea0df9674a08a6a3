//! Costs as whole numbers that add up exactly on both databases: SQLite has no decimals.

use rust_decimal::Decimal;

/// Costs are below so many dollars; a record that tells more tells nonsense, and counts as one of unknown cost.
const MAX_DOLLARS: u64 = 10_000_000;

/// Decimal places of the smallest part, which are all that a [`Decimal`] has.
const PLACES: u32 = 28;

/// Of the parts, in the unit of the smallest.
const NANO: i128 = 10_000_000_000_000_000_000;
const ATTO: i128 = 10_000_000_000;

/// A cost, or a sum of costs, in US dollars: `nanos * 1e-9 + attos * 1e-18 + rest * 1e-28`. Of one cost `attos` is below
/// 10^9 and `rest` below 10^10, so that each part of billions of costs still fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CostParts {
    pub(crate) nanos: i64,
    pub(crate) attos: i64,
    pub(crate) rest: i64,
}

impl CostParts {
    /// Reads a record's cost; none where it is not known or senseless.
    pub(crate) fn of(cost: &str) -> Option<Self> {
        let cost = Decimal::from_str_exact(cost).ok()?;
        if cost.is_sign_negative() || cost >= Decimal::from(MAX_DOLLARS) {
            return None;
        }
        let units = cost.mantissa().checked_mul(10_i128.checked_pow(PLACES.checked_sub(cost.scale())?)?)?;
        let part = |part: i128| i64::try_from(part).ok();
        Some(Self { nanos: part(units / NANO)?, attos: part(units % NANO / ATTO)?, rest: part(units % ATTO)? })
    }
}

/// What costs add up to as an exact decimal text without trailing zeros: whole dollars, and sums of what is behind the point
/// of each. No decimal type has as many digits as that may need.
pub(crate) fn sum_text(dollars: i64, parts: CostParts) -> String {
    let (nano, atto) = (i128::from(parts.nanos) * NANO, i128::from(parts.attos) * ATTO);
    let units = nano + atto + i128::from(parts.rest);
    let dollar = NANO * 1_000_000_000;
    let whole = i128::from(dollars) + units / dollar;
    let digits = format!("{:028}", units % dollar);
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() { whole.to_string() } else { format!("{whole}.{digits}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_come_apart_and_together_again() {
        for cost in [
            "0",
            "1",
            "9999999.999999999",
            "0.000000375",
            "0.0000000000000000000000000001",
            "12.345678901234567890123456",
        ] {
            assert_eq!(CostParts::of(cost).map(|parts| sum_text(0, parts)).as_deref(), Some(cost));
        }
        assert_eq!(sum_text(0, CostParts::of("2.50").unwrap()), "2.5");
        let parts = CostParts { nanos: 1_500_000_000, attos: 2, rest: 3 };
        assert_eq!(CostParts::of("1.5000000000000000020000000003"), Some(parts));
    }

    #[test]
    fn what_is_no_cost_is_none() {
        for cost in ["", "-1", "1e3", "ten", "10000000", "0.00000000000000000000000000001"] {
            assert_eq!(CostParts::of(cost), None, "{cost}");
        }
    }

    #[test]
    fn sums_of_costs_are_written_exactly() {
        let text = |dollars, nanos, attos, rest| sum_text(dollars, CostParts { nanos, attos, rest });
        assert_eq!(text(0, 0, 0, 0), "0");
        assert_eq!(text(12, 300_000_000, 0, 1), "12.3000000000000000000000000001");
        assert_eq!(text(1, 2_500_000_000, 1_000_000_000, 10_000_000_000), "3.500000001000000001");
        let most = text(9_999_999_999, 999_999_999, 999_999_999, 9_999_999_999);
        assert_eq!(most, "9999999999.9999999999999999999999999999");
        assert!(text(i64::MAX, i64::MAX, i64::MAX, i64::MAX).starts_with("9223372046078147853."));
    }
}
