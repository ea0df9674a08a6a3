//! The sandbox: the real binary as a child process on free ports, over either pair of backends.

mod process;
mod tenant;

pub use process::{Backends, Sandbox, SandboxOptions};
pub use tenant::{Tenant, TenantPlan};
