//! Budgets: exact amounts of US dollars, kept as text and never as a float.

/// Digits before and after the point.
const MAX_WHOLE_DIGITS: usize = 12;
const MAX_FRACTION_DIGITS: usize = 6;

/// Digits after the point that are always written: cents.
const MIN_FRACTION_DIGITS: usize = 2;

/// The one way to write an amount: no needless zeros, two digits after the point or more. Errors: what is allowed.
pub(crate) fn normalised(amount: &str) -> Result<String, String> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match amount.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return Err(rule()),
        None => (amount, ""),
    };
    if !is_digits(whole) {
        return Err(rule());
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.len() > MAX_WHOLE_DIGITS || fraction.len() > MAX_FRACTION_DIGITS {
        return Err(rule());
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(format!("{whole}.{fraction:0<MIN_FRACTION_DIGITS$}"))
}

fn rule() -> String {
    format!(
        "must be an amount of US dollars such as 250.00: not negative, without an exponent, at most {MAX_WHOLE_DIGITS} \
         digits before the point and {MAX_FRACTION_DIGITS} after it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_written_in_one_way() {
        let cases = [
            ("250", "250.00"),
            ("250.00", "250.00"),
            ("0250.5", "250.50"),
            ("0", "0.00"),
            ("000.000000000", "0.00"),
            ("0.1", "0.10"),
            ("0.000001", "0.000001"),
            ("1.2300", "1.23"),
            ("999999999999.999999", "999999999999.999999"),
        ];
        for (given, expected) in cases {
            assert_eq!(normalised(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        let wrong = ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0x1", "1.2.3", "NaN", "1.0000001"];
        for given in wrong.into_iter().chain(["1000000000000", "٣"]) {
            assert!(normalised(given).is_err_and(|rule| rule.contains("at most 12 digits")), "{given}");
        }
    }
}
