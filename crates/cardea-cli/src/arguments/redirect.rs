//! `cardea redirect`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct RedirectArguments {
    /// Destination, as for ssh: HOST or USER@HOST
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// Only this card (id or an unambiguous prefix of it, instance id, or name); can be repeated
    /// [default: all your cards]
    #[arg(long, value_name = "ID")]
    pub(crate) card: Vec<String>,
    /// Ask before each use of a key
    #[arg(long)]
    pub(crate) consent: bool,
    /// Do not show the cards in the card reader there, which all its users can access
    #[arg(long)]
    pub(crate) no_reader: bool,
    /// The ssh program
    #[arg(long, value_name = "PROGRAM", default_value = "ssh")]
    pub(crate) ssh: PathBuf,
    /// Command to run there
    #[arg(long, value_name = "COMMAND", default_value = "cardea redirect-accept")]
    pub(crate) remote_command: String,
    /// Options for ssh, for example `-- -p 2222`
    #[arg(last = true, value_name = "SSH OPTIONS")]
    pub(crate) ssh_options: Vec<String>,
}
