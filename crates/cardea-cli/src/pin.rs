//! `cardea pin …`

use cardea_client::message::{Reference, Reply, Request};

use crate::arguments::PinVerb;
use crate::connection::Connection;
use crate::exit::Failure;
use crate::output::note;
use crate::secret::{self, Purpose, Source};

pub(crate) fn run(verb: &PinVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        PinVerb::Change {
            card,
            pin_file,
            pin_fd,
            new_pin_file,
            new_pin_fd,
        } => {
            let old = Source {
                file: pin_file.as_deref(),
                fd: *pin_fd,
            };
            let new = Source {
                file: new_pin_file.as_deref(),
                fd: *new_pin_fd,
            };
            change(&card.card, &old, &new, connection)
        }
    }
}

fn change(
    card: &str,
    old: &Source<'_>,
    new: &Source<'_>,
    connection: &mut Connection,
) -> Result<(), Failure> {
    // Asked first, so that nobody types a PIN for a card that is not there, or by a wrong name into another.
    let card = connection.show(card)?.summary;
    let request = Request::ChangePin {
        card: card.card_id,
        old: secret::pin("PIN", old, Purpose::Compare)?,
        new: secret::pin("new PIN", new, Purpose::Set)?,
        reference: Reference::Pin,
    };
    match connection.call(&request, "changing the PIN")? {
        Reply::Done => {}
        _ => return Err(Connection::unexpected()),
    }
    note(&format!("PIN of {} changed", card.name))?;
    Ok(())
}
