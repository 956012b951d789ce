//! One slot of the reader: presence, waiting, power, APDUs.

use std::io;
use std::time::{Duration, Instant};

use cardea_client::message::{
    FailureKind, PowerAction, ReaderRequest, Reply, Request, SlotRequest,
};
use cardea_client::{Client, ClientError, Wake, Watch, Woken};

use crate::codes::{Error, MAX_ATR_SIZE};
use crate::device::{Device, MAX_SLOTS};
use crate::lock::{self, Lock};
use crate::log::log;
use crate::output::Output;
use crate::seen::Seen;

/// A hardware TPM may need minutes for an RSA key. A daemon that dies is noticed at once.
const TRANSMIT_TIME: Duration = Duration::from_secs(300);

/// Power needs no more of the TPM than ending what was verified.
const POWER_TIME: Duration = Duration::from_secs(30);

/// A person gets two minutes for each value, and the daemon some more.
const PERSON_TIME: Duration = Duration::from_secs(300);

/// For asking the daemon for its settings.
const ASK_TIME: Duration = Duration::from_secs(1);

/// How long a question for the presence may wait for a daemon that does not answer.
const PRESENCE_TIME: Duration = Duration::from_millis(250);

/// For what is held shortly.
const SHORT: Duration = Duration::from_secs(1);

/// Slots when neither the `DEVICENAME` nor the daemon tells.
const DEFAULT_SLOTS: u8 = 4;

/// A slot that pcscd has opened. Its connections are its own: slots do not wait for each other.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u8,
    device: Device,
    /// Process that opened it.
    owner: u32,
    /// For power and APDUs; holds what was verified.
    card: Lock<Client>,
    watch: Lock<Watch>,
    wake: Wake,
    seen: Lock<Told>,
}

#[derive(Debug, Default)]
struct Told {
    seen: Seen,
    /// A polling thread uses [`Slot::wait`]: only that goes from step to step.
    polled: bool,
}

impl Slot {
    pub(crate) fn new(number: u8, device: Device) -> io::Result<Self> {
        Ok(Self {
            number,
            owner: lock::process(),
            card: Lock::new(Client::new(&device.socket)),
            watch: Lock::new(Watch::new(&device.socket)),
            wake: Wake::new()?,
            seen: Lock::new(Told::default()),
            device,
        })
    }

