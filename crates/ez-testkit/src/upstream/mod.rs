//! The simulated LLM vendor: OpenAI, Anthropic and Gemini on the wire, with scripted speed and faults.
//!
//! Start one with [`SimUpstream::start`], point the gateway at [`SimUpstream::base_url`], and decide with [`Behaviour`] and [`Rule`] what
//! each request gets. Endpoints are recognised by the end of the path, so every usual prefix (`/v1`, `/openai/deployments/x`, `/v1beta/openai`)
//! works. Answers echo the model, usage is a function of the request ([`input_tokens`]) and of the behaviour, ids are unique per upstream.

mod admin;
mod answer;
mod anthropic;
mod attentive;
mod behaviour;
mod body;
mod chat;
mod completions;
mod connection;
mod embeddings;
mod error;
mod gemini;
mod media;
mod models;
mod multipart;
mod request;
mod responses;
mod route;
mod scores;
mod script;
mod serve;
mod server;
mod stored;
mod text;
mod tools;

pub use attentive::{ATTENTIVE_USAGE, Attentive, PlannedCall};
pub use behaviour::{Behaviour, Fault, parse_duration};
pub(crate) use body::since_epoch;
pub use body::{STAMP_END, STAMP_START};
pub use script::{RecordedRequest, Rule};
pub use server::SimUpstream;
pub use text::input_tokens;
