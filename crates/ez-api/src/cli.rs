//! The command line.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ez_control::transfer::{ConflictPolicy, ImportOptions};
use ez_telemetry::logging::{self, LogFormat};

use crate::commands::{self, Health, Imported};
use crate::config::{Layers, Overrides, ResolvedSettings, Role, Settings, resolve};
use crate::serve;

const LONG_VERSION: &str =
    concat!(env!("EZ_BUILD_VERSION"), " (", env!("EZ_BUILD_COMMIT"), ", ", env!("EZ_BUILD_TIME"), ")");

/// Exit code of a wrong command line or configuration.
const USAGE: u8 = 2;

/// LLM API gateway: master and child keys, routing, and accounts of every token.
#[derive(Debug, Parser)]
#[command(name = "ez-api", version = LONG_VERSION, disable_version_flag = true)]
struct Cli {
    /// Print version, commit and build time.
    #[arg(short = 'v', long = "version", action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve (the default command); migrates the database first.
    Serve(ServeArgs),
    /// Migrate the database and end.
    Migrate(ConfigArgs),
    /// Import records from a document of another system or from an export.
    Import(ImportArgs),
    /// Export every record of configuration as a document that `import` reads.
    Export(ExportArgs),
    /// Check the installation and say what to do: exit code 0 or 1.
    Doctor(DoctorArgs),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the reference of all settings, as Markdown.
    ConfigReference,
    /// Ask a running process whether it is up: exit code 0 or 1. For container health checks.
    Health(ConfigArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Which planes to run.
    #[arg(long, value_enum, default_value = "all")]
    role: Role,
    /// Print the configuration, secrets masked, with where each value came from, and end.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// The document; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do everything, tell what would be done, and undo it.
    #[arg(long)]
    dry_run: bool,
    /// What becomes of records that are there already.
    #[arg(long, value_enum, default_value = "skip")]
    conflict: Conflict,
    /// Import the document's bindings too.
    #[arg(long)]
    include_bindings: bool,
    /// Tell the summary as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// What becomes of records that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Conflict {
    /// They stay as they are.
    Skip,
    /// They take the document's values.
    Overwrite,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Where to; `-` writes to standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Export upstream secrets too, in clear.
    #[arg(long)]
    with_secrets: bool,
    /// Tell the summary as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Which planes the installation to check runs in this process.
    #[arg(long, value_enum, default_value = "all")]
    role: Role,
    /// Tell what was found as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Default, Args)]
struct ConfigArgs {
    /// TOML file with settings: names without `EZ_`, in lower case.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides EZ_DATA_DIR.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Overrides EZ_GATEWAY_LISTEN.
    #[arg(long, value_name = "ADDRESS")]
    gateway_listen: Option<String>,
    /// Overrides EZ_CONTROL_LISTEN.
    #[arg(long, value_name = "ADDRESS")]
    control_listen: Option<String>,
    /// Overrides EZ_LOG_LEVEL.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Reads the command line, runs the command, and tells how it went.
pub(crate) fn run() -> ExitCode {
    let command = Cli::parse().command.unwrap_or_else(|| {
        Command::Serve(ServeArgs { role: Role::All, print_config: false, config: ConfigArgs::default() })
    });
    let done = match command {
        Command::Serve(args) => serve(args),
        Command::Migrate(args) => load(args, Role::All).and_then(|settings| Ok(commands::migrate(&settings)?)),
        Command::Import(args) => import(args),
        Command::Export(args) => export(args),
        Command::Doctor(args) => doctor(args),
        Command::Openapi => commands::print(&ez_control_api::openapi_json()).map_err(Failure::from),
        Command::ConfigReference => commands::print(&commands::config_reference()).map_err(Failure::from),
        Command::Health(args) => load(args, Role::All).and_then(|settings| Ok(commands::health(&settings)?)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(faults)) => {
            tell(&faults.iter().map(|fault| format!("error: {fault}")).collect::<Vec<_>>().join("\n"));
            ExitCode::from(USAGE)
        }
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Run(e)) => {
            tell(&format!("error: {e:#}"));
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    /// The configuration is wrong: every fault of it.
    Usage(Vec<String>),
    Run(anyhow::Error),
    /// The command itself told what is wrong.
    Told,
}

impl From<anyhow::Error> for Failure {
    fn from(e: anyhow::Error) -> Self {
        Self::Run(e)
    }
}

fn serve(args: ServeArgs) -> Result<(), Failure> {
    let resolved = resolve_all(args.config)?;
    if args.print_config {
        return Ok(commands::print(&commands::show_config(&resolved))?);
    }
    let settings = check(resolved, args.role)?;
    Ok(serve::run(settings, args.role)?)
}

fn import(args: ImportArgs) -> Result<(), Failure> {
    let settings = load(args.config, Role::All)?;
    let conflict = match args.conflict {
        Conflict::Skip => ConflictPolicy::Skip,
        Conflict::Overwrite => ConflictPolicy::Overwrite,
    };
    let options = ImportOptions { dry_run: args.dry_run, conflict, include_bindings: args.include_bindings };
    match commands::import(settings, &args.file, options, args.json)? {
        Imported::Done => Ok(()),
        Imported::Refused => Err(Failure::Told),
    }
}

fn export(args: ExportArgs) -> Result<(), Failure> {
    let settings = load(args.config, Role::All)?;
    Ok(commands::export(settings, &args.file, args.with_secrets, args.json)?)
}

fn doctor(args: DoctorArgs) -> Result<(), Failure> {
    match commands::doctor(resolve_all(args.config)?, args.role, args.json)? {
        Health::Well => Ok(()),
        Health::Ill => Err(Failure::Told),
    }
}

fn load(args: ConfigArgs, role: Role) -> Result<Settings, Failure> {
    check(resolve_all(args)?, role)
}

/// Checks the settings and sets up logging with them, so that warnings about them can be told.
fn check(resolved: ResolvedSettings, role: Role) -> Result<Settings, Failure> {
    let warnings = resolved.warnings.clone();
    let settings = Settings::from_resolved(resolved, role).map_err(Failure::Usage)?;
    let default_format = if std::io::stderr().is_terminal() { LogFormat::Console } else { LogFormat::Json };
    logging::init(&settings.log_level, settings.log_format.unwrap_or(default_format)).map_err(anyhow::Error::from)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(settings)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place where the configuration is read")]
fn resolve_all(args: ConfigArgs) -> Result<ResolvedSettings, Failure> {
    let config_file = match &args.config {
        None => None,
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|e| Failure::Usage(vec![format!("--config: `{}` cannot be read: {e}", path.display())]))?,
        ),
    };
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    // For tests of this binary alone; other builds have no such places and say so.
    if let Some(point) = environment.get("EZ_TEST_FAIL_POINT").filter(|point| !point.is_empty()) {
        ez_state::fail_point::arm(point).map_err(|e| Failure::Usage(vec![format!("EZ_TEST_FAIL_POINT: {e}")]))?;
    }
    let flags: Overrides = [
        ("EZ_DATA_DIR", args.data_dir),
        ("EZ_GATEWAY_LISTEN", args.gateway_listen),
        ("EZ_CONTROL_LISTEN", args.control_listen),
        ("EZ_LOG_LEVEL", args.log_level),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    Ok(resolve(Layers { config_file, environment, flags }))
}

#[expect(clippy::print_stderr, reason = "logging may not be set up when the command line or configuration is wrong")]
fn tell(text: &str) {
    eprintln!("{text}");
}
