//! `cardea redirect`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct RedirectArguments {
    /// Where to, as ssh knows it: HOST or USER@HOST
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// Only this card (id, an unambiguous beginning of it, instance id or name); can be given more than once
    /// [default: all of yours]
    #[arg(long, value_name = "ID")]
    pub(crate) card: Vec<String>,
    /// Ask before each use of a key
    #[arg(long)]
    pub(crate) consent: bool,
    /// Keep the cards out of the card reader there, which all its users reach
    #[arg(long)]
    pub(crate) no_reader: bool,
    /// The ssh program
    #[arg(long, value_name = "PROGRAM", default_value = "ssh")]
    pub(crate) ssh: PathBuf,
    /// What is run there
    #[arg(long, value_name = "COMMAND", default_value = "cardea redirect-accept")]
    pub(crate) remote_command: String,
    /// Options of ssh, as in `-- -p 2222`
    #[arg(last = true, value_name = "SSH OPTIONS")]
    pub(crate) ssh_options: Vec<String>,
}
