//! `tpmvscmgr`: Microsoft's tool for TPM virtual smart cards, by its own grammar, for scripts and people who know it.

mod grammar;
mod there;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, FailureKind, NewContent, Reply, Request, SecretBytes,
    TpmRequest,
};
use cardea_terms::tpmvsc::{DEFAULT_ADMIN_KEY, DEFAULT_PIN, Hresult};
use cardea_terms::{CounterMode, invalid_card_name};

use self::grammar::{AdminKey, Attestation, Command, Create, Destroy, Given, Verb};
use crate::exit::{self, Exit};
use crate::machine::is_instance_id;
use crate::object_mode::lines_of_limits;
use crate::policy::Policy;
use crate::terminal::output::{note, note_lines, print};
use crate::terminal::progress::words;
use crate::terminal::secret::{self, Source};

/// How often a secret is asked for.
const ENTRIES: u32 = 3;

/// Creation takes a minute and a half on slow TPMs, and may wait for another one.
const ANSWER_TIME: Duration = Duration::from_secs(600);

/// How it ended; Microsoft's tool documents no exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotAuthorised = 3,
    Aborted = 4,
    Unreachable = 5,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(end as u8)
    }
}

/// Why a command failed.
struct Failure {
    end: End,
    text: String,
    /// The error number of Windows' tool.
    hresult: Option<Hresult>,
}

impl Failure {
    fn new(end: End, text: impl Into<String>, hresult: Hresult) -> Self {
        Self {
            end,
            text: text.into(),
            hresult: Some(hresult),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            end: End::Failed,
            text: format!("the output cannot be written: {error}"),
            hresult: None,
        }
    }
}

/// Runs a command line.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> End {
    let result = match grammar::parse(arguments) {
        Ok(Command::Create(create)) => make(&create),
        Ok(Command::Destroy(destroy)) => unmake(&destroy),
        Ok(Command::Help(verb)) => print(help(verb)).map_err(Failure::from),
        Err(text) => {
            let text = format!("{text}; tpmvscmgr /? shows the usage");
            Err(Failure::new(End::Usage, text, Hresult::INVALID_ARGUMENT))
        }
    };
    match result {
        Ok(()) => End::Done,
        Err(failure) => {
            note(&format!("tpmvscmgr: {}", failure.text));
            if let Some(hresult) = failure.hresult {
                note(&format!("({hresult}) {}", hresult.meaning()));
            }
            failure.end
        }
    }
}

fn make(create: &Create) -> Result<(), Failure> {
    if let Some(place) = there::place(&create.machine) {
        return there::make(create, &place);
    }
    if create.attestation == Some(Attestation::KeyAndCertificate) {
        return Err(Failure::new(
            End::Failed,
            "/attestation AIK_AND_CERT needs an attestation authority on the network, and none is configured: create the \
             card with /attestation AIK_ONLY, and request the certificate with `cardea attest request`",
            Hresult::NO_AUTHORITY,
        ));
    }
    if create.counter_mode == Some(CounterMode::Object) {
        note_lines(lines_of_limits());
    }
    let types = create.admin_key == AdminKey::Prompt
        || create.pin == Given::Prompt
        || create.puk == Some(Given::Prompt);
    if types {
        expect_room(create)?;
    }
    let Secrets {
        admin_key,
        policy,
        pin,
        puk,
    } = secrets(create)?;
    let order = CreateCard {
        pin_policy: Some(policy.to_bytes()),
        counter_mode: create.counter_mode,
        ..CreateCard::new(
            create.name.clone(),
            NewContent::Personalised {
                pin,
                puk,
                admin_key,
                blank: !create.generate,
            },
        )
    };
    let order = Box::new(order);
    let order = match create.attestation {
        Some(_) => CardsRequest::CreateAttested(order),
        None => CardsRequest::Create(order),
    };
    let reply = ask(&Request::Cards(order), create.quiet)?;
    let Reply::Card(card) = reply else {
        return Err(unexpected());
    };
    print(&format!(
        "TPM Smart Card created.\nSmart Card Reader Device Instance ID = {}\n",
        card.summary.instance_id
    ))?;
    if card.counter_mode == Some(CounterMode::Object) {
        print("Counter Mode = OBJECT\n")?;
    }
    if card.attestation.is_some() {
        print(&format!(
            "Attestation Key Container Name = cardea-ak-{}\n",
            card.summary.card_id
        ))?;
    }
    Ok(())
}

