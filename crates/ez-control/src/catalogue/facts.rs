//! What is known of one model, from whatever source, and the prices in it.

use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use ez_store::models::Model;
use rust_decimal::Decimal;

/// US dollars per million tokens that a price may have at most.
const MAX_PRICE: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);

/// Decimal places of a price.
const MAX_SCALE: u32 = 18;

/// Characters of a price as text.
const MAX_PRICE_CHARS: usize = 40;

/// Tokens that a model's sizes may have at most.
pub(crate) const MAX_TOKENS: u64 = 100_000_000;

/// What one model can do and what it costs. `false`, 0 and no price stand for what is not known, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// What it is for.
    pub kind: ModelKind,
    /// Tokens of input and output together; 0 is not known.
    pub context_window: u64,
    /// Tokens of output; 0 is not known.
    pub max_output_tokens: u64,
    /// What it costs.
    pub prices: Prices,
    /// What it can do.
    pub supports: Supports,
    /// What it takes, where the gateway's own table does not fit.
    pub capabilities: CapabilityOverrides,
}

/// US dollars per million tokens; none is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// Of input that no cache had to do with.
    pub input: Option<Decimal>,
    /// Of output.
    pub output: Option<Decimal>,
    /// Of input read from a cache.
    pub cache_read: Option<Decimal>,
    /// Of input written to a cache.
    pub cache_write: Option<Decimal>,
}

/// What a model can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Supports {
    /// Accepts images.
    pub vision: bool,
    /// Accepts tool definitions.
    pub functions: bool,
    /// Accepts a forced tool choice.
    pub tool_choice: bool,
    /// Fills in the middle.
    pub fim: bool,
    /// Streams.
    pub stream: bool,
}

/// A text that is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be US dollars per million tokens: a decimal such as 2.50, from 0 to 1000000, of at most 18 places")]
pub(crate) struct InvalidPrice;

impl Default for ModelFacts {
    /// Nothing is known of a model, so that it counts as one to talk to.
    fn default() -> Self {
        Self {
            kind: ModelKind::Chat,
            context_window: 0,
            max_output_tokens: 0,
            prices: Prices::default(),
            supports: Supports::default(),
            capabilities: CapabilityOverrides::default(),
        }
    }
}

impl From<&Model> for ModelFacts {
    fn from(model: &Model) -> Self {
        Self {
            kind: model.kind,
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            prices: Prices {
                input: model.input_price,
                output: model.output_price,
                cache_read: model.cache_read_price,
                cache_write: model.cache_write_price,
            },
            supports: Supports {
                vision: model.supports_vision,
                functions: model.supports_functions,
                tool_choice: model.supports_tool_choice,
                fim: model.supports_fim,
                stream: model.supports_stream,
            },
            capabilities: model.capabilities.clone(),
        }
    }
}

impl Prices {
    /// Each price under its name.
    pub fn named(&self) -> [(&'static str, Option<Decimal>); 4] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
        ]
    }
}

/// Reads a price exactly as it is written, a JSON number's exponent included, and brings it into one form: without
/// zeros at its end.
pub(crate) fn parse_price(text: &str) -> Result<Decimal, InvalidPrice> {
    // The parser would take more: underscores, signs.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let begins_well = text.starts_with(|first: char| first.is_ascii_digit());
    if !is_number || !begins_well || text.len() > MAX_PRICE_CHARS {
        return Err(InvalidPrice);
    }
    // With an exponent the parser rounds digits that a decimal has no room for: they are looked at before.
    let digits = text.split_once(['e', 'E']).map_or(text, |(digits, _)| digits);
    let plain = Decimal::from_str_exact(digits).map_err(|_| InvalidPrice)?;
    let parsed = if digits == text { Ok(plain) } else { Decimal::from_scientific(text) };
    let price = parsed.map_err(|_| InvalidPrice)?.normalize();
    let is_within = price <= MAX_PRICE && price.scale() <= MAX_SCALE;
    if is_within { Ok(price) } else { Err(InvalidPrice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_and_have_one_form() {
        let cases = [
            ("2.5", "2.5"),
            ("2.50", "2.5"),
            ("10", "10"),
            ("0", "0"),
            ("0.000", "0"),
            ("007", "7"),
            ("0.1", "0.1"),
            ("0.000000000001", "0.000000000001"),
            ("0.287999999999999997", "0.287999999999999997"),
            ("1000000", "1000000"),
            ("2.5e-06", "0.0000025"),
            ("1E2", "100"),
            ("0.0000000000000000000000000012e10", "0.000000000000000012"),
            ("123456.123456789012", "123456.123456789012"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_price(text).map(|price| price.to_string()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        let long = "1".repeat(41);
        let bad = [
            "",
            " 1",
            "-1",
            "+1",
            ".5",
            "1_000",
            "1,5",
            "NaN",
            "1e99",
            "1e-99",
            "1e",
            "1e9999999999",
            // Not 0, which a parser that rounds makes of it.
            "0.0000000000000000000000000000012e20",
            "1.00000000000000000000000000001e-1",
            "1000000.1",
            "0.0000000000000000001",
            "0x1",
            "1 ",
            "$2",
            "1-2",
            &long,
        ];
        for text in bad {
            assert_eq!(parse_price(text), Err(InvalidPrice), "{text:?}");
        }
    }
}
