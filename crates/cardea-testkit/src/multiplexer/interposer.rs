//! Someone on the way between the clients and the TPM, who can change whatever passes.

use super::Dispatcher;

/// Whoever stands between the clients and the TPM. Gets every command, and decides what reaches the TPM and what
/// the client receives.
///
/// A closure over the same arguments is one too.
pub trait Interposer: Send {
    /// A client's command. Returns what the client receives; `None` drops its connection.
    ///
    /// The command reaches the TPM only through `tpm`, as often, as late and as changed as the interposer likes.
    fn exchange(&mut self, client: u64, command: &[u8], tpm: &mut Passage<'_>) -> Option<Vec<u8>>;
}

impl<F> Interposer for F
where
    F: FnMut(u64, &[u8], &mut Passage<'_>) -> Option<Vec<u8>> + Send,
{
    fn exchange(&mut self, client: u64, command: &[u8], tpm: &mut Passage<'_>) -> Option<Vec<u8>> {
        self(client, command, tpm)
    }
}

/// The way to the TPM while a client waits for its answer.
pub struct Passage<'a> {
    dispatcher: &'a mut Dispatcher,
    /// The client's command.
    command: &'a [u8],
    passed: bool,
}

impl<'a> Passage<'a> {
    pub(super) fn new(dispatcher: &'a mut Dispatcher, command: &'a [u8]) -> Self {
        Self {
            dispatcher,
            command,
            passed: false,
        }
    }

    /// Sends a command to the TPM, the client's or another, and returns the response; `None` when the TPM is away.
    pub fn transact(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let response = self.dispatcher.transact(command)?;
        self.passed |= command == self.command;
        Some(response)
    }

    /// Whether the TPM has executed the client's command as it came.
    pub(super) fn passed(&self) -> bool {
        self.passed
    }
}
