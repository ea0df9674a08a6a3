//! How a model is asked to think, and what follows from it: the cap of the output, and what it may be sampled with.

use super::super::capability::{Capabilities, ReasoningStyle, Sampling};
use super::super::effort::Ask;
use super::super::params::{Param, Params};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Budget, ChatRequest, Effort, Shown};
use super::super::target::Target;
use super::write_turns::Conversation;
use crate::json::{Value, Writer};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Thinking<'a> {
    mode: Mode,
    effort: Option<Effort>,
    display: Option<&'static str>,
    max_tokens: u64,
    sampling: Vec<(&'static str, Number<'a>)>,
}

/// A sampling parameter as it is sent.
#[derive(Debug, Clone, Copy)]
enum Number<'a> {
    AsGiven(Value<'a>),
    /// The most that Anthropic takes, where the client's scale goes on.
    One,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unsaid,
    Off,
    Adaptive,
    Manual { budget: u64 },
}

/// What a model that thinks by hand is given where the client leaves it to the model, tokens.
const MANUAL_DEFAULT: u64 = 8_192;

impl<'a> Thinking<'a> {
    /// What to ask for. Thinking is left out, and reported, where Anthropic refuses it: beside a tool that must be called, in
    /// an answer that the client began, and, where it is done by hand, behind calls that were made without it.
    pub(super) fn of(
        request: &ChatRequest<'_>,
        conversation: &Conversation<'_>,
        is_forced: bool,
        target: &Target<'_>,
        report: &mut Report,
    ) -> Self {
        let capabilities = target.capabilities;
        let (mode, effort) = asked(request, capabilities);
        let is_impossible = match mode {
            Mode::Unsaid | Mode::Off => false,
            Mode::Adaptive => is_forced || conversation.is_prefilled(),
            Mode::Manual { .. } => is_forced || conversation.is_prefilled() || conversation.calls_without_thinking(),
        };
        let mode = if is_impossible { Mode::Unsaid } else { mode };
        report_lost(request, mode, is_impossible, capabilities, report);
        let display = match (mode, request.reasoning.shown) {
            (Mode::Adaptive, Some(Shown::Summary(_))) => Some("summarized"),
            (Mode::Adaptive | Mode::Manual { .. }, Some(Shown::Omitted)) => Some("omitted"),
            _ => None,
        };
        let (mode, max_tokens) = capped(mode, request.max_output_tokens, capabilities);
        Self { mode, effort, display, max_tokens, sampling: Vec::new() }
    }

    /// Takes the sampling parameters that the model takes, in the way it is asked to think.
    pub(super) fn sample(
        &mut self,
        params: &mut Params<'a>,
        target: &Target<'_>,
        report: &mut Report,
    ) -> Result<(), Refused> {
        let thinks = matches!(self.mode, Mode::Adaptive | Mode::Manual { .. });
        let capabilities = target.capabilities;
        let takes = |sampling: Sampling| {
            let is_rejected_now = thinks && capabilities.rejects_while_reasoning.contains(&sampling);
            !is_rejected_now && !capabilities.rejects.contains(&sampling)
        };
        for (sampling, key) in
            [(Sampling::Temperature, "temperature"), (Sampling::TopP, "top_p"), (Sampling::TopK, "top_k")]
        {
            let param: Param = sampling.param();
            let name = params.name(param).unwrap_or_default();
            let Some(value) = params.take_number(param)? else { continue };
            let number = match sampling {
                Sampling::Temperature if value.number().is_some_and(|number| number > 1.0) => Number::One,
                _ => Number::AsGiven(value),
            };
            let is_one = matches!(number, Number::One) || value.number() == Some(1.0);
            // Who thinks is sampled at temperature 1, from all there is.
            let is_bound = thinks && !(sampling == Sampling::Temperature && is_one);
            let is_beside = sampling == Sampling::TopP
                && capabilities.excludes_top_p_beside_temperature
                && self.sampling.iter().any(|(key, _)| *key == "temperature");
            if takes(sampling) && !is_bound && !is_beside {
                self.sampling.push((key, number));
            } else {
                report.dropped(name);
            }
        }
        Ok(())
    }

    /// The most output, tokens.
    pub(super) fn max_tokens(&self) -> u64 {
        self.max_tokens
    }

