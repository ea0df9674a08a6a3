//! Requests that pass as they came but for other vendors' state.

#![no_main]

ez_protocol_fuzz::target!(|bytes| ez_protocol_fuzz::foreign_state(bytes));
