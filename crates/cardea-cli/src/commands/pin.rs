//! `cardea pin …` and `cardea puk …`

use std::io::{self, IsTerminal};

use cardea_client::message::{
    Authority, CardDetails, CardRequest, Part, Reference, Request, Tries,
};

use crate::admin_key::answer::answer;
use crate::arguments::{PinVerb, PukVerb, UnblockArguments};
use crate::daemon::{Daemon, require_part};
use crate::exit::{Exit, Failure};
use crate::policy::Policy;
use crate::terminal::output::note;
use crate::terminal::secret::{self, Source};

pub(crate) fn run(verb: &PinVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        PinVerb::Change { card, old, new } => {
            let card = daemon.usable_by_pin(&card.card)?;
            change(&card, Reference::Pin, &old.source(), &new.source(), daemon)
        }
        PinVerb::Unblock(arguments) => unblock(arguments, daemon),
        PinVerb::Verify { card, pin } => {
            let card = daemon.usable_by_pin(&card.card)?;
            verify(&card, Reference::Pin, &pin.source(), daemon)
        }
    }
}

pub(crate) fn run_puk(verb: &PukVerb, daemon: &mut Daemon) -> Result<(), Failure> {
    match verb {
        PukVerb::Change { card, old, new } => {
            let card = daemon.usable(&card.card)?;
            must_have_puk(&card)?;
            change(&card, Reference::Puk, &old.source(), &new.source(), daemon)
        }
        PukVerb::Verify { card, puk } => {
            let card = daemon.usable(&card.card)?;
            must_have_puk(&card)?;
            verify(&card, Reference::Puk, &puk.source(), daemon)
        }
    }
}

fn change(
    card: &CardDetails,
    reference: Reference,
    old: &Source<'_>,
    new: &Source<'_>,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let (word, policy) = match reference {
        Reference::Pin => ("PIN", Policy::of(card.pin_policy.as_ref())),
        Reference::Puk => ("PUK", Policy::puk()),
    };
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::ChangePin {
            old: secret::present(word, old)?,
            new: secret::new(&format!("new {word}"), new, &policy)?,
            reference,
        },
    );
    daemon.order(&request, &format!("changing the {word}"))?;
    note(&format!("{word} of {} changed", card.summary.name));
    if reference == Reference::Pin && io::stderr().is_terminal() {
        note(CAPTURED);
    }
    Ok(())
}

/// For a person, not for a script. Whatever was opened with the old PIN could have observed the change, or undo it.
const CAPTURED: &str = "if somebody else may know the old PIN: shut the computer down (not suspend), switch it on and change the PIN \
     again; until then, whatever was opened with the old PIN stays open";

fn verify(
    card: &CardDetails,
    reference: Reference,
    source: &Source<'_>,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let word = match reference {
        Reference::Pin => "PIN",
        Reference::Puk => "PUK",
    };
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::VerifyPin {
            value: secret::present(word, source)?,
            reference,
        },
    );
    daemon.order(&request, &format!("verifying the {word}"))?;
    note(&format!("{word} of {} is correct", card.summary.name));
    Ok(())
}

fn unblock(arguments: &UnblockArguments, daemon: &mut Daemon) -> Result<(), Failure> {
    let card = daemon.usable(&arguments.card.card)?;
    // Not even the administrator unblocks the PIN of a card that had a PUK.
    require_part(&card, Part::Puk)?;
    let puk = arguments.value.source();
    let wants_puk = arguments.puk || puk.is_given();
    let wants_admin = arguments.admin || arguments.answer.is_given();
    let by = if wants_puk || (!wants_admin && card.puk.is_some()) {
        must_have_puk(&card)?;
        Authority::Puk(secret::present("PUK", &puk)?)
    } else {
        if card.puk.is_some() {
            return Err(Failure::usage(
                "this card has a PUK: the PUK unblocks its PIN, not the admin key",
            ));
        }
        require_part(&card, Part::Administrator)?;
        if !card.administrator {
            return Err(Failure::usage(
                "this card has neither PUK nor administrator: its PIN cannot be unblocked",
            ));
        }
        Authority::Admin(answer(&card, &arguments.answer, daemon)?)
    };
    let policy = Policy::of(card.pin_policy.as_ref());
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::UnblockPin {
            by,
            new: secret::new("new PIN", &arguments.new.source(), &policy)?,
        },
    );
    daemon.order(&request, "unblocking the PIN")?;
    note(&format!("PIN of {} unblocked", card.summary.name));
    Ok(())
}

fn must_have_puk(card: &CardDetails) -> Result<(), Failure> {
    require_part(card, Part::Puk)?;
    match card.puk {
        Some(Tries { left: Some(0), .. }) => Err(Failure::new(
            Exit::Blocked,
            "the PUK is permanently blocked; a blocked PIN can no longer be unblocked",
        )),
        Some(_) => Ok(()),
        None => Err(Failure::usage("this card has no PUK")),
    }
}
