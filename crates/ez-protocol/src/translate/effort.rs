//! How hard to reason: words and tokens made into one another, and into what a model knows.

use super::capability::ReasoningStyle;
use super::request::{Budget, Effort, ReasoningRequest};

/// The words in their order, with the tokens that stand for each (the figures that peers use; facts/protocols.md, 2.5).
const TABLE: [(Effort, &str, u64); 7] = [
    (Effort::None, "none", 0),
    (Effort::Minimal, "minimal", 512),
    (Effort::Low, "low", 1_024),
    (Effort::Medium, "medium", 8_192),
    (Effort::High, "high", 24_576),
    (Effort::Xhigh, "xhigh", 32_768),
    (Effort::Max, "max", 128_000),
];

impl Effort {
    /// Reads OpenAI's and Anthropic's word.
    pub fn read(word: &str) -> Option<Self> {
        TABLE.iter().find(|(_, name, _)| *name == word).map(|(effort, _, _)| *effort)
    }

    /// OpenAI's and Anthropic's word.
    pub fn word(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The tokens that stand for it.
    pub fn tokens(self) -> u64 {
        TABLE[self as usize].2
    }

    /// The word that stands for so many tokens: the least that allows them.
    pub fn of_tokens(tokens: u64) -> Self {
        TABLE.iter().find(|(_, _, allowed)| tokens <= *allowed).map_or(Self::Max, |(effort, _, _)| *effort)
    }

    /// The nearest of those that a model knows; the lower one where two are as near. `None` where it knows none.
    pub fn nearest(self, known: &[Self]) -> Option<Self> {
        known.iter().copied().min_by_key(|other| ((*other as i8 - self as i8).abs(), *other))
    }
}

/// What to ask a model for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Nothing: the client said nothing, or the model cannot be asked.
    Nothing,
    /// Not to reason.
    Off,
    /// As it sees fit.
    Adaptive,
    /// As hard as a word that it knows.
    Effort(Effort),
    /// For so many tokens, within what it takes.
    Tokens(u64),
}

impl ReasoningRequest {
    /// What to ask a model of this style for, so that it comes nearest to what the client asked.
    pub fn for_model(&self, style: &ReasoningStyle) -> Ask {
        let wants_off = self.effort == Some(Effort::None) || self.budget == Some(Budget::Off);
        let tokens = match self.budget {
            Some(Budget::Tokens(tokens)) => Some(tokens),
            _ => None,
        };
        // A word says how hard; a budget how long. Where the client said both, the model is told in its own way.
        let effort = self.effort.or(tokens.map(Effort::of_tokens));
        let budget = tokens.or(self.effort.map(Effort::tokens));
        match style {
            ReasoningStyle::None => Ask::Nothing,
            ReasoningStyle::Effort { efforts } | ReasoningStyle::Level { efforts } => {
                let asked = if wants_off { Some(Effort::None) } else { effort };
                asked.and_then(|asked| asked.nearest(efforts)).map_or(Ask::Nothing, Ask::Effort)
            }
            ReasoningStyle::Adaptive { can_disable: true, .. } if wants_off => Ask::Off,
            ReasoningStyle::Adaptive { efforts, .. } => match effort.and_then(|effort| effort.nearest(efforts)) {
                Some(effort) => Ask::Effort(effort),
                None if self.budget == Some(Budget::Adaptive) => Ask::Adaptive,
                None => Ask::Nothing,
            },
            ReasoningStyle::Budget { can_disable: true, .. } if wants_off => Ask::Off,
            ReasoningStyle::Budget { min_budget, max_budget, .. } => match budget {
                Some(budget) => Ask::Tokens(budget.clamp(*min_budget, (*max_budget).max(*min_budget))),
                None if wants_off => Ask::Tokens(*min_budget),
                None if self.budget == Some(Budget::Adaptive) => Ask::Adaptive,
                None => Ask::Nothing,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_tokens_stand_for_one_another() {
        for (effort, word, tokens) in TABLE {
            assert_eq!((Effort::read(word), effort.word(), Effort::of_tokens(tokens)), (Some(effort), word, effort));
        }
        assert_eq!((Effort::of_tokens(1), Effort::of_tokens(2_000)), (Effort::Minimal, Effort::Medium));
        assert_eq!(Effort::of_tokens(u64::MAX), Effort::Max);
        assert_eq!(Effort::read("hard"), None);
    }

    #[test]
    fn each_model_is_asked_in_its_own_way() {
        let effort = |effort| ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() };
        let budget = |budget| ReasoningRequest { budget: Some(budget), ..ReasoningRequest::default() };
        let words = ReasoningStyle::Effort { efforts: vec![Effort::Low, Effort::High] };
        let tokens = ReasoningStyle::Budget { min_budget: 1_024, max_budget: 20_000, can_disable: true };
        let always = ReasoningStyle::Budget { min_budget: 128, max_budget: 20_000, can_disable: false };
        let adaptive = ReasoningStyle::Adaptive { efforts: vec![Effort::Low, Effort::Max], can_disable: true };
        let cases = [
            (ReasoningRequest::default(), &words, Ask::Nothing),
            (effort(Effort::High), &ReasoningStyle::None, Ask::Nothing),
            (effort(Effort::Medium), &words, Ask::Effort(Effort::Low)),
            (effort(Effort::None), &words, Ask::Effort(Effort::Low)),
            (budget(Budget::Tokens(20_000)), &words, Ask::Effort(Effort::High)),
            (effort(Effort::Minimal), &tokens, Ask::Tokens(1_024)),
            (effort(Effort::Max), &tokens, Ask::Tokens(20_000)),
            (effort(Effort::None), &tokens, Ask::Off),
            (budget(Budget::Off), &always, Ask::Tokens(128)),
            (effort(Effort::None), &always, Ask::Tokens(128)),
            (budget(Budget::Adaptive), &tokens, Ask::Adaptive),
            (budget(Budget::Tokens(5_000)), &tokens, Ask::Tokens(5_000)),
            (effort(Effort::None), &adaptive, Ask::Off),
            (effort(Effort::Xhigh), &adaptive, Ask::Effort(Effort::Max)),
            (budget(Budget::Adaptive), &adaptive, Ask::Adaptive),
        ];
        for (asked, style, expected) in cases {
            assert_eq!(asked.for_model(style), expected, "{asked:?} {style:?}");
        }
    }
}
