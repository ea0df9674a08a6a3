//! State that only the vendor who made it can read: signatures of thoughts, encrypted reasoning. Clients keep it in their own
//! protocol's field for it and send it back; a mark in front says whose it is, so that it is never sent to another vendor.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ez_contract::Protocol;

use crate::json::Escaped;

/// A vendor's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque<'a> {
    /// Whose it is.
    pub issuer: Protocol,
    /// What kind of it.
    pub kind: OpaqueKind,
    /// As the vendor wrote it.
    pub data: Escaped<'a>,
}

/// What kind of state it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpaqueKind {
    /// A signature of the words that stand beside it, or of the call that it came with.
    Signature,
    /// The thoughts themselves, which the vendor did not show (Anthropic's `redacted_thinking`, OpenAI's
    /// `encrypted_content`).
    Encrypted,
}

/// In front of what another vendor issued.
pub(super) const MARK: &str = "ez1";

impl<'a> Opaque<'a> {
    /// The value for a field of `carrier`'s protocol: the issuer's own where that is the carrier, else marked.
    pub fn carried_by(&self, carrier: Protocol) -> Escaped<'_> {
        if self.issuer == carrier {
            return self.data.borrowed();
        }
        let kind = match self.kind {
            OpaqueKind::Signature => 's',
            OpaqueKind::Encrypted => 'e',
        };
        let marked = format!("{MARK}.{}{kind}.{}", letter(self.issuer), self.data.text());
        if carrier == Protocol::Gemini {
            // Its field holds bytes, in base64.
            return Escaped::of_owned(STANDARD.encode(marked));
        }
        Escaped::of_owned(marked)
    }

    /// The same, kept apart from its document.
    pub fn into_owned(self) -> Opaque<'static> {
        Opaque { data: self.data.into_owned(), ..self }
    }

    /// Reads a field of `carrier`'s protocol; `kind` is what the carrier's own state is there.
    pub fn read(carrier: Protocol, kind: OpaqueKind, value: Escaped<'a>) -> Self {
        let text = value.text();
        let written = match carrier {
            Protocol::Gemini if text.starts_with(MARK_IN_BASE64) => {
                STANDARD.decode(text.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).map(Cow::Owned)
            }
            _ => Some(text),
        };
        let read = written.as_deref().and_then(unmark);
        match read.map(|(issuer, kind, data)| (issuer, kind, data.to_owned())) {
            Some((issuer, kind, data)) => Self { issuer, kind, data: Escaped::of_owned(data) },
            None => Self { issuer: carrier, kind, data: value },
        }
    }
}

/// `ez1.` in base64, as far as whole bytes of it go.
pub(super) const MARK_IN_BASE64: &str = "ZXox";

fn unmark(text: &str) -> Option<(Protocol, OpaqueKind, &str)> {
    let rest = text.strip_prefix(MARK)?.strip_prefix('.')?;
    let (head, data) = rest.split_once('.')?;
    let mut letters = head.chars();
    let issuer = *Protocol::ALL.iter().find(|protocol| Some(letter(**protocol)) == letters.clone().next())?;
    let kind = match letters.nth(1)? {
        's' => OpaqueKind::Signature,
        'e' => OpaqueKind::Encrypted,
        _ => return None,
    };
    letters.next().is_none().then_some((issuer, kind, data))
}

const fn letter(protocol: Protocol) -> char {
    match protocol {
        Protocol::OpenaiChat => 'c',
        Protocol::OpenaiResponses => 'r',
        Protocol::AnthropicMessages => 'a',
        Protocol::Gemini => 'g',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_comes_back_to_its_issuer_through_every_carrier() {
        for issuer in Protocol::ALL {
            for carrier in Protocol::ALL {
                for kind in [OpaqueKind::Signature, OpaqueKind::Encrypted] {
                    let state = Opaque { issuer: *issuer, kind, data: Escaped::of("Eq/+a=\n.ez1") };
                    let carried = state.carried_by(*carrier).into_owned();
                    assert_eq!(Opaque::read(*carrier, kind, carried.clone()), state, "{issuer} in {carrier}");
                    assert_eq!(carried == state.data, issuer == carrier);
                }
            }
        }
    }

    #[test]
    fn what_has_no_mark_is_the_carriers_own() {
        for text in ["", "ez1", "ez1.", "ez1.x.y", "ez1.as", "ez1.asx.y", "ZXoxLg", "EqQBCg=="] {
            for carrier in Protocol::ALL {
                let read = Opaque::read(*carrier, OpaqueKind::Signature, Escaped::of(text));
                assert_eq!((read.issuer, read.data.text().as_ref()), (*carrier, text), "{carrier}");
            }
        }
    }
}
