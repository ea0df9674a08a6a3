//! Closed sets of words that only the control plane and its database know; the planes' shared ones are in ez-contract.

use serde::{Deserialize, Serialize};

/// Defines a closed set with one spelling for database, JSON and messages.
macro_rules! word_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $text)] $word,)+
        }

        impl $name {
            /// Every word of the set.
            pub const ALL: &'static [Self] = &[$(Self::$word),+];

            /// The word as it is stored and sent.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = ez_contract::status::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$word),)+
                    _ => Err(ez_contract::status::UnknownWord {
                        given: text.to_owned(),
                        allowed: [$($text),+].join(", "),
                    }),
                }
            }
        }
    };
}

word_set! {
    /// Kind of a record, as outbox and audit entries name it.
    RecordKind {
        /// A master.
        Master => "master",
        /// A child key.
        Key => "key",
        /// A namespace.
        Namespace => "namespace",
        /// A provider group.
        ProviderGroup => "provider_group",
        /// An API key.
        ApiKey => "api_key",
        /// A model of the catalogue.
        Model => "model",
        /// A binding.
        Binding => "binding",
        /// A feature flag.
        Feature => "feature",
        /// A setting.
        Setting => "setting",
        /// An alert or the alert thresholds.
        Alert => "alert",
        /// The log webhook.
        Webhook => "webhook",
        /// Log records.
        Log => "log",
        /// A sign-in.
        Session => "session",
        /// A job run by hand.
        Job => "job",
    }
}

word_set! {
    /// Who did what an audit entry tells of.
    ActorKind {
        /// An administrator.
        Admin => "admin",
        /// A master, on its own records.
        Master => "master",
        /// ez-api itself: a job, or what gateways reported.
        System => "system",
    }
}

word_set! {
    /// Who issued a child key.
    IssuedBy {
        /// Its master.
        Master => "master",
        /// An administrator on the master's behalf.
        Admin => "admin",
    }
}

word_set! {
    /// How often a child key's quota starts anew.
    QuotaReset {
        /// Never.
        None => "none",
        /// Every day.
        Daily => "daily",
        /// Every week.
        Weekly => "weekly",
        /// Every month.
        Monthly => "monthly",
    }
}

word_set! {
    /// What a flush counts.
    FlushKind {
        /// Attempts made with API keys.
        ApiKeys => "api_keys",
        /// Use of child keys.
        Keys => "keys",
    }
}

word_set! {
    /// Where an alert stands. The first two are open, the others final.
    AlertStatus {
        /// Nobody has looked at it.
        Active => "active",
        /// Somebody has.
        Acknowledged => "acknowledged",
        /// Its cause is gone.
        Resolved => "resolved",
        /// It was none.
        Dismissed => "dismissed",
    }
}

word_set! {
    /// State of a webhook's delivery.
    DeliveryStatus {
        /// It is to be sent, again or for the first time.
        Pending => "pending",
        /// The receiver took it.
        Delivered => "delivered",
        /// It is not tried any more.
        Failed => "failed",
    }
}
