//! Tells the build its version, commit and time: from git, else from `VERSION`, else from the crate.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a build script talks to cargo over its environment and output"
)]

use std::process::Command;

fn main() {
    // A container build has no git and is told from outside.
    let told = |name: &str| {
        println!("cargo:rerun-if-env-changed={name}");
        std::env::var(name).ok().filter(|text| !text.is_empty())
    };
    // Naming a file that does not exist would make every build stale.
    for path in ["../../VERSION", "../../.git/HEAD", "../../.git/refs", "../../.git/packed-refs"] {
        if std::path::Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
    let from_git = || {
        git(&["describe", "--tags", "--match", "v*", "--abbrev=0"]).map(|tag| tag.trim_start_matches('v').to_owned())
    };
    let from_file = || std::fs::read_to_string("../../VERSION").ok().map(|text| text.trim().to_owned());
    let version = told("EZ_BUILD_VERSION").or_else(from_git).or_else(from_file);
    let version = version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    let commit = told("EZ_BUILD_COMMIT").or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    let time = told("EZ_BUILD_TIME").or_else(|| git(&["show", "-s", "--format=%cI", "HEAD"]));
    println!("cargo:rustc-env=EZ_BUILD_VERSION={version}");
    println!("cargo:rustc-env=EZ_BUILD_COMMIT={}", commit.unwrap_or_else(|| "unknown".to_owned()));
    println!("cargo:rustc-env=EZ_BUILD_TIME={}", time.unwrap_or_else(|| "unknown".to_owned()));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