    /// Whether this process opened it, and not one that forked it since.
    pub(crate) fn is_of(&self, process: u32) -> bool {
        self.owner == process
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Number of slots of the reader. pcscd asks once, at its start, whether or not there is a daemon.
    pub(crate) fn count(&self) -> u8 {
        if let Some(slots) = self.device.slots {
            return slots;
        }
        let answer =
            Client::new(&self.device.socket).call(&Request::Reader(ReaderRequest::Info), ASK_TIME);
        match answer {
            Ok(Reply::Reader { slots }) => slots.clamp(1, MAX_SLOTS),
            other => {
                log!("slots=default answer={}", outcome(&other));
                DEFAULT_SLOTS
            }
        }
    }

    /// Whether a card is there. Does not fail: no daemon, no card.
    pub(crate) fn is_present(&self) -> bool {
        let Some(mut told) = self.seen.lock(SHORT) else {
            return false;
        };
        // Otherwise the polling thread is at it, and what it sees is the truth.
        if let Some(mut watch) = self.watch.try_lock() {
            if told.polled {
                watch.look();
            } else {
                watch.refresh(PRESENCE_TIME);
            }
            told.seen.update(watch.inserted(self.number));
        }
        if !told.polled {
            told.seen.step();
        }
        told.seen.is_present()
    }

    /// Waits until the presence may be another, somebody calls [`Slot::stop`], or the time is over.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let mut watch = self.watch.lock(SHORT).ok_or(Error::Failed)?;
        watch.look();
        loop {
            {
                let mut told = self.seen.lock(SHORT).ok_or(Error::Failed)?;
                told.polled = true;
                told.seen.update(watch.inserted(self.number));
                if told.seen.step() {
                    log!("slot={} present={}", self.number, told.seen.is_present());
                    return Ok(());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match watch.wait(&self.wake, left) {
                Woken::Changed => {}
                Woken::Called | Woken::TimedOut => break,
            }
        }
        let mut told = self.seen.lock(SHORT).ok_or(Error::Failed)?;
        told.seen.update(watch.inserted(self.number));
        told.seen.step();
        Ok(())
    }

    /// Ends the present or the next [`Slot::wait`].
    pub(crate) fn stop(&self) {
        self.wake.wake();
    }

    /// Powers up or resets the card; gives its answer to reset.
    pub(crate) fn power_up(
        &self,
        action: PowerAction,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        let mut card = self.card.lock(POWER_TIME).ok_or(Error::Power)?;
        let slot = self.number;
        let answer = card.call(
            &Request::slot(slot, SlotRequest::Power { action }),
            POWER_TIME,
        );
        log!("slot={slot} power={action:?} answer={}", outcome(&answer));
        match answer {
            Ok(Reply::Atr(atr)) if atr.len() <= MAX_ATR_SIZE => {
                let mut told = self.seen.lock(SHORT).ok_or(Error::Power)?;
                told.seen.set_atr(&atr);
                output.give(&atr)
            }
            _ => Err(Error::Power),
        }
    }

    /// Takes the power away, and with it the connection. Without a daemon there is none to take.
    pub(crate) fn power_down(&self) -> Result<(), Error> {
        let mut card = self.card.lock(POWER_TIME).ok_or(Error::Power)?;
        if card.is_connected() {
            let request = Request::slot(
                self.number,
                SlotRequest::Power {
                    action: PowerAction::Down,
                },
            );
            let answer = card.call(&request, POWER_TIME);
            log!(
                "slot={} power=Down answer={}",
                self.number,
                outcome(&answer)
            );
            card.disconnect();
        }
        if let Some(mut told) = self.seen.lock(SHORT) {
            told.seen.set_atr(&[]);
        }
        Ok(())
    }

    /// Sends a command APDU and gives the response.
    pub(crate) fn transmit(&self, apdu: &[u8], output: &mut Output<'_>) -> Result<(), Error> {
        let mut card = self.card.lock(TRANSMIT_TIME).ok_or(Error::TimedOut)?;
        let answer = card.transmit(self.number, apdu, TRANSMIT_TIME, |response| {
            log!(
                "slot={} command={} response={}",
                self.number,
                apdu.len(),
                response.len()
            );
            output.give(response)
        });
        answer.unwrap_or_else(|error| {
            log!("slot={} command={} error={error}", self.number, apdu.len());
            drop(card);
            if costs_power(&error) {
                self.lose();
            }
            Err(Error::of(&error))
        })
    }

    /// What the daemon offers for the card that is there; nothing without one.
    pub(crate) fn features(&self, code: u32) -> Vec<u8> {
        let request = Request::slot(
            self.number,
            SlotRequest::Control {
                code,
                data: Vec::new(),
            },
        );
        match Client::new(&self.device.socket).call(&request, ASK_TIME) {
            Ok(Reply::Response(features)) => features.expose().to_vec(),
            _ => Vec::new(),
        }
    }

    /// A control code of the PIN pad: a person is asked.
    pub(crate) fn control(
        &self,
        code: u32,
        command: &[u8],
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        let mut card = self.card.lock(TRANSMIT_TIME).ok_or(Error::TimedOut)?;
        let request = Request::slot(
            self.number,
            SlotRequest::Control {
                code,
                data: command.to_vec(),
            },
        );
        let answer = card.call(&request, PERSON_TIME);
        log!(
            "slot={} control={code:#x} answer={}",
            self.number,
            outcome(&answer)
        );
        match answer {
            Ok(Reply::Response(response)) => output.give(response.expose()),
            Ok(Reply::Failed(failure)) => Err(match failure.kind {
                FailureKind::Invalid => Error::NotSupported,
                kind => Error::of_refusal(kind),
            }),
            Ok(_) => Err(Error::Failed),
            Err(error) => {
                drop(card);
                self.lose();
                Err(Error::of(&error))
            }
        }
    }

    /// Answer to reset of the card; empty without power.
    pub(crate) fn atr(&self) -> Vec<u8> {
        let told = self.seen.lock(SHORT);
        told.map(|told| told.seen.atr().to_vec())
            .unwrap_or_default()
    }

    /// pcscd would go on with a card that has no power: let it see a removal.
    fn lose(&self) {
        if let Some(mut told) = self.seen.lock(SHORT) {
            told.seen.lose();
        }
        self.wake.wake();
    }
}

/// Whether the card has no power after this error.
fn costs_power(error: &ClientError) -> bool {
    match error {
        ClientError::Refused(failure) => {
            matches!(failure.kind, FailureKind::NotFound | FailureKind::Removed)
        }
        ClientError::TooLong => false,
        _ => true,
    }
}

/// For the log: what kind of answer, nothing of its content.
fn outcome(answer: &Result<Reply, ClientError>) -> String {
    match answer {
        Ok(Reply::Failed(failure)) => format!("{:?}", failure.kind),
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}