/// What a card begins with.
struct Secrets {
    /// `None`: known to nobody.
    admin_key: Option<SecretBytes>,
    policy: Policy,
    pin: SecretBytes,
    puk: Option<SecretBytes>,
}

/// In the order of Microsoft's tool: administrator key, PIN, PUK.
fn secrets(create: &Create) -> Result<Secrets, Failure> {
    let admin_key = match create.admin_key {
        AdminKey::Default => Some(SecretBytes::new(DEFAULT_ADMIN_KEY.to_vec())),
        AdminKey::Prompt => {
            let key = asked(|| secret::admin_key("administrator key", &ASKED))?;
            Some(SecretBytes::new(key.to_vec()))
        }
        AdminKey::Random => None,
    };
    let policy = create.policy.unwrap_or_else(grammar::usual_policy);
    let pin = given("PIN", create.pin, &policy)?;
    let puk = create
        .puk
        .map(|puk| given("PUK", puk, &Policy::puk()))
        .transpose()?;
    Ok(Secrets {
        admin_key,
        policy,
        pin,
        puk,
    })
}

/// What would refuse the card is found before anybody types a secret for it.
fn expect_room(create: &Create) -> Result<(), Failure> {
    if let Some(reason) = invalid_card_name(&create.name) {
        let (end, hresult) = kinds(FailureKind::Invalid);
        return Err(Failure::new(end, reason, hresult));
    }
    ask(&Request::Cards(CardsRequest::Defaults), create.quiet)?;
    if create.counter_mode != Some(CounterMode::Object) {
        ask(&Request::Tpm(TpmRequest::TryRoom), create.quiet)?;
    }
    Ok(())
}

fn unmake(destroy: &Destroy) -> Result<(), Failure> {
    // Only the instance id: a name may mean another card tomorrow.
    if !is_instance_id(&destroy.instance) {
        return Err(Failure::new(
            End::Failed,
            "/instance takes the id that create printed, for example ROOT\\SMARTCARDREADER\\0000",
            Hresult::NOT_FOUND,
        ));
    }
    if let Some(place) = there::place(&destroy.machine) {
        return there::unmake(destroy, &place);
    }
    let request = Request::card(
        destroy.instance.clone(),
        CardRequest::Destroy { owner_auth: None },
    );
    match ask(&request, destroy.quiet)? {
        Reply::Done => {}
        _ => return Err(unexpected()),
    }
    print("TPM Smart Card destroyed.\n")?;
    Ok(())
}

/// Secrets are asked for at the terminal.
const ASKED: Source<'static> = Source {
    file: None,
    fd: None,
    options: "a terminal",
};

fn given(what: &str, given: Given, policy: &Policy) -> Result<SecretBytes, Failure> {
    match given {
        Given::Default => Ok(SecretBytes::new(DEFAULT_PIN.to_vec())),
        Given::Prompt => asked(|| secret::new(what, &ASKED, policy)),
    }
}

/// Asks again after an invalid entry, until the person cancels.
fn asked<T>(mut ask: impl FnMut() -> Result<T, exit::Failure>) -> Result<T, Failure> {
    let mut tries = ENTRIES;
    loop {
        tries -= 1;
        match ask() {
            Ok(value) => return Ok(value),
            Err(failure)
                if failure.exit == Exit::Usage && tries > 0 && io::stdin().is_terminal() =>
            {
                note(&failure.to_string());
            }
            Err(failure) => {
                return Err(Failure {
                    end: End::Aborted,
                    text: failure.to_string(),
                    hresult: None,
                });
            }
        }
    }
}

/// Sends one request; each step is printed on a line, unless `quiet`.
fn ask(request: &Request, quiet: bool) -> Result<Reply, Failure> {
    let socket = std::env::var_os("CARDEA_SOCKET")
        .map_or_else(|| cardea_client::DEFAULT_SOCKET.into(), PathBuf::from);
    let mut client = Client::new(&socket);
    let mut step = |step| {
        if !quiet {
            // A closed pipe does not stop the operation.
            let _ = print(&format!("{}...\n", words(step)));
        }
    };
    match client.call_with_progress(request, ANSWER_TIME, &mut step) {
        Ok(Reply::Failed(failure)) => {
            let (end, hresult) = kinds(failure.kind);
            Err(Failure::new(end, failure.message, hresult))
        }
        Ok(reply) => Ok(reply),
        Err(error) => Err(Failure::new(
            End::Unreachable,
            format!("{error}; is cardea-daemon running?"),
            Hresult::UNREACHABLE,
        )),
    }
}

