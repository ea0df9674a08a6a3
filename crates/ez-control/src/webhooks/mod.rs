//! The webhook: what it is told of, where it is, and how it gets there. Signed and shaped as in the Standard Webhooks
//! specification 1.0.0 (<https://www.standardwebhooks.com>).

mod config;
mod delivery;
mod event;
mod listing;
mod log_errors;
mod secret;
mod test_event;

pub use config::{ChangeWebhook, ChangedWebhook, CheckedChange, Webhook, check, get, update};
pub use delivery::deliver_due;
pub use listing::{DeliveryPage, list};
pub use log_errors::watch_log;
pub use test_event::{TestEvent, record_test, send_test};

pub(crate) use config::open_secret;
pub(crate) use event::{AlertChange, enqueue_alert};
