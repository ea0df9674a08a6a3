//! Names and ids of tools that a target refuses: made into ones that it takes, and back.

use std::borrow::Cow;
use std::collections::HashMap;

use ez_contract::Protocol;

use super::refused::Refused;
use super::request::{Block, ChatRequest, ToolChoice, ToolKind};
use crate::json::Escaped;

/// The tools of a call: what the upstream calls them, and what the client does.
#[derive(Debug, Clone, Default)]
pub(super) struct ToolNames {
    /// Those whose names differ, and those of the custom kind, by the client's name.
    by_client: HashMap<String, Sent>,
    /// The client's names of the same by those that are sent.
    by_sent: HashMap<String, String>,
}

#[derive(Debug, Clone)]
struct Sent {
    name: String,
    is_custom: bool,
}

/// What a protocol takes for a name or an id.
struct Rule {
    max_bytes: usize,
    /// Besides letters, digits, `_` and `-`.
    further: &'static [u8],
    /// Whether it must begin with a letter or `_`.
    begins_with_letter: bool,
}

const fn name_rule(protocol: Protocol) -> Rule {
    match protocol {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => {
            Rule { max_bytes: 64, further: b"", begins_with_letter: false }
        }
        Protocol::AnthropicMessages => Rule { max_bytes: 128, further: b"", begins_with_letter: false },
        // Vendors of older models take 64, and nothing but these characters everywhere.
        Protocol::Gemini => Rule { max_bytes: 64, further: b".:", begins_with_letter: true },
    }
}

const fn id_rule(protocol: Protocol) -> Rule {
    match protocol {
        Protocol::OpenaiChat => Rule { max_bytes: 40, further: b".:", begins_with_letter: false },
        Protocol::OpenaiResponses => Rule { max_bytes: 64, further: b".:", begins_with_letter: false },
        Protocol::AnthropicMessages => Rule { max_bytes: 64, further: b"", begins_with_letter: false },
        Protocol::Gemini => Rule { max_bytes: 64, further: b".:", begins_with_letter: false },
    }
}

impl ToolNames {
    /// The tools that a request defines, chooses or has called. Refused where two names cannot be told apart.
    pub(crate) fn of(request: &ChatRequest<'_>, to: Protocol) -> Result<Self, Refused> {
        let mut names = Self::default();
        for tool in &request.tools {
            names.note(&tool.name, matches!(tool.kind, ToolKind::Custom { .. }), to)?;
        }
        match &request.tool_choice {
            Some(ToolChoice::Tool(name)) => names.note(name, false, to)?,
            Some(ToolChoice::Allowed { names: allowed, .. }) => {
                allowed.iter().try_for_each(|name| names.note(name, false, to))?;
            }
            _ => {}
        }
        for block in request.turns.iter().flat_map(|turn| &turn.blocks) {
            if let Block::ToolCall(call) = block {
                names.note(&call.name, false, to)?;
            }
        }
        Ok(names)
    }

    fn note(&mut self, name: &Escaped<'_>, is_custom: bool, to: Protocol) -> Result<(), Refused> {
        let client = name.text();
        if self.by_client.contains_key(client.as_ref()) {
            return Ok(());
        }
        let sent = fitted(&client, &name_rule(to), "tool");
        if !is_custom && matches!(sent, Cow::Borrowed(_)) {
            return Ok(());
        }
        let sent = sent.into_owned();
        if self.by_sent.insert(sent.clone(), client.clone().into_owned()).is_some() {
            let message = format!("the tool name `{client}` is too like another one: give it another name");
            return Err(Refused::invalid("tools", message));
        }
        self.by_client.insert(client.into_owned(), Sent { name: sent, is_custom });
        Ok(())
    }

