//! The project's own automation.
//!
//! What: the checks that continuous integration runs, the direction of dependencies, fuzzing, installation.
//! What not: nothing here is part of a product.
//! Begin with `cargo xtask help`.

#![forbid(unsafe_code)]

mod bench;
mod book;
mod ci;
mod debian13;
mod deps;
mod dist;
mod fuzz;
mod install;
mod live;
mod shell;
mod sizes;
mod soak;
mod tokens;
mod tools;
mod tpms;
mod uses;
mod weakened;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own automation.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure cards against the bare TPM
    Bench(bench::Arguments),
    /// Check the links between the pages, and make a book of them
    Book,
    /// Everything that continuous integration checks
    Ci(ci::Arguments),
    /// Run the end-to-end tests with the programs of Debian 13, and compare the table or write it
    Debian13(debian13::Arguments),
    /// Check the direction of dependencies between the crates and inside them
    Deps(deps::Arguments),
    /// Make packages for Debian and RPM systems, the source archive and the list of components
    Dist(dist::Arguments),
    /// Fuzz one target or all, at the same time
    Fuzz(fuzz::Arguments),
    /// Build for release and install
    Install(install::InstallArguments),
    /// Install, use, upgrade and remove the packages on running Debian systems, and compare the table or write it
    Live(live::Arguments),
    /// Check the sizes of functions and files, and the names of modules
    Sizes,
    /// Eight clients against one daemon for a long time
    Soak(soak::Arguments),
    /// Run tests over each TPM that people have, and compare the table or write it
    Tpms(tpms::Arguments),
    /// Remove what `install` has put in place
    Uninstall(install::UninstallArguments),
    /// Compare the table of uses with what the tests have shown, or write it
    Uses(uses::Arguments),
    /// Look for expressions that STYLE.md rules out
    Words,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Book => book::run(),
        Task::Ci(arguments) => ci::run(&arguments),
        Task::Debian13(arguments) => debian13::run(&arguments),
        Task::Deps(arguments) => deps::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Install(arguments) => install::install(&arguments),
        Task::Live(arguments) => live::run(&arguments),
        Task::Sizes => shell::Workspace::locate().and_then(|workspace| sizes::run(&workspace)),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Tpms(arguments) => tpms::run(&arguments),
        Task::Uninstall(arguments) => install::uninstall(&arguments),
        Task::Uses(arguments) => uses::run(&arguments),
        Task::Words => words::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
