//! Prices and costs: exact decimals of US dollars, from a model's published prices and the tokens of a call.

use ez_contract::models::models_checksum;
use ez_contract::snapshot::ModelSnapshot;
use ez_contract::usage::TokenUsage;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Prices are per so many tokens.
const TOKENS_PER_PRICE: u64 = 1_000_000;

/// Billionths of a dollar in a dollar: what budgets are counted in.
const NANOS_PER_DOLLAR: u64 = 1_000_000_000;

/// Hex digits of a price version.
const VERSION_DIGITS: usize = 16;

/// The prices of one model, US dollars per million tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prices {
    input: Decimal,
    output: Option<Decimal>,
    cache_read: Decimal,
    cache_write: Decimal,
    version: String,
}

impl Prices {
    /// The prices of a published model; `None` where what input costs is not known or cannot be read.
    pub(crate) fn of(model: &ModelSnapshot) -> Option<Self> {
        let price = |name: &str| {
            let price: Decimal = model.prices.get(name)?.parse().ok()?;
            (!price.is_sign_negative()).then_some(price)
        };
        let input = price("input")?;
        // Kinds of cached input that have no price of their own cost what input does.
        let cached = |name: &str| if model.prices.contains_key(name) { price(name) } else { Some(input) };
        let checksum = models_checksum(model.prices.iter());
        Some(Self {
            input,
            output: price("output"),
            cache_read: cached("cache_read")?,
            cache_write: cached("cache_write")?,
            version: checksum.chars().take(VERSION_DIGITS).collect(),
        })
    }

    /// What the prices are told apart by: the beginning of their checksum.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// What tokens cost, US dollars; `None` where a count or its price is not known, or no decimal holds it.
    pub(crate) fn cost(&self, tokens: &TokenUsage) -> Option<Decimal> {
        let input = tokens.input_tokens?;
        let output = tokens.output_tokens.unwrap_or_default();
        let cache_read = tokens.cache_read_tokens.unwrap_or_default().min(input);
        let cache_write = tokens.cache_write_tokens.unwrap_or_default().min(input - cache_read);
        let output_price = if output == 0 { Decimal::ZERO } else { self.output? };
        let parts = [
            (input - cache_read - cache_write, self.input),
            (cache_read, self.cache_read),
            (cache_write, self.cache_write),
            (output, output_price),
        ];
        let sum = parts.into_iter().try_fold(Decimal::ZERO, |sum, (tokens, price)| {
            sum.checked_add(Decimal::from(tokens).checked_mul(price)?)
        })?;
        Some(sum.checked_div(Decimal::from(TOKENS_PER_PRICE))?.normalize())
    }

    /// What a call of so many tokens will probably cost, billionths of a dollar.
    pub(crate) fn estimate_nanos(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let output_tokens = if self.output.is_some() { output_tokens } else { 0 };
        let tokens = TokenUsage {
            input_tokens: Some(input_tokens),
            output_tokens: Some(output_tokens),
            ..TokenUsage::default()
        };
        self.cost(&tokens).map_or(0, nanos_of)
    }
}

/// An amount in billionths of a dollar, rounded up; the most that there is where it is more.
pub(crate) fn nanos_of(dollars: Decimal) -> u64 {
    let nanos = dollars.checked_mul(Decimal::from(NANOS_PER_DOLLAR));
    nanos.and_then(|nanos| nanos.ceil().to_u64()).unwrap_or(u64::MAX)
}

/// The same of an amount as text; `None` where it is none.
pub(crate) fn nanos_of_text(dollars: &str) -> Option<u64> {
    let dollars: Decimal = dollars.parse().ok()?;
    (!dollars.is_sign_negative()).then(|| nanos_of(dollars))
}

