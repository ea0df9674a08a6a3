//! The data plane: one LLM call from bytes to settlement; upstream transport; durable usage log. hyper, no axum, no
//! database. `call` is the table of contents of a call; each stage stands in the module of its name.

mod admit;
mod attempts;
mod authn;
mod call;
mod capabilities;
mod counters;
mod dispatch;
mod failure;
mod faults;
mod gauges;
mod headers;
mod health;
mod heartbeat;
mod ingress;
mod inspect;
mod lent_body;
mod limits;
mod live;
mod metering;
mod models;
mod observe;
mod pick;
mod plan;
mod pricing;
mod refusal;
mod relay;
mod route;
mod settle;
mod stored;
mod translation;
mod upstream;

pub mod config;
pub mod control_link;
mod count;
pub mod gateway;
pub mod listener;
pub mod routing;
pub mod usage_log;

pub use call::AnswerBody;
pub use config::GatewayConfig;
pub use control_link::{ControlLink, ControlLinkError, HttpControlLink, IngestReport};
pub use gateway::{Gateway, GatewayParts, GatewayStops, GatewayTasks};
pub use ingress::client_ip;
pub use lent_body::LentBody;
pub use relay::BrokenOff;
pub use usage_log::UsageBatch;
