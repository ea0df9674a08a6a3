//! Takes the files of the documentation page out of the archive that brings them, for `src/routes/docs.rs` to embed.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a build script talks to cargo over its environment and output"
)]

use std::error::Error;
use std::fs::File;
use std::io::{Cursor, copy};
use std::path::PathBuf;

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// Of some dozen files that the archive has, those that the page loads.
const FILES: [&str; 3] = ["swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let target = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    // `swagger-ui-5.32.6/`
    let top = archive.by_index(0)?.name()?.split('/').next().unwrap_or_default().to_owned();
    for name in FILES {
        copy(&mut archive.by_name(&format!("{top}/dist/{name}"))?, &mut File::create(target.join(name))?)?;
    }
    println!("cargo:rustc-env=SWAGGER_UI={top}");
    Ok(())
}
