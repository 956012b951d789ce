//! A PIN that was captured once: what the attacker keeps from it, and what ends that.

use std::fmt;

use cardea_card::record::IndexRole;
use cardea_card::token::PinReference;
use cardea_testkit::multiplexer::PowerEvent;
use cardea_tpm::policy::ApprovalId;

use super::live::Live;
use super::row::Object;
use crate::bench::{Outcome, PIN, SECOND_PIN, pin, value};
use crate::raw::{Auth, Session, Ticket, cc, response_name, sized};

/// What a PIN gives that outlives the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A ticket of 68 years, for what it was given.
    Ticket(Purpose),
    /// A session without an end, armed and saved.
    Session(Purpose),
}

/// What a PIN is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The keys of the session class.
    Sign,
    /// A key that wants the PIN every time.
    SignOnce,
    /// Another PIN.
    ChangePin,
}

/// What the holder does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Nothing,
    ChangesPin,
    BlocksPin,
    DestroysCard,
}

const PURPOSES: [Purpose; 3] = [Purpose::Sign, Purpose::SignOnce, Purpose::ChangePin];

/// Everything that is kept.
pub(super) fn kept() -> Vec<Kept> {
    let tickets = PURPOSES.map(Kept::Ticket);
    let sessions = PURPOSES.map(Kept::Session);
    [tickets, sessions].concat()
}

pub(super) const HOLDERS: [Holder; 4] = [
    Holder::Nothing,
    Holder::ChangesPin,
    Holder::BlocksPin,
    Holder::DestroysCard,
];

/// What becomes of the TPM, beginning with nothing.
pub(super) const POWER: [Option<PowerEvent>; 5] = [
    None,
    Some(PowerEvent::Resume),
    Some(PowerEvent::Restart),
    Some(PowerEvent::Reset),
    Some(PowerEvent::Cut),
];

/// What the TPM says when it is used: 0 where it works.
pub(super) fn expected(kept: Kept, holder: Holder, power: Option<PowerEvent>) -> u32 {
    let (Kept::Ticket(purpose) | Kept::Session(purpose)) = kept;
    let ended = match (kept, power) {
        (_, None) | (Kept::Session(_), Some(PowerEvent::Resume | PowerEvent::Restart)) => None,
        (Kept::Ticket(_), Some(_)) => Some(0x5E0),
        (Kept::Session(_), Some(PowerEvent::Reset | PowerEvent::Cut)) => Some(0x1DF),
    };
    match (ended, purpose, holder) {
        (Some(code), ..) => code,
        // There is no PIN any more that it could change.
        (None, Purpose::ChangePin, Holder::DestroysCard) => 0x18B,
        (None, ..) => 0,
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, purpose) = match self {
            Self::Ticket(purpose) => ("ticket", purpose),
            Self::Session(purpose) => ("saved session", purpose),
        };
        let purpose = match purpose {
            Purpose::Sign => "signs with session-class keys",
            Purpose::SignOnce => "signs with an always-class key",
            Purpose::ChangePin => "sets another PIN",
        };
        write!(f, "{form}: {purpose}")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "does nothing",
            Self::ChangesPin => "changes the PIN",
            Self::BlocksPin => "blocks the PIN",
            Self::DestroysCard => "destroys the card",
        })
    }
}

/// Whether the table is true, of this TPM.
pub(super) fn tried() -> Outcome {
    let mut wrong = Vec::new();
    for holder in HOLDERS {
        for power in POWER {
            for (kept, said) in use_all(holder, power) {
                let wanted = expected(kept, holder, power);
                if said != wanted {
                    wrong.push(format!(
                        "{kept}; holder {holder}, then {power:?}: {said:#05X} ({}) where {wanted:#05X} is expected",
                        response_name(said).unwrap_or_default()
                    ));
                }
            }
        }
    }
    match wrong[..] {
        [] => Ok(()),
        _ => Err(wrong.join("\n")),
    }
}

