//! The routes, one file per resource: what goes in and out, the handlers, and their documentation.

pub(crate) mod public;
