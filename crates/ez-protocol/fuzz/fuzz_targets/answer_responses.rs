//! Whole answers of OpenAI Responses.

#![no_main]

ez_protocol_fuzz::target!(|bytes| ez_protocol_fuzz::answer(ez_protocol_fuzz::Protocol::OpenaiResponses, bytes));
