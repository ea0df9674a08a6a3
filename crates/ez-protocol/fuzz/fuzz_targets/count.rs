//! Token counts: requests and answers.

#![no_main]

ez_protocol_fuzz::target!(|bytes| ez_protocol_fuzz::count(bytes));