    /// The word of `output_config`.
    pub(super) fn effort(&self) -> Option<Effort> {
        self.effort
    }

    /// Writes `thinking` and the sampling parameters.
    pub(super) fn write(&self, json: &mut Writer) {
        if self.mode != Mode::Unsaid {
            json.key("thinking").object(|json| {
                json.key("type").string(match self.mode {
                    Mode::Manual { .. } => "enabled",
                    Mode::Adaptive => "adaptive",
                    Mode::Off | Mode::Unsaid => "disabled",
                });
                if let Mode::Manual { budget } = self.mode {
                    json.key("budget_tokens").count(budget);
                }
                if let Some(display) = self.display {
                    json.key("display").string(display);
                }
            });
        }
        for (key, number) in &self.sampling {
            match number {
                Number::AsGiven(value) => json.key(key).value(*value),
                Number::One => json.key(key).raw("1.0"),
            }
        }
    }
}

/// The way the model is asked, before it is known whether that can be.
fn asked(request: &ChatRequest<'_>, capabilities: &Capabilities) -> (Mode, Option<Effort>) {
    let is_shown = matches!(request.reasoning.shown, Some(Shown::Summary(_)));
    match (request.reasoning.for_model(&capabilities.reasoning), &capabilities.reasoning) {
        // Who wants to see what the model thinks leaves it to the model how much.
        (Ask::Nothing, ReasoningStyle::Adaptive { .. }) if is_shown => (Mode::Adaptive, None),
        (Ask::Nothing, _) => (Mode::Unsaid, None),
        (Ask::Off, _) => (Mode::Off, None),
        (Ask::Effort(effort), _) => (Mode::Adaptive, Some(effort)),
        (Ask::Tokens(budget), _) => (Mode::Manual { budget }, None),
        (Ask::Adaptive, ReasoningStyle::Budget { min_budget, max_budget, .. }) => {
            (Mode::Manual { budget: MANUAL_DEFAULT.min(*max_budget).max(*min_budget) }, None)
        }
        (Ask::Adaptive, _) => (Mode::Adaptive, None),
    }
}

/// Reports what of the client's wishes is not asked for.
fn report_lost(
    request: &ChatRequest<'_>,
    mode: Mode,
    is_impossible: bool,
    capabilities: &Capabilities,
    report: &mut Report,
) {
    let (words, wishes) = (request.words(), &request.reasoning);
    let cannot_be_asked = capabilities.reasoning == ReasoningStyle::None;
    let wants_some = |is_off: bool| (cannot_be_asked || is_impossible) && !is_off;
    if wishes.effort.is_some() && wants_some(wishes.effort == Some(Effort::None)) {
        report.dropped(words.effort);
    }
    if wishes.budget.is_some() && wants_some(wishes.budget == Some(Budget::Off)) {
        report.dropped(words.budget);
    }
    // What is not thought cannot be shown; that goes without saying where the client wished for thoughts.
    let is_only_shown = wishes.effort.is_none() && wishes.budget.is_none();
    if is_only_shown && mode == Mode::Unsaid && matches!(wishes.shown, Some(Shown::Summary(_))) {
        report.dropped(words.shown);
    }
}

/// The cap of the output, which Anthropic wants to be told, and which must be more than the budget for thinking. What the
/// client set is meant for the answer where the budget would use it up. The usual cap of the model is as much as is known to
/// be taken, so that budgets stay below it.
fn capped(mode: Mode, told: Option<u64>, capabilities: &Capabilities) -> (Mode, u64) {
    let usual = capabilities.default_max_output_tokens.max(1);
    let cap = told.unwrap_or(usual);
    let Mode::Manual { budget } = mode else { return (mode, cap) };
    if budget < cap {
        return (mode, cap);
    }
    let least = match capabilities.reasoning {
        ReasoningStyle::Budget { min_budget, .. } => min_budget,
        _ => 1,
    };
    if told.is_none() {
        let budget = (usual / 4 * 3).max(least);
        return (Mode::Manual { budget }, usual.max(budget.saturating_add(1)));
    }
    let budget = budget.min(usual.saturating_sub(cap)).max(least);
    (Mode::Manual { budget }, cap.saturating_add(budget))
}
