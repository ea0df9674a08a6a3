//! The ez-api binary: commands, configuration, wiring, life cycle. The only place that names concrete backends.

mod cli;
mod clock;
mod commands;
mod config;
mod direct_link;
mod life_cycle;
mod open_files;
mod readiness;
mod secret_key;
mod serve;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