    /// The name to send for a tool.
    pub(super) fn sent<'n>(&'n self, client: &'n Escaped<'_>) -> Escaped<'n> {
        if self.by_client.is_empty() {
            return client.borrowed();
        }
        self.by_client.get(client.text().as_ref()).map_or_else(|| client.borrowed(), |sent| Escaped::of(&sent.name))
    }

    /// The client's name of the tool that the upstream calls so.
    pub(super) fn client<'n>(&'n self, sent: &'n Escaped<'_>) -> Escaped<'n> {
        if self.by_sent.is_empty() {
            return sent.borrowed();
        }
        self.by_sent.get(sent.text().as_ref()).map_or_else(|| sent.borrowed(), |client| Escaped::of(client))
    }

    /// Whether the client's tool of this name is of the custom kind.
    pub(super) fn is_custom(&self, client: &Escaped<'_>) -> bool {
        !self.by_client.is_empty() && self.by_client.get(client.text().as_ref()).is_some_and(|sent| sent.is_custom)
    }
}

/// The id to send for a call and its result: as it is where `to` takes it. The same id always gives the same.
pub(super) fn sent_id<'i>(id: &'i Escaped<'_>, to: Protocol) -> Escaped<'i> {
    let rule = id_rule(to);
    if rule.takes(id.as_str()) {
        return id.borrowed();
    }
    Escaped::of_owned(fitted(&id.text(), &rule, "call").into_owned())
}

impl Rule {
    fn takes(&self, text: &str) -> bool {
        let begins = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
        (1..=self.max_bytes).contains(&text.len())
            && text.bytes().all(|byte| self.has(byte))
            && (!self.begins_with_letter || text.as_bytes().first().is_some_and(begins))
    }

    fn has(&self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || self.further.contains(&byte)
    }
}

/// The text itself where the rule takes it; else as much of it as fits, and a mark of all of it.
fn fitted<'t>(text: &'t str, rule: &Rule, stem: &str) -> Cow<'t, str> {
    const MARK_BYTES: usize = 17;
    if rule.takes(text) {
        return Cow::Borrowed(text);
    }
    let is_kept = |c: &char| u8::try_from(*c).is_ok_and(|byte| byte.is_ascii() && rule.has(byte));
    let mut fitted: String = text.chars().map(|c| if is_kept(&c) { c } else { '_' }).collect();
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    if fitted.is_empty() || (rule.begins_with_letter && !fitted.as_bytes().first().is_some_and(begins)) {
        fitted.insert_str(0, stem);
    }
    fitted.truncate(rule.max_bytes - MARK_BYTES);
    Cow::Owned(format!("{fitted}_{:016x}", mark(text)))
}

/// FNV-1a: the same on every machine and in every version, which keeps prompts the same.
fn mark(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |mark, byte| (mark ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::Tool;
    use super::*;

    fn names(names: &[&str], to: Protocol) -> Result<ToolNames, Refused> {
        let mut request = ChatRequest::new(Protocol::OpenaiChat);
        let tool = |name: &&str| Tool {
            name: Escaped::of_owned((*name).to_owned()),
            description: None,
            kind: ToolKind::Function { schema: None },
            strict: None,
            cache: None,
        };
        request.tools = names.iter().map(tool).collect();
        ToolNames::of(&request, to)
    }

    #[test]
    fn names_that_fit_stay() {
        for to in Protocol::ALL {
            let known = names(&["get_weather", "mcp__x-y"], *to).unwrap();
            assert_eq!(known.sent(&Escaped::of("get_weather")).as_str(), "get_weather");
            assert!(known.by_client.is_empty());
        }
        assert_eq!(names(&["a.b:c"], Protocol::Gemini).unwrap().sent(&Escaped::of("a.b:c")).as_str(), "a.b:c");
    }

    proptest! {
        #[test]
        fn every_name_is_made_to_fit_and_comes_back(name in "\\PC{0,150}|[a-z.:/]{0,150}") {
            for to in Protocol::ALL {
                let known = names(&[name.as_str(), "plain"], *to).unwrap();
                let client = Escaped::of(&name);
                let sent = known.sent(&client).into_owned();
                prop_assert!(name_rule(*to).takes(sent.as_str()), "{to}: {}", sent.as_str());
                prop_assert!(known.client(&sent).text() == name.as_str());
                prop_assert!(id_rule(*to).takes(sent_id(&client, *to).as_str()));
            }
        }
    }
}