/// A card whose PIN was captured; then what the holder does; then what the power does; then all is used.
fn use_all(holder: Holder, power: Option<PowerEvent>) -> Vec<(Kept, u32)> {
    let mut live = Live::small(Object::Nothing);
    let things: Vec<_> = kept()
        .into_iter()
        .map(|kept| (kept, Captured::take(&live, kept)))
        .collect();
    live.act(holder);
    if let Some(event) = power {
        live.bench.mux.power(event);
    }
    things
        .into_iter()
        .map(|(kept, captured)| (kept, captured.use_it(&live, kept)))
        .collect()
}

enum Captured {
    Ticket(Ticket),
    Saved { context: Vec<u8>, handle: u32 },
}

impl Purpose {
    fn policy_ref(self) -> &'static [u8] {
        match self {
            Self::Sign => b"sess",
            Self::SignOnce => b"once",
            Self::ChangePin => b"chg",
        }
    }
}

impl Captured {
    /// With the PIN, once.
    fn take(live: &Live, kept: Kept) -> Self {
        let bench = &live.bench;
        match kept {
            Kept::Ticket(purpose) => {
                let session = bench.policy_session();
                let value = live.pin_value();
                let ticket = bench.policy_secret_ticket(
                    &live.index(IndexRole::Pin),
                    Auth::Password(&value),
                    &session,
                    purpose.policy_ref(),
                    i32::MAX,
                );
                bench.flush(session.handle);
                Self::Ticket(ticket)
            }
            Kept::Session(purpose) => {
                let session = live.satisfied(purpose.policy_ref());
                if purpose == Purpose::ChangePin {
                    bench.policy_command_code(&session, cc::NV_CHANGE_AUTH);
                    assert_eq!(live.authorize(&session, ApprovalId::P3), 0);
                }
                let saved = bench.save(session.handle);
                assert_eq!(saved.code, 0, "ContextSave");
                Self::Saved {
                    context: saved.body,
                    handle: session.handle,
                }
            }
        }
    }

    /// The first refusal, or 0.
    fn use_it(&self, live: &Live, kept: Kept) -> u32 {
        let bench = &live.bench;
        let (Kept::Ticket(purpose) | Kept::Session(purpose)) = kept;
        let session = match self {
            Self::Saved { context, handle } => {
                let loaded = bench.load_context(context);
                if loaded.code != 0 {
                    return loaded.code;
                }
                Session::of_others(*handle)
            }
            Self::Ticket(ticket) => {
                let session = bench.policy_session();
                let name = live.index(IndexRole::Pin).name().to_vec();
                let said = bench.policy_ticket(&session, ticket, purpose.policy_ref(), &name);
                if said != 0 {
                    bench.flush(session.handle);
                    return said;
                }
                if purpose == Purpose::ChangePin {
                    bench.policy_command_code(&session, cc::NV_CHANGE_AUTH);
                    assert_eq!(live.authorize(&session, ApprovalId::P3), 0);
                }
                session
            }
        };
        let auth = Auth::Session(&session, &[]);
        let code = match purpose {
            Purpose::ChangePin => {
                let own = sized(&value(&live.record, IndexRole::Pin, b"the attacker's"));
                let index = [live.index(IndexRole::Pin)];
                bench.send(cc::NV_CHANGE_AUTH, &index, &[auth], &own).code
            }
            Purpose::Sign | Purpose::SignOnce => {
                let object = match purpose {
                    Purpose::SignOnce => Object::Once,
                    _ => Object::Ec,
                };
                let key = live.entity(object);
                let code = live.sign(object, &key, auth);
                bench.flush(key.handle);
                code
            }
        };
        bench.flush(session.handle);
        code
    }
}

impl Live {
    fn act(&mut self, holder: Holder) {
        match holder {
            Holder::Nothing => {}
            Holder::ChangesPin => {
                let mut card = self.bench.open(&self.record);
                let mut connection = card.connect();
                let (old, new) = (pin(PIN), pin(SECOND_PIN));
                card.change_pin(&mut connection, PinReference::Pin, &old, &new)
                    .unwrap();
            }
            Holder::BlocksPin => {
                while self.counter(IndexRole::Pin) != Ok((5, 5)) {
                    self.wrong_pin();
                }
            }
            Holder::DestroysCard => {
                self.bench.service.destroy_card(&self.record.tpm).unwrap();
            }
        }
        // What the daemon has loaded would take the attacker's room.
        self.flush_all();
    }
}
