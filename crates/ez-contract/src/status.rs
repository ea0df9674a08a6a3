//! The states a record can be in, one closed set per kind of record.

use serde::{Deserialize, Serialize};

/// Defines a closed set of words with their wire spelling, so that database, JSON and messages cannot disagree.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::status::UnknownWord;

            fn from_str(text: &str) -> Result<Self, $crate::status::UnknownWord> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| $crate::status::UnknownWord {
                    given: text.to_owned(),
                    allowed: Self::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}
pub(crate) use words;

/// A word outside its closed set; the message lists what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not one of: {allowed}")]
pub struct UnknownWord {
    /// What was given.
    pub given: String,
    /// The allowed words, separated by commas.
    pub allowed: String,
}

words! {
    /// State of a record that is on or off: master, namespace, provider group, binding.
    RecordStatus {
        /// In use.
        Active = "active",
        /// Kept, but refused or skipped.
        Suspended = "suspended",
    }
}

words! {
    /// State of a child key.
    KeyStatus {
        /// Accepted.
        Active = "active",
        /// Refused until someone activates it.
        Suspended = "suspended",
        /// Its `expires_at` has passed.
        Expired = "expired",
        /// Its token quota is used up.
        Exhausted = "exhausted",
    }
}

words! {
    /// State of an API key (an upstream credential).
    ApiKeyStatus {
        /// Used for calls.
        Active = "active",
        /// Switched off by an operator for a while.
        Suspended = "suspended",
        /// Switched off by ez-api, with a reason.
        AutoDisabled = "auto_disabled",
        /// Switched off by an operator for good.
        ManualDisabled = "manual_disabled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_name_what_is_allowed() {
        for status in ApiKeyStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
        }
        let refused = "on".parse::<RecordStatus>().unwrap_err();
        assert_eq!(refused.to_string(), "`on` is not one of: active, suspended");
    }
}