/// Billionths of a dollar as an exact amount of dollars, with two digits after the point or more.
pub(crate) fn text_of_nanos(nanos: u64) -> String {
    let exact = (Decimal::from(nanos) / Decimal::from(NANOS_PER_DOLLAR)).normalize();
    if exact.scale() < 2 { format!("{exact:.2}") } else { exact.to_string() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn model(prices: &[(&str, &str)]) -> ModelSnapshot {
        let golden = include_str!("../../ez-contract/goldens/model.json");
        let prices: BTreeMap<String, String> =
            prices.iter().map(|(name, price)| ((*name).to_owned(), (*price).to_owned())).collect();
        ModelSnapshot { prices, ..serde_json::from_str(golden).unwrap() }
    }

    fn tokens(input: u64, cache_read: u64, cache_write: u64, output: u64) -> TokenUsage {
        TokenUsage {
            input_tokens: Some(input),
            output_tokens: Some(output),
            cache_read_tokens: Some(cache_read),
            cache_write_tokens: Some(cache_write),
            reasoning_tokens: None,
        }
    }

    #[test]
    fn costs_are_exact_to_the_last_digit() {
        let all = [("input", "2.5"), ("output", "10"), ("cache_read", "0.125"), ("cache_write", "3.125")];
        let plain = [("input", "0.1"), ("output", "0.3")];
        type PriceList = [(&'static str, &'static str)];
        let cases: [(&PriceList, TokenUsage, Option<&str>); 9] = [
            (&all, tokens(1, 0, 0, 0), Some("0.0000025")),
            (&all, tokens(1_000_000, 0, 0, 1_000_000), Some("12.5")),
            (&all, tokens(1000, 600, 300, 50), Some("0.0017625")),
            // Cached input costs what input does where it has no price.
            (&plain, tokens(3, 1, 1, 0), Some("0.0000003")),
            (&plain, tokens(1, 0, 0, 2), Some("0.0000007")),
            (&plain, tokens(0, 0, 0, 0), Some("0")),
            (&[("input", "0.02")], tokens(7, 0, 0, 0), Some("0.00000014")),
            (&[("input", "0.02")], tokens(7, 0, 0, 1), None),
            (&all, TokenUsage::default(), None),
        ];
        for (prices, tokens, expected) in cases {
            let cost = Prices::of(&model(prices)).unwrap().cost(&tokens);
            assert_eq!(cost.map(|cost| cost.to_string()).as_deref(), expected, "{prices:?} {tokens:?}");
        }
        let dear = Prices::of(&model(&[("input", "79228162514264337593543950335")])).unwrap();
        assert_eq!(dear.cost(&tokens(u64::MAX, 0, 0, 0)), None, "no decimal holds it");
    }

    #[test]
    fn what_is_no_price_list_gives_no_cost() {
        let cases: [&[(&str, &str)]; 4] =
            [&[], &[("output", "1")], &[("input", "-1")], &[("input", "1"), ("cache_read", "free")]];
        for prices in cases {
            assert_eq!(Prices::of(&model(prices)), None, "{prices:?}");
        }
    }

    #[test]
    fn a_price_version_changes_with_the_prices_alone() {
        let version = |prices: &[(&str, &str)]| Prices::of(&model(prices)).unwrap().version().to_owned();
        let one = version(&[("input", "1"), ("output", "2")]);
        assert_eq!((one.len(), version(&[("output", "2"), ("input", "1")])), (VERSION_DIGITS, one.clone()));
        assert_ne!(version(&[("input", "1"), ("output", "3")]), one);
    }

    #[test]
    fn amounts_become_billionths_and_come_back() {
        for (text, nanos, back) in [
            ("250.00", 250_000_000_000, "250.00"),
            ("0.000001", 1_000, "0.000001"),
            ("0.0000000001", 1, "0.000000001"),
            ("0", 0, "0.00"),
            ("1.5", 1_500_000_000, "1.50"),
        ] {
            assert_eq!(nanos_of_text(text), Some(nanos), "{text}");
            assert_eq!(text_of_nanos(nanos), back);
        }
        assert_eq!(nanos_of_text("999999999999.999999"), Some(u64::MAX));
        assert_eq!((nanos_of_text("-1"), nanos_of_text("x")), (None, None));
    }
}
