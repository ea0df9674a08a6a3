//! Live figures: what each master has had of this gateway in the last minute and has in flight, counted as calls pass and
//! told to the shared state twice a second.
//!
//! Time goes in slots of half a second. What is told looks back from the beginning of the present slot over whole ones, so
//! that a window is as long as it says, and what is told right then is never older than a slot when the next comes.

mod book;
mod ring;
mod teller;

pub(crate) use book::{LiveBook, LiveCall};
pub(crate) use teller::{Teller, tell};
