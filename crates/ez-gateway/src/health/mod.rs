//! Health of upstream credentials: which of them may take a call now, and what calls teach about them. Reads on the way
//! of a call cost an atomic load where nothing is remarkable; locks are short and never held across an await.

mod book;
mod breaker;
mod key;
mod outbox;
mod permit;
mod reporter;
mod sharer;
mod slots;

pub(crate) use book::HealthBook;
pub(crate) use key::{KeyHealth, Readiness};
pub(crate) use permit::Permit;
pub(crate) use reporter::report_bans;
pub(crate) use sharer::{Sharer, share};