fn unexpected() -> Failure {
    Failure::new(
        End::Failed,
        "unexpected reply from the daemon",
        Hresult::FAIL,
    )
}

/// The end of each kind of failure, and its number.
fn kinds(kind: FailureKind) -> (End, Hresult) {
    let end = match kind {
        FailureKind::Denied => End::NotAuthorised,
        FailureKind::Cancelled => End::Aborted,
        _ => End::Failed,
    };
    (end, kind.hresult())
}

fn help(verb: Option<Verb>) -> &'static str {
    match verb {
        None => GENERAL,
        Some(Verb::Create) => CREATE,
        Some(Verb::Destroy) => DESTROY,
    }
}

const GENERAL: &str = "\
Creates and destroys TPM virtual smart cards.

tpmvscmgr create  /name NAME /adminkey { DEFAULT | PROMPT | RANDOM } ...
tpmvscmgr destroy /instance ID ...

tpmvscmgr create /? and tpmvscmgr destroy /? show all options. Keywords are not case-sensitive.
";

const CREATE: &str = "\
tpmvscmgr create [/quiet] /name NAME
                 /adminkey { DEFAULT | PROMPT | RANDOM }
                 [/pin { DEFAULT | PROMPT }] [/puk { DEFAULT | PROMPT }]
                 [/generate] [/machine HOST [/user NAME] [/passwordfd N]]
                 [/pinpolicy POLICY...] [/attestation { AIK_AND_CERT | AIK_ONLY }]
                 [/countermode { NV | OBJECT }]

  /name         Name of the card, shown to people.
  /adminkey     DEFAULT: 010203040506070801020304050607080102030405060708, publicly known.
                PROMPT: 48 hexadecimal digits, asked for.
                RANDOM: known to nobody. The PIN of such a card can only be reset with a PUK.
  /pin          DEFAULT: 12345678. PROMPT: asked for, as without /pin.
  /puk          DEFAULT: 12345678. PROMPT: asked for. Without /puk there is none.
  /generate     Writes the file system. Without it the card is for a management system.
  /pinpolicy    With /pin PROMPT: minlen N, maxlen N (4 to 127); uppercase, lowercase, digits, specialchars
                with ALLOWED, DISALLOWED or REQUIRED. Without it 8 to 127 printable characters.
  /countermode  Not an option of Microsoft's tool. NV: wrong PINs are counted in counters of the card in the TPM,
                as without /countermode. OBJECT: in the card's file and the TPM's lockout, as Microsoft's cards
                are; for TPMs without such counters. Such a card promises less, which is printed first.
  /attestation  AIK_ONLY: the card can prove what it promises; see the manual page of cardea-attest.
                AIK_AND_CERT: not available yet, as it needs an attestation authority on the network.
  /machine      Another machine, by name or address, over MS-TPMVSC: with the tickets of Kerberos that you have
                (kinit), else with your name and a password that is asked for.
  /user         Not an option of Microsoft's tool. The account there: USER, DOMAIN\\USER or USER@REALM.
  /passwordfd   Not an option of Microsoft's tool. Open file descriptor to read its password from.
  /quiet        No progress.
";

const DESTROY: &str = "\
tpmvscmgr destroy [/quiet] /instance ID
                  [/machine HOST [/user NAME] [/passwordfd N]]

  /instance     The id that create printed: ROOT\\SMARTCARDREADER\\0000. Does not ask for confirmation.
  /machine      Another machine, by name or address, over MS-TPMVSC: with the tickets of Kerberos that you have
                (kinit), else with your name and a password that is asked for.
  /user         Not an option of Microsoft's tool. The account there: USER, DOMAIN\\USER or USER@REALM.
  /passwordfd   Not an option of Microsoft's tool. Open file descriptor to read its password from.
  /quiet        No progress.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hresult_has_a_meaning() {
        for kind in [
            FailureKind::Denied,
            FailureKind::NoTpm,
            FailureKind::Lockout,
            FailureKind::Full,
            FailureKind::Invalid,
            FailureKind::Rule,
            FailureKind::NotFound,
            FailureKind::Busy,
            FailureKind::Lost,
            FailureKind::PinWrong,
            FailureKind::Blocked,
            FailureKind::Cancelled,
            FailureKind::SwitchedOff,
            FailureKind::NotSupported,
        ] {
            let (_, hresult) = kinds(kind);
            assert_ne!(hresult.meaning(), "Unspecified error.", "{kind:?}");
        }
        assert_eq!(kinds(FailureKind::Denied).0, End::NotAuthorised);
    }
}
