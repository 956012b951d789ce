//! A second application beside GIDS, in a few lines and without a change anywhere else: it answers SELECT, verifies
//! the PIN, tells how many keys there are, and signs with the first of them, by instruction `87` as PIV does.

use cardea_card::record::CardRecord;
use cardea_card::token::PrivateOperation;
use cardea_card::{
    Application, Applications, Card, CardError, Command, Connection, Failure, Guest, Reply,
    SelectedApplication, Verdict,
};
use cardea_iso7816::Chaining;
use cardea_testkit::software::SeededRng;

use crate::{CHOOSE, QUERY, SIGN, VERIFY, send, with_key};

const AID: &[u8] = &[0xF0, 0x54, 0x52, 0x49, 0x41, 0x4C, 0x01];

#[derive(Debug)]
struct Trial;

impl Application for Trial {
    fn aid(&self) -> &'static [u8] {
        AID
    }

    fn answer_to_reset(&self) -> &'static [u8] {
        &[0x3B, 0x80, 0x01, 0x81]
    }

    fn check(&self, _record: &CardRecord) -> Result<(), CardError> {
        Ok(())
    }

    fn may_chain(&self, instruction: u8) -> Result<(), Failure> {
        match instruction {
            0x87 => Ok(()),
            _ => Err(Failure::Chaining),
        }
    }

    fn judge_guest(&self, command: &Command<'_>, _chaining: Chaining) -> Verdict {
        match command.ins {
            0x87 => Verdict::UsesKey,
            0xA4 | 0xCA => Verdict::Passes,
            _ => Failure::SecurityStatus.into(),
        }
    }

    fn select(&self) -> Box<dyn SelectedApplication> {
        Box::new(Signatures(0))
    }
}

/// How many were made since the application was selected.
#[derive(Debug)]
struct Signatures(u8);

impl SelectedApplication for Signatures {
    fn execute(
        &mut self,
        card: &mut Card,
        connection: &mut Connection,
        command: &Command<'_>,
    ) -> Result<Reply, Failure> {
        match (command.ins, command.p1, command.p2) {
            (0xA4, 4, 0) if AID.starts_with(command.data) => Ok(Reply::data(AID.to_vec())),
            (0xA4, ..) => Err(Failure::FileNotFound),
            (0xCA, ..) => Ok(Reply::data(vec![self.0])),
            (0x87, ..) => {
                let (key, _) = card.keys()?.into_iter().next().ok_or(Failure::NotFound)?;
                let digest = command.data;
                let operation = PrivateOperation::SignEcdsa { digest };
                let signature = card.use_key(connection, key, operation)?;
                self.0 += 1;
                Ok(Reply::Data(signature))
            }
            _ => Err(Failure::Instruction),
        }
    }
}

const SELECT_TRIAL: &str = "00 A4 04 00 07 F0 54 52 49 41 4C 01";
const SELECT_GIDS: &str = "00 A4 04 00 0B A0 00 00 03 97 42 54 46 59 02 01 00";
const COUNT: &str = "00 CA 00 00 01";
const TRIAL_SIGN: &str = "00 87 00 00 04 01 02 03 04 00";

fn applications() -> Applications {
    Applications::standard().and(&Trial)
}

/// A card with both applications and a key, and a connection that has verified the PIN in GIDS.
fn card() -> (Card, Connection) {
    let (card, _, parts) = with_key();
    let mut card = Card::open_with(
        applications(),
        card.record().clone(),
        Box::new(parts.token.clone()),
        Box::new(parts.store.clone()),
        Box::new(parts.clock.clone()),
        Box::new(SeededRng::new(11)),
    )
    .unwrap();
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    (card, connection)
}

#[test]
fn select_by_name_chooses_the_application() {
    let (mut card, mut connection) = card();
    assert_eq!(card.atr(), cardea_card::gids::ATR);
    assert_eq!(send(&mut card, &mut connection, COUNT), "6D00");
    let answer = "F0545249414C019000";
    assert_eq!(send(&mut card, &mut connection, SELECT_TRIAL), answer);
    assert_eq!(send(&mut card, &mut connection, COUNT), "009000");
    assert_eq!(send(&mut card, &mut connection, QUERY), "6D00");
    assert!(send(&mut card, &mut connection, SELECT_GIDS).starts_with("61"));
    assert_eq!(send(&mut card, &mut connection, COUNT), "6D00");
}

