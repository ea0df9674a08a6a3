//! Configuration: read in one place, from flags over environment over an optional TOML file over defaults, and
//! validated whole before anything starts.

mod layers;
mod settings;
mod table;
mod value;

pub(crate) use layers::{Layers, Overrides, ResolvedSettings, resolve};
pub(crate) use settings::{Role, Settings};
pub(crate) use table::SETTINGS;