#[test]
fn what_was_verified_ends_with_the_application_that_is_left() {
    let (mut card, mut connection) = card();
    let mut other = card.connect();
    assert_eq!(send(&mut card, &mut other, VERIFY), "9000");
    assert_eq!(send(&mut card, &mut connection, CHOOSE), "9000");
    send(&mut card, &mut connection, SELECT_TRIAL);
    assert_eq!(send(&mut card, &mut connection, TRIAL_SIGN), "6982");
    send(&mut card, &mut connection, SELECT_GIDS);
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
    // Neither is the key chosen any more.
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    assert_eq!(send(&mut card, &mut connection, SIGN), "6985");
    assert_eq!(
        send(&mut card, &mut other, QUERY),
        "9000",
        "another connection"
    );
}

#[test]
fn selecting_again_or_in_vain_changes_nothing() {
    let (mut card, mut connection) = card();
    assert_eq!(send(&mut card, &mut connection, CHOOSE), "9000");
    for (vain, status) in [
        // A name that nobody has, and ours in a form that it does not take.
        ("00 A4 04 00 06 F0 54 52 49 41 4D", "6A82"),
        ("00 A4 04 02 07 F0 54 52 49 41 4C 01", "6A82"),
        ("10 A4 04 00 07 F0 54 52 49 41 4C 01", "6884"),
        ("00 A4 04 00 04 F0 54 52 49", "6A82"),
    ] {
        assert_eq!(send(&mut card, &mut connection, vain), status, "{vain}");
    }
    assert!(send(&mut card, &mut connection, SELECT_GIDS).ends_with("9000"));
    assert!(send(&mut card, &mut connection, SIGN).ends_with("9000"));
}

#[test]
fn application_signs_and_a_reset_begins_it_anew() {
    let (mut card, mut connection) = card();
    send(&mut card, &mut connection, SELECT_TRIAL);
    let pin = cardea_card::secret::Pin::new(b"123456").unwrap();
    let reference = cardea_card::token::PinReference::Pin;
    card.verify_pin(&mut connection, reference, &pin).unwrap();
    let signature = send(&mut card, &mut connection, TRIAL_SIGN);
    assert_eq!(signature.len(), 2 * (64 + 2), "{signature}");
    assert_eq!(send(&mut card, &mut connection, COUNT), "019000");
    card.reset(&mut connection);
    assert_eq!(send(&mut card, &mut connection, COUNT), "6D00");
    send(&mut card, &mut connection, SELECT_TRIAL);
    assert_eq!(send(&mut card, &mut connection, COUNT), "009000");
    assert_eq!(send(&mut card, &mut connection, TRIAL_SIGN), "6982");
}

/// `87` is the administrator in GIDS, which no guest is, and the use of a key in the other application.
#[test]
fn guests_are_judged_by_the_application_that_is_selected() {
    let authenticate: &[u8] = &[0x00, 0x87, 0, 0, 4, 0x7C, 2, 0x81, 0, 0];
    let refused = Verdict::Refused([0x69, 0x82]);
    let (mut card, mut connection) = card();
    let mut guest = Guest::new(applications());
    let judged = |card: &Card, connection: &Connection, guest: &Guest| {
        let verdict = card.judge_guest(connection, authenticate);
        assert_eq!(guest.judge(authenticate), verdict);
        verdict
    };
    let mut exchange = |card: &mut Card, connection: &mut Connection, command: &[u8]| {
        let response = card.transmit(connection, command);
        guest.answered(command, &response);
        guest.clone()
    };
    let select = [&[0x00, 0xA4, 4, 0, 7][..], AID].concat();
    let in_vain = [&[0x00, 0xA4, 4, 0, 6][..], &AID[1..]].concat();
    let in_parts = [&[0x10, 0xA4, 4, 0, 7][..], AID].concat();

    let guest = exchange(&mut card, &mut connection, &in_vain);
    assert_eq!(judged(&card, &connection, &guest), refused);
    let guest = exchange(&mut card, &mut connection, &in_parts);
    assert_eq!(judged(&card, &connection, &guest), refused);
    let guest = exchange(&mut card, &mut connection, &select);
    assert_eq!(judged(&card, &connection, &guest), Verdict::UsesKey);
    let guest = exchange(&mut card, &mut connection, &in_vain);
    assert_eq!(judged(&card, &connection, &guest), Verdict::UsesKey);
    card.reset(&mut connection);
    let mut guest = guest;
    guest.reset();
    assert_eq!(judged(&card, &connection, &guest), refused);
}
